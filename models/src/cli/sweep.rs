//! The verb `sweep`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clearfilm_models::run::run;
use clearfilm_models::sweep::{Sweep, Task, next_penalty};

use super::train::{Files, write};

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
        let text = fs::read_to_string(&self.sweep)
            .with_context(|| format!("reading {}", self.sweep.display()))?;
        let sweep: Sweep =
            toml::from_str(&text).with_context(|| format!("reading {}", self.sweep.display()))?;
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
            let text = fs::read_to_string(&recipe_file)
                .with_context(|| format!("reading {}", recipe_file.display()))?;
            let recipe = toml::from_str(&text)
                .with_context(|| format!("reading {}", recipe_file.display()))?;
            return self.train(&task.name, recipe, &folder);
        }
        self.aim(sweep, &mut task, &folder)?;
        let recipe = task.recipe()?;
        let text = toml::to_string(&recipe)?;
        fs::write(&recipe_file, text)
            .with_context(|| format!("writing {}", recipe_file.display()))?;
        self.train(&task.name, recipe, &folder)
    }

    /// Moves the penalty by short trials, where the sweep aims at a number of active latents.
    fn aim(&self, sweep: &Sweep, task: &mut Task, folder: &Path) -> anyhow::Result<()> {
        let Some(aim) = &sweep.aim else { return Ok(()) };
        let mut tried: Vec<(f64, f64)> = Vec::new();
        for trial in 0..aim.trials {
            let penalty = task.number(&aim.setting)?;
            let mut recipe = task.recipe()?;
            recipe.epochs = aim.epochs;
            let checkpoint = folder.join(format!("trial-{trial}.safetensors"));
            let trained = run(recipe, self.files.read()?, &checkpoint, |_, _| {})?;
            fs::remove_file(&checkpoint)
                .with_context(|| format!("removing {}", checkpoint.display()))?;
            let l0 = trained.outcome.held_out.l0;
            anstream::println!("{}: {} {penalty:.3e} makes {l0:.1} fire", task.name, aim.setting);
            tried.push((penalty, l0));
            if (l0 / aim.l0 - 1.0).abs() <= aim.near {
                return Ok(());
            }
            if let Some(next) = next_penalty(&tried, aim.l0) {
                task.set(&aim.setting, toml::Value::Float(next))?;
            }
        }
        let off = |l0: f64| (l0.max(f64::MIN_POSITIVE) / aim.l0).ln().abs();
        let nearest = tried.iter().min_by(|a, b| off(a.1).total_cmp(&off(b.1)));
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

    fn train(
        &self,
        name: &str,
        recipe: clearfilm_models::recipe::Recipe,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let checkpoint = folder.join("checkpoint.safetensors");
        let trained = run(recipe, self.files.read()?, &checkpoint, |_, _| {})?;
        anstream::println!("{name}: {}", write(&trained, folder)?);
        fs::remove_file(&checkpoint).with_context(|| format!("removing {}", checkpoint.display()))
    }
}
