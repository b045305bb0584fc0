//! `clearfilm selftest`: do the bundle's golden outputs come out on each engine?

use std::process::ExitCode;

use clap::Args;
use clearfilm::bundle::Bundle;
use clearfilm::encode;
use clearfilm::selftest::{self, SelftestError};
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
    let mut passed = false;
    for &choice in &config.engine.order {
        let name = selftest::name(choice);
        let result = encode::start(choice, &bundle, &config.engine)
            .map_err(SelftestError::from)
            .and_then(|mut encoder| {
                Ok((selftest::check(&bundle, encoder.as_mut())?, encoder.engine().clone()))
            });
        passed |= result.is_ok();
        let line = match (&result, selftest.json) {
            (Ok((near, engine)), true) => json!({
                "engine": name, "passed": true, "running": engine, "cosine": near.cosine,
                "centred_cosine": near.centred_cosine, "code_cosine": near.code_cosine,
            })
            .to_string(),
            (Ok((near, engine)), false) => format!(
                "{name}: passed on {} golden images ({} {}, {}): worst cosine {:.6}, centred {:.6}, code {:.6}",
                bundle.golden.inputs.len(),
                engine.backend,
                engine.library.as_deref().unwrap_or("?"),
                engine.precision,
                near.cosine,
                near.centred_cosine,
                near.code_cosine
            ),
            (Err(error), true) => {
                json!({"engine": name, "passed": false, "reason": error.to_string()}).to_string()
            }
            (Err(error), false) => format!("{name}: failed: {error}"),
        };
        anstream::println!("{line}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}
