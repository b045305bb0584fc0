//! The verb `sweep`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clearfilm_models::files::put;
use clearfilm_models::run::run;
use clearfilm_models::sweep::{Aim, Sweep, Task, next_penalty};

use super::train::{Files, write};

/// What a run that was cut off goes on from.
const CHECKPOINT: &str = "checkpoint.safetensors";

/// Penalties and the active latents that they came to, in the order of trial: a sweep that was cut
/// off does not try them again.
struct Tried(Vec<(f64, f64)>);

impl Tried {
    fn file(folder: &Path) -> PathBuf {
        folder.join("trials.json")
    }

    fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = Self::file(folder);
        if !file.exists() {
            return Ok(Self(Vec::new()));
        }
        let read = || anyhow::Ok(Self(serde_json::from_slice(&fs::read(&file)?)?));
        read().with_context(|| format!("reading {}", file.display()))
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        Ok(put(&Self::file(folder), &serde_json::to_vec(&self.0)?)?)
    }
}

/// Train many dictionaries.
#[derive(Debug, Args)]
#[command(after_help = "\
Each run has a folder of its own, with what `train` writes and its recipe.toml; runs that are done
are left alone. With --index only that run is made, for schedulers: --list prints all.")]
pub(crate) struct SweepRuns {
    /// What is swept (TOML).
    #[arg(long, value_name = "FILE")]
    sweep: PathBuf,
    #[command(flatten)]
    files: Files,
    /// Folder of the runs' folders.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Only this run, from 0.
    #[arg(long)]
    index: Option<usize>,
    /// Print the runs and do nothing.
    #[arg(long)]
    list: bool,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl SweepRuns {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let sweep: Sweep = super::asked(&self.sweep)?;
        let tasks = sweep.tasks()?;
        if self.list {
            tasks
                .iter()
                .enumerate()
                .for_each(|(at, task)| anstream::println!("{at} {}", task.name));
            return Ok(ExitCode::SUCCESS);
        }
        let chosen = match self.index {
            Some(index) if index >= tasks.len() => {
                bail!("--index: expected less than {}, found {index}", tasks.len())
            }
            Some(index) => &tasks[index..=index],
            None => &tasks[..],
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        for task in chosen {
            pool.install(|| self.one(&sweep, task.clone()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn one(&self, sweep: &Sweep, mut task: Task) -> anyhow::Result<()> {
        let folder = self.out.join(&task.name);
        if folder.join("run.json").exists() {
            anstream::println!("{}: done", task.name);
            return Ok(());
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("making folder {}", folder.display()))?;
        let recipe_file = folder.join("recipe.toml");
        if recipe_file.exists() {
            // Its trials are behind it.
            return self.train(&task.name, super::asked(&recipe_file)?, &folder);
        }
        self.aim(sweep, &mut task, &folder)?;
        let recipe = task.recipe()?;
        let text = toml::to_string(&recipe)?;
        put(&recipe_file, text.as_bytes())?;
        self.train(&task.name, recipe, &folder)
    }

    /// Moves the penalty by trials, where the sweep aims at a number of active latents.
    fn aim(&self, sweep: &Sweep, task: &mut Task, folder: &Path) -> anyhow::Result<()> {
        let Some(aim) = &sweep.aim else { return Ok(()) };
        let mut tried = Tried::read(folder)?;
        loop {
            let last = tried.0.last().filter(|(_, l0)| aim.is_met_by(*l0));
            if let Some(&(penalty, _)) = last {
                return Ok(task.set(&aim.setting, toml::Value::Float(penalty))?);
            }
            if tried.0.len() >= aim.trials {
                break;
            }
            if let Some(next) = next_penalty(&tried.0, aim.l0) {
                task.set(&aim.setting, toml::Value::Float(next))?;
            }
            let penalty = task.number(&aim.setting)?;
            let l0 = self.trial(aim, task, tried.0.len(), folder)?;
            anstream::println!("{}: {} {penalty:.3e} makes {l0:.1} fire", task.name, aim.setting);
            tried.0.push((penalty, l0));
            tried.write(folder)?;
        }
        let off = |l0: f64| (l0.max(f64::MIN_POSITIVE) / aim.l0).ln().abs();
        let nearest = tried.0.iter().min_by(|a, b| off(a.1).total_cmp(&off(b.1)));
        if let Some((penalty, l0)) = nearest {
            // The longer run may still meet it, and run.json tells; but nobody is to believe so.
            anstream::println!(
                "{}: expected {} to fire within {} trials, found {l0:.1} at the nearest; trained with it",
                task.name,
                aim.l0,
                aim.trials
            );
            task.set(&aim.setting, toml::Value::Float(*penalty))?;
        }
        Ok(())
    }

    /// How many latents a trial makes fire. One of full length that meets the aim is the run.
    fn trial(&self, aim: &Aim, task: &Task, number: usize, folder: &Path) -> anyhow::Result<f64> {
        let mut recipe = task.recipe()?;
        let whole = aim.epochs.is_none_or(|epochs| epochs == recipe.epochs);
        recipe.epochs = aim.epochs.unwrap_or(recipe.epochs);
        let checkpoint = folder.join(format!("trial-{number}.safetensors"));
        let trained = run(recipe, self.files.read()?, &checkpoint, |_, _| {})?;
        let l0 = trained.outcome.held_out.l0;
        if whole && aim.is_met_by(l0) {
            fs::rename(&checkpoint, folder.join(CHECKPOINT))
        } else {
            fs::remove_file(&checkpoint)
        }
        .with_context(|| format!("putting {} away", checkpoint.display()))?;
        Ok(l0)
    }

    fn train(
        &self,
        name: &str,
        recipe: clearfilm_models::recipe::Recipe,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let checkpoint = folder.join(CHECKPOINT);
        let trained = run(recipe, self.files.read()?, &checkpoint, |_, _| {})?;
        anstream::println!("{name}: {}", write(&trained, folder)?);
        fs::remove_file(&checkpoint).with_context(|| format!("removing {}", checkpoint.display()))
    }
}
