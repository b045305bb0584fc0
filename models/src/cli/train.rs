//! The verb `train`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clearfilm_models::export::{file, fold};
use clearfilm_models::files::put;
use clearfilm_models::kernel::Kernel;
use clearfilm_models::recipe::Recipe;
use clearfilm_models::run::{Trained, run_on};
use clearfilm_models::samples::{Part, Samples};

/// Train a sparse autoencoder.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: checkpoint.safetensors after every epoch, and at the end sae.safetensors as
a bundle carries it (fp32, thresholds, centring folded in) and run.json with what was measured.
Same recipe, samples, kernel and kind of CPU: same bytes, with any number of threads.")]
pub(crate) struct Train {
    /// Recipe (TOML).
    #[arg(short, long, value_name = "FILE")]
    recipe: PathBuf,
    #[command(flatten)]
    files: Files,
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Arithmetic that finds who may fire: fp32, or bf16 where the CPU has it; the checkpoint's or
    /// the fastest if it is not said.
    #[arg(long, value_name = "KERNEL", value_parser = ["fp32", "bf16"])]
    kernel: Option<String>,
}

impl Train {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let recipe: Recipe = super::asked(&self.recipe)?;
        let samples = self.files.read()?;
        fs::create_dir_all(&self.out)
            .with_context(|| format!("making folder {}", self.out.display()))?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let kernel = self.kernel.as_deref().map(|kernel| match kernel {
            "bf16" => Kernel::Bf16,
            _ => Kernel::Fp32,
        });
        let checkpoint = self.out.join("checkpoint.safetensors");
        let trained = pool.install(|| {
            run_on(kernel, recipe, samples, &checkpoint, |epoch, epochs| {
                anstream::println!(
                    "epoch {} of {epochs}: loss {:.5}, held-out FVU {:.5}, dead {}",
                    epoch.epoch,
                    epoch.loss,
                    epoch.fvu,
                    epoch.dead
                );
            })
        })?;
        anstream::println!("{}", write(&trained, &self.out)?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Where samples are: in a file, or in a part of an embeddings folder.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// Samples to train on: a safetensors file, or an embeddings folder.
    #[arg(short, long, value_name = "PATH")]
    samples: PathBuf,
    /// Only this split of an embeddings folder.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Only so many views of each picture of an embeddings folder; without it all.
    #[arg(long, value_name = "N")]
    views: Option<u32>,
    /// Samples of other patients, to measure on.
    #[arg(long, value_name = "PATH")]
    held_out: PathBuf,
    /// Only this split of an embeddings folder that is held out.
    #[arg(long, value_name = "NAME")]
    held_out_split: Option<String>,
    /// Only so many views of each picture that is held out: 1 is the picture as the device sees it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    held_out_views: u32,
    /// The tensor [n, d] or [n, tokens, d] in both.
    #[arg(long, value_name = "NAME", default_value = "embedding")]
    tensor: String,
}

impl Files {
    /// To train on, and held out.
    pub(super) fn read(&self) -> anyhow::Result<[Samples; 2]> {
        if self.views.is_some() && !self.samples.is_dir() {
            bail!(
                "{}: expected an embeddings folder to take views of, found a file",
                self.samples.display()
            );
        }
        let train = Part { split: self.split.clone(), views: self.views };
        let views = Some(self.held_out_views);
        let held_out = Part { split: self.held_out_split.clone(), views };
        Ok([self.part(&self.samples, &train)?, self.part(&self.held_out, &held_out)?])
    }

    /// Rows of a file, or of a part of a folder.
    fn part(&self, path: &Path, part: &Part) -> anyhow::Result<Samples> {
        if path.is_dir() {
            return Ok(Samples::read_folder(path, &self.tensor, part)?);
        }
        if part.split.is_some() {
            bail!(
                "{}: expected an embeddings folder to take a split of, found a file",
                path.display()
            );
        }
        Ok(Samples::read(path, &self.tensor)?)
    }
}

/// Writes what a run came to into its folder, and says it in a line.
pub(super) fn write(trained: &Trained, folder: &Path) -> anyhow::Result<String> {
    let outcome = &trained.outcome;
    let kind = &outcome.recipe.select;
    let sae = fold(&trained.weights, kind, &trained.thresholds, &trained.normaliser);
    let write = |name: &str, bytes: &[u8]| put(&folder.join(name), bytes);
    write("sae.safetensors", &file(&sae)?)?;
    write("run.json", serde_json::to_string_pretty(outcome)?.as_bytes())?;
    let measured = &outcome.held_out;
    Ok(format!(
        "epoch {}: held-out FVU {:.5}, L0 {:.2} of {} ({:.3} %), dead {:.2} %, rare {:.2} %",
        outcome.best,
        measured.fvu,
        measured.l0,
        outcome.recipe.latents,
        100.0 * measured.l0_rate,
        100.0 * measured.dead,
        100.0 * measured.rare
    ))
}
