//! `clearfilm selftest`: do the bundle's golden outputs come out on each engine?

use std::process::ExitCode;

use clap::Args;
use clearfilm::bundle::Bundle;
use clearfilm::selftest::probe::Prober;
use serde_json::json;

use super::{Configured, INVALID, NOT_READY};

/// Run the bundle's golden images on each engine and compare.
#[derive(Debug, Args)]
pub(crate) struct Selftest {
    #[command(flatten)]
    configured: Configured,
    /// Bundle folder in place of the configured one.
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<std::path::PathBuf>,
    /// As JSON, one object an engine.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(selftest: &Selftest) -> anyhow::Result<ExitCode> {
    let mut config = selftest.configured.load()?.config;
    if let Some(folder) = &selftest.bundle {
        config.bundle.path.clone_from(folder);
    }
    let bundle = match Bundle::load(&config.bundle) {
        Ok(bundle) => bundle,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    let prober = Prober::own(&bundle, &config);
    let mut passed = false;
    for &choice in &config.engine.order {
        let name = choice.name();
        let result = prober.probe(choice).map(|trusted| trusted.passed);
        passed |= result.is_ok();
        let line = match (&result, selftest.json) {
            (Ok(found), true) => json!({
                "engine": name,
                "passed": true,
                "running": found.engine,
                "cosine": found.nearness.cosine,
                "centred_cosine": found.nearness.centred_cosine,
                "code_cosine": found.nearness.code_cosine,
            })
            .to_string(),
            (Ok(found), false) => format!(
                "{name}: passed on {} golden images ({} {}, {}): worst cosine {:.6}, centred {:.6}, code {:.6}",
                bundle.golden.inputs.len(),
                found.engine.backend,
                found.engine.library.as_deref().unwrap_or("?"),
                found.engine.precision,
                found.nearness.cosine,
                found.nearness.centred_cosine,
                found.nearness.code_cosine
            ),
            (Err(reason), true) => {
                json!({"engine": name, "passed": false, "reason": reason}).to_string()
            }
            (Err(reason), false) => format!("{name}: failed: {reason}"),
        };
        anstream::println!("{line}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}
