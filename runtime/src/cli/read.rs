//! `clearfilm read`: one file, one reading.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clearfilm::bundle::Bundle;
use clearfilm::config::{Config, EngineChoice};
use clearfilm::decode::decode_file;
use clearfilm::encode::Encoder;
use clearfilm::id::Digest;
use clearfilm::reading::{self, Reading};
use clearfilm::selftest::probe::Prober;
use serde_json::{Value, json};

use super::{Configured, INVALID, NOT_READY, show};

/// Read files (DICOM, PNG, JPEG) and print findings and draft.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// Radiographs.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    configured: Configured,
    /// Bundle folder in place of the configured one.
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Engine in place of the configured order: tensorrt, cuda, cpu (all ONNX Runtime) or tract.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    /// Also show findings that were validated on phantoms only.
    #[arg(long)]
    unvalidated: bool,
    /// One JSON object a file; the same bytes whenever the file, bundle, policy and engine are the same.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(read: &Read) -> anyhow::Result<ExitCode> {
    let mut config = read.configured.load()?.config;
    if let Some(folder) = &read.bundle {
        config.bundle.path.clone_from(folder);
    }
    if let Some(choice) = read.engine {
        config.engine.order = vec![choice];
    }
    config.bundle.unvalidated |= read.unvalidated;
    let bundle = match Bundle::load(&config.bundle) {
        Ok(bundle) => bundle,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    let mut encoder = match Prober::own(&bundle, &config).choose() {
        Ok((encoder, _)) => encoder,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(NOT_READY));
        }
    };
    let mut all_read = true;
    for file in &read.files {
        match one(file, &bundle, &config, encoder.as_mut()) {
            Ok(value) => print(file, &value, read.json),
            Err(error) => {
                all_read = false;
                if read.json {
                    anstream::println!("{}", json!({"file": file, "error": error.to_string()}));
                } else {
                    anstream::eprintln!("clearfilm: {error:#}");
                }
            }
        }
    }
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The reading of one file, with what it was made by.
fn one(
    file: &Path,
    bundle: &Bundle,
    config: &Config,
    encoder: &mut dyn Encoder,
) -> anyhow::Result<Value> {
    let frame = decode_file(file, &config.decode, &config.dicom.limits)?;
    let policy = config.policy();
    let reading: Reading = reading::read(&frame, bundle, &policy, encoder)?;
    let manifest = &bundle.manifest;
    Ok(json!({
        "file": file,
        "sha256": Digest::of(&std::fs::read(file)?),
        "software": {"version": clearfilm::device::VERSION, "commit": clearfilm::device::COMMIT},
        "engine": encoder.engine(),
        "bundle": {"name": manifest.name, "version": manifest.version, "digest": bundle.digest},
        "policy": policy.digest(),
        "reading": reading,
    }))
}

fn print(file: &Path, value: &Value, as_json: bool) {
    if as_json {
        anstream::println!("{value}");
        return;
    }
    let reading = &value["reading"];
    let view = reading["view"].as_str().unwrap_or_default();
    anstream::println!("{}", show::heading(&format!("{}  view {view}", file.display())));
    anstream::print!("{}", show::checks(&reading["gate"]["checks"]));
    anstream::print!("{}", show::findings(&reading["findings"]));
    anstream::println!("{}", show::draft(&reading["draft"]));
}
