//! The verb `calibrate`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm_models::calibrate::calibration::{Measured, calibrate};
use clearfilm_models::calibrate::plan::Plan;
use clearfilm_models::files::put;

use super::vectors::load;

/// Make findings of features.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: findings.json as a bundle carries it, and calibration.json with every figure.
Same plan and files: same bytes.")]
pub(crate) struct Calibrate {
    /// Which findings, by which labels (TOML); paths in it are taken from its folder.
    #[arg(short, long, value_name = "FILE")]
    plan: PathBuf,
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Calibrate {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut plan: Plan = super::asked(&self.plan)?;
        let written = plan.clone();
        let folder = self.plan.parent().unwrap_or(Path::new("."));
        plan.sae = folder.join(&plan.sae);
        for collection in &mut plan.images {
            collection.vectors = folder.join(&collection.vectors);
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("making folder {}", self.out.display()))?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let tell = |what: &str| anstream::println!("{what}");
        let mut found = pool.install(|| calibrate(&plan, load, tell))?;
        // Where the files lay is not part of what was found.
        found.plan = written;
        let write = |name: &str, bytes: &[u8]| put(&self.out.join(name), bytes);
        write("calibration.json", serde_json::to_string_pretty(&found)?.as_bytes())?;
        let mut rules = serde_json::to_string_pretty(&found.rules())?;
        rules.push('\n');
        write("findings.json", rules.as_bytes())?;
        found.collections.iter().for_each(say);
        Ok(ExitCode::SUCCESS)
    }
}

/// A line a finding.
fn say(measured: &Measured) {
    for outcome in &measured.findings {
        let ships = if outcome.ships { "ships" } else { "does not ship" };
        let words = match &outcome.finding {
            Ok(finding) => {
                let a = finding.auroc();
                let less = finding.against.iter().map(|d| {
                    let e = d.difference;
                    format!(", less {} {:+.3} [{:+.3}, {:+.3}]", d.versus, e.value, e.low, e.high)
                });
                let less: String = less.collect();
                format!("AUROC {:.3} [{:.3}, {:.3}]{less}", a.value, a.low, a.high)
            }
            Err(error) => error.to_string(),
        };
        anstream::println!("{} {}: {ships}: {words}", measured.name, outcome.id);
    }
}
