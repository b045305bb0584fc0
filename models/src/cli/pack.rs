//! The verb `pack`, and what `verify` asks of sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm::bundle::{Bundle, MANIFEST, files_in};
use clearfilm::config::Config;
use clearfilm_models::files::put;
use clearfilm_models::pack::assemble::{Assembled, assemble};
use clearfilm_models::pack::files::files;
use clearfilm_models::pack::follows::{Files, differences};
use clearfilm_models::pack::plan::Plan;

use super::vectors::load;

/// Make a bundle.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: every file of the bundle, the manifest with their hashes last. Written beside
it, if asked for: every figure as JSON. Same plan, files and engines: same bytes.")]
pub(crate) struct Pack {
    /// What it is made of (TOML); paths in it are taken from its folder.
    #[arg(short, long, value_name = "FILE")]
    plan: PathBuf,
    /// Bundle folder to write; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Where to write every figure (JSON).
    #[arg(short, long, value_name = "FILE")]
    measurements: Option<PathBuf>,
    /// Configuration file of the runtime, for engines.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Pack {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let (assembled, config) = made(&self.plan, self.config.as_deref(), self.threads)?;
        let files = files(&assembled)?;
        let as_device = files.iter().map(|(name, bytes)| (name.clone(), bytes.clone().into()));
        let bundle = Bundle::from_files(as_device.collect()).context("loading what was made")?;
        let limit = config.bundle.max_file.as_u64();
        if let Some((name, bytes)) = files.iter().find(|(_, bytes)| bytes.len() as u64 > limit) {
            anyhow::bail!("{name}: expected at most {limit} bytes, found {}", bytes.len());
        }
        // The manifest last: a folder without the one that fits is refused.
        let (last, first): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name == MANIFEST);
        for (name, bytes) in first.into_iter().chain(last) {
            let path = self.out.join(name);
            let folder = path.parent().unwrap_or(&self.out);
            fs::create_dir_all(folder)
                .with_context(|| format!("making folder {}", folder.display()))?;
            put(&path, bytes)?;
        }
        if let Some(path) = &self.measurements {
            put(
                path,
                format!("{}\n", serde_json::to_string_pretty(&assembled.measured)?).as_bytes(),
            )?;
        }
        anstream::println!(
            "{} {}: {} findings, {} features, {} in {}",
            bundle.manifest.name,
            bundle.manifest.version,
            bundle.rules.findings.len(),
            bundle.features.features.len(),
            bundle.digest,
            self.out.display()
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Measures what a plan says.
fn made(plan: &Path, config: Option<&Path>, threads: usize) -> anyhow::Result<(Assembled, Config)> {
    let asked: Plan = super::asked(plan)?;
    let asked = asked.from(plan.parent().unwrap_or(Path::new(".")));
    let config = Config::load(config)?.config;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let tell = |what: &str| anstream::println!("{what}");
    let read = |folder: &Path, level| load(folder, level).map_err(Into::into);
    let assembled = pool.install(|| assemble(&asked, &config, &read, &tell))?;
    Ok((assembled, config))
}

/// Measures a bundle again and names everything in it that does not follow from its sources.
pub(crate) fn follows(
    folder: &Path,
    plan: &Path,
    (config, threads): (Option<&Path>, usize),
) -> anyhow::Result<ExitCode> {
    let (assembled, config) = made(plan, config, threads)?;
    let expected: Files = files(&assembled)?;
    let found = files_in(folder, config.bundle.max_file.as_u64())?;
    let found: Files = found.into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect();
    let differ = differences(&expected, &found);
    for differs in &differ {
        anstream::println!("does not follow: {differs}");
    }
    if differ.is_empty() {
        anstream::println!("everything in {} files follows from {}", found.len(), plan.display());
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!("{} things do not follow from {}", differ.len(), plan.display());
    Ok(ExitCode::FAILURE)
}
