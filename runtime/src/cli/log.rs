//! Structured logs, to stderr. They name our own ids only.

use std::io::IsTerminal;

use clearfilm::config::{LogFormat, Telemetry};
use tracing_subscriber::EnvFilter;

/// Starts logging as the configuration says; an invalid filter is an error.
pub(crate) fn start(telemetry: &Telemetry) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&telemetry.log).map_err(|e| {
        anyhow::anyhow!(
            "telemetry.log: expected a filter like \"info\", found {:?}: {e}",
            telemetry.log
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match telemetry.log_format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Pretty => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
    };
    started.map_err(|e| anyhow::anyhow!("starting logs: {e}"))
}
