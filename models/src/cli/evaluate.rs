//! The verb `evaluate`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm::bundle::Level;
use clearfilm_models::evaluate::evaluation::evaluate;
use clearfilm_models::evaluate::plan::Plan;
use clearfilm_models::evaluate::report;
use clearfilm_models::files::put;

use super::vectors::load;

/// Measure dictionaries.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: evaluation.json with every figure, and report.html to look at, which needs
nothing else. Same plan and files: same bytes.")]
pub(crate) struct Evaluate {
    /// What to measure (TOML); paths in it are taken from its folder.
    #[arg(short, long, value_name = "FILE")]
    plan: PathBuf,
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Evaluate {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut plan: Plan = super::asked(&self.plan)?;
        let written = plan.clone();
        let folder = self.plan.parent().unwrap_or(Path::new("."));
        for arm in &mut plan.arm {
            let paths = [&mut arm.embeddings, &mut arm.sae].into_iter();
            for path in paths.chain(&mut arm.seeds).chain(&mut arm.judge) {
                *path = folder.join(&*path);
            }
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("making folder {}", self.out.display()))?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let tell = |what: &str| anstream::println!("{what}");
        let mut evaluation =
            pool.install(|| evaluate(&plan, |folder| load(folder, Level::Embedding), tell))?;
        // Where the files lay is not part of what was found.
        evaluation.plan = written;
        let write = |name: &str, bytes: &[u8]| put(&self.out.join(name), bytes);
        write("evaluation.json", serde_json::to_string(&evaluation)?.as_bytes())?;
        write("report.html", report::page(&evaluation).as_bytes())?;
        anstream::println!("written to {}", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}
