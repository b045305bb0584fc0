//! `clearfilm-models`: makes embeddings, trains dictionaries, seals a bundle folder and verifies that it runs.
//!
//! Making the demo bundle is the work of `models/train`; what it wrote is hashed and checked here,
//! by the code that the device will load it with.

mod cli;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use clearfilm::bundle::{self, Bundle, MANIFEST};
use clearfilm::config::{Config, Engine, EngineChoice};
use clearfilm::id::Digest;
use clearfilm::selftest::{self, SelftestError};
use clearfilm::{decode, encode};
use clearfilm_models::files::put;

/// The workshop: from embeddings to a sealed bundle.
#[derive(Debug, Parser)]
#[command(name = "clearfilm-models", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Turn radiographs into embeddings, on any number of processes and machines.
    Embed(Box<cli::embed::Embed>),
    /// Train a sparse autoencoder on embeddings; cut off, it goes on where it was.
    Train(cli::train::Train),
    /// Train many dictionaries that differ in a few settings; those that are done are left alone.
    Sweep(cli::sweep::SweepRuns),
    /// Bring dictionaries from other libraries, and to them.
    #[command(subcommand)]
    Dictionary(cli::dictionary::Dictionary),
    /// Measure dictionaries: every figure as JSON, and a page to look at.
    Evaluate(cli::evaluate::Evaluate),
    /// Make findings of features: rules, probabilities, thresholds, each measured on other patients.
    Calibrate(cli::calibrate::Calibrate),
    /// Name features from pictures, and judge the names on other patients' pictures.
    Name(cli::name::Name),
    /// Describe features from reports, and judge the descriptions on other patients' reports.
    Describe(cli::describe::Describe),
    /// Make a bundle of embeddings, a dictionary and labels: findings, names, thresholds and the card,
    /// each measured.
    Pack(cli::pack::Pack),
    /// Write the SHA-256 of every file into the [files] table of manifest.toml.
    Seal {
        /// Bundle folder.
        folder: PathBuf,
    },
    /// Load a bundle as the device does and run its golden images on each configured engine; with the
    /// plan that it was made by, measure everything again and name what does not follow.
    Verify {
        /// Bundle folder.
        folder: PathBuf,
        /// The plan that it was made by; what it names has to be there.
        #[arg(short, long, value_name = "FILE")]
        plan: Option<PathBuf>,
        /// Threads of measuring; 0: as many as there are cores.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Configuration file; without it the defaults and the environment count.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// The process that decodes: one object in, one frame out, no rights.
    #[command(hide = true)]
    DecodeChild {
        /// What it works within, JSON.
        limits: String,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Embed(embed) => embed.run(),
        Verb::Train(train) => train.run(),
        Verb::Sweep(sweep) => sweep.run(),
        Verb::Dictionary(dictionary) => dictionary.run(),
        Verb::Evaluate(evaluate) => evaluate.run(),
        Verb::Calibrate(calibrate) => calibrate.run(),
        Verb::Name(name) => name.run(),
        Verb::Describe(describe) => describe.run(),
        Verb::Seal { folder } => seal(&folder),
        Verb::Pack(pack) => pack.run(),
        Verb::Verify { folder, plan, threads, config } => {
            let runs = verify(&folder, config.as_deref());
            match (runs, plan) {
                (Ok(ExitCode::SUCCESS), Some(plan)) => {
                    cli::pack::follows(&folder, &plan, (config.as_deref(), threads))
                }
                (runs, _) => runs,
            }
        }
        Verb::DecodeChild { limits } => decode::child::serve(&limits)
            .map(|()| ExitCode::SUCCESS)
            .context("serving as decode process"),
    };
    done.unwrap_or_else(|error| {
        anstream::eprintln!("clearfilm-models: {error:#}");
        ExitCode::FAILURE
    })
}

fn seal(folder: &Path) -> anyhow::Result<ExitCode> {
    let limit = Config::load(None)?.config.bundle.max_file.as_u64();
    let files = bundle::files_in(folder, limit)?;
    let listed = files.iter().filter(|(file, _)| *file != MANIFEST);
    let digests = listed.map(|(file, bytes)| (file.as_str(), Digest::of(bytes))).collect();
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    put(&path, sealed(&text, &digests)?.as_bytes())?;
    anstream::println!("sealed {} files in {}", digests.len(), folder.display());
    Ok(ExitCode::SUCCESS)
}

/// The manifest with its `[files]` table made anew; every other line stays as it is.
fn sealed(manifest: &str, digests: &BTreeMap<&str, Digest>) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut inside = false;
    let mut found = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            if inside {
                out.push('\n');
            }
            inside = line.trim() == "[files]";
        }
        if !inside {
            writeln!(out, "{line}")?;
        } else if line.starts_with('[') {
            found = true;
            writeln!(out, "{line}")?;
            for (file, digest) in digests {
                writeln!(out, "\"{file}\" = \"{digest}\"")?;
            }
        }
    }
    if !found {
        bail!("{MANIFEST}: expected a table [files], found none");
    }
    Ok(out)
}

fn verify(folder: &Path, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?.config;
    let bundle = Bundle::from_folder(folder, config.bundle.max_file.as_u64())?;
    anstream::println!("{} {} ({})", bundle.manifest.name, bundle.manifest.version, bundle.digest);
    let mut failed = false;
    // A bundle must not depend on what accelerators its maker's machine has.
    let everywhere = [EngineChoice::Cpu, EngineChoice::Tract];
    for choice in everywhere.into_iter().filter(|c| config.engine.order.contains(c)) {
        let name = choice.name();
        match nearness(&bundle, choice, &config.engine) {
            Ok(near) => anstream::println!(
                "{name}: passed on {} golden images: worst cosine {:.6}, centred {:.6}, code {:.6}",
                bundle.golden.inputs.len(),
                near.cosine,
                near.centred_cosine,
                near.code_cosine
            ),
            Err(error) => {
                failed = true;
                anstream::println!("{name}: failed: {error}");
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn nearness(
    bundle: &Bundle,
    choice: EngineChoice,
    engine: &Engine,
) -> Result<selftest::Nearness, SelftestError> {
    let mut encoder = encode::start(choice, bundle, engine)?;
    selftest::check(bundle, encoder.as_mut())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealing_replaces_the_files_and_nothing_else() {
        let manifest = "format = 1\n\n[files]\n\"old\" = \"sha256:00\"\n\n[input]\nchannels = 1\n";
        let digest = Digest::of(b"x");
        let once = sealed(manifest, &BTreeMap::from([("card.md", digest)])).expect("sealed");
        assert_eq!(
            once,
            format!("format = 1\n\n[files]\n\"card.md\" = \"{digest}\"\n\n[input]\nchannels = 1\n")
        );
        assert_eq!(sealed(&once, &BTreeMap::from([("card.md", digest)])).expect("sealed"), once);
    }

    #[test]
    fn a_manifest_without_files_is_refused() {
        assert!(sealed("format = 1\n", &BTreeMap::new()).is_err());
    }
}
