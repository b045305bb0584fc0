//! `clearfilm check`: is this configuration valid, and what is in force?

use std::process::ExitCode;

use clap::Args;
use clearfilm::bundle::Bundle;
use clearfilm::config::COMMENTED_DEFAULT;
use serde_json::json;

use super::{Configured, INVALID};

/// Check a configuration and print every effective value with its origin.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    configured: Configured,
    /// Print the commented default configuration instead.
    #[arg(long)]
    default: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(check: &Check) -> anyhow::Result<ExitCode> {
    if check.default {
        anstream::print!("{COMMENTED_DEFAULT}");
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = match check.configured.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            anstream::eprintln!("{error:#}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    let bundle = Bundle::load(&loaded.config.bundle);
    if check.json {
        let values: Vec<_> = loaded
            .values
            .iter()
            .map(|(key, value, origin)| json!({"key": key, "value": value, "origin": origin}))
            .collect();
        let bundle = bundle.as_ref().map_or_else(
            |e| json!({"refused": e.to_string()}),
            |b| json!({"name": b.manifest.name, "version": b.manifest.version, "digest": b.digest}),
        );
        anstream::println!("{}", json!({"values": values, "bundle": bundle}));
    } else {
        let width = loaded.values.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
        for (key, value, origin) in &loaded.values {
            anstream::println!("{key:<width$} = {value}  # {origin}");
        }
        match &bundle {
            Ok(b) => anstream::println!(
                "# bundle {} {} {}",
                b.manifest.name,
                b.manifest.version,
                b.digest
            ),
            Err(e) => anstream::eprintln!("{e}"),
        }
    }
    Ok(if bundle.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
}
