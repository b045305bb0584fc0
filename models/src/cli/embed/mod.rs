//! The verb `embed`: pictures to vectors.

mod options;
mod pool;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use clap::{Args, Subcommand};
use clearfilm::bundle::Bundle;
use clearfilm::config::{Config, EngineChoice};
use clearfilm::decode::Program;
use clearfilm::encode::{self, Encoder};
use clearfilm_models::embed::{self, Folder, Maker, Plan};
use clearfilm_models::encoder::Encoder as Alone;

use options::{EngineArgument, What, Where};

/// Turn radiographs into embeddings.
#[derive(Debug, Args)]
pub(crate) struct Embed {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// List the pictures and write what decides the bytes.
    Plan(PlanStep),
    /// Make one shard; nothing is done where it is valid already.
    Shard(ShardStep),
    /// Verify all shards and write table and manifest.
    Finish(FinishStep),
    /// All three, with worker processes on this machine; cut off, it goes on where it was.
    Run(RunStep),
}

#[derive(Debug, Args)]
struct PlanStep {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct ShardStep {
    #[command(flatten)]
    place: Where,
    /// Number of the shard, from 0.
    #[arg(long, value_name = "I")]
    index: usize,
    /// Write a line after each picture, and end when standard input does.
    #[arg(long, hide = true)]
    worker: bool,
}

#[derive(Debug, Args)]
struct FinishStep {
    /// Embeddings folder.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Largest share of refused pictures that is accepted, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    refused_max: f64,
}

#[derive(Debug, Args)]
struct RunStep {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    what: What,
    /// Worker processes; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Times that a shard is tried before the run fails.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// Largest share of refused pictures that is accepted, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    refused_max: f64,
}

impl Embed {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.step {
            Step::Plan(step) => plan(&step.place, &step.what).map(|_| ()),
            Step::Shard(step) => shard(step),
            Step::Finish(step) => finish(&step.out, step.refused_max),
            Step::Run(step) => run(step),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Bundle and configuration; one thread an engine, because workers are processes.
fn opened(place: &Where) -> anyhow::Result<(Config, Bundle)> {
    let mut config = Config::load(place.config.as_deref())?.config;
    config.engine.threads = 1;
    if let Some(folder) = &place.bundle {
        config.bundle.path.clone_from(folder);
    }
    let bundle = match &place.encoder {
        Some(folder) => Alone::read(folder)?.alone(),
        None => Bundle::load(&config.bundle)?,
    };
    Ok((config, bundle))
}

/// Lists the pictures and writes the plan, or checks that the folder's is the same.
fn plan(place: &Where, what: &What) -> anyhow::Result<Plan> {
    let (config, bundle) = opened(place)?;
    let layout = what.layout()?;
    let listing = layout.list(&place.root)?;
    let start = |choice| encode::start(choice, &bundle, &config.engine);
    let encoder = match what.engine {
        EngineArgument::Ort => start(EngineChoice::Cpu)?,
        EngineArgument::Tract => start(EngineChoice::Tract)?,
        EngineArgument::Auto => start(EngineChoice::Cpu).or_else(|_| start(EngineChoice::Tract))?,
    };
    let plan = Plan::new(
        (&bundle, encoder.engine()),
        (what.level(), what.dtype()),
        (what.views(), what.shard_rows),
        (layout, &listing),
        &config,
    );
    embed::write_plan(&Folder::at(&place.out), &plan, &listing.records)?;
    anstream::println!(
        "planned {} pictures ({} more are named and absent), {} views each, {} shards, engine {}",
        plan.images,
        plan.absent,
        plan.views.count,
        plan.shards(),
        plan.engine.backend
    );
    Ok(plan)
}

/// The engine that was planned.
fn planned(plan: &Plan, bundle: &Bundle, config: &Config) -> anyhow::Result<Box<dyn Encoder>> {
    let ort = plan.engine.backend == "ort";
    let choice = if ort { EngineChoice::Cpu } else { EngineChoice::Tract };
    Ok(encode::start(choice, bundle, &config.engine)?)
}

fn shard(step: &ShardStep) -> anyhow::Result<()> {
    if step.worker {
        end_with_parent()?;
    }
    let folder = Folder::at(&step.place.out);
    let (plan, digest) = Plan::read(&folder)?;
    if let Some((done, _)) = embed::valid(&folder, digest, step.index)? {
        anstream::println!("shard {} is valid: {} rows", step.index, done.rows);
        return Ok(());
    }
    let (config, bundle) = opened(&step.place)?;
    let encoder = planned(&plan, &bundle, &config)?;
    let records = embed::read_images(&folder, &plan)?;
    let root = &step.place.root;
    let mut maker =
        Maker::new((&folder, root), (&plan, digest), (&bundle, encoder), Program::own())?;
    let mut out = std::io::stdout();
    let done = maker.make(step.index, &records, || {
        // Whoever does not listen any more will notice the shard itself.
        if step.worker && writeln!(out, "{}", pool::PICTURE).and_then(|()| out.flush()).is_err() {
            tracing::debug!("nobody listens");
        }
    })?;
    anstream::println!(
        "shard {}: {} rows, {} pictures refused",
        step.index,
        done.rows,
        done.refused.len()
    );
    Ok(())
}

/// Ends this process when its parent does: what it makes would be made twice.
fn end_with_parent() -> anyhow::Result<()> {
    thread::Builder::new()
        .name("parent".into())
        .spawn(|| {
            let gone = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            // Broken or closed: nobody is there.
            drop(gone);
            std::process::exit(1);
        })
        .context("starting the thread that watches the parent")?;
    Ok(())
}

fn finish(out: &std::path::Path, refused_max: f64) -> anyhow::Result<()> {
    let finished = embed::finish(&Folder::at(out), refused_max)?;
    anstream::println!(
        "{} rows of {} pictures in {}, {} refused",
        finished.rows,
        finished.images,
        out.display(),
        finished.refused
    );
    Ok(())
}

fn run(step: &RunStep) -> anyhow::Result<()> {
    let plan = plan(&step.place, &step.what)?;
    let (_, digest) = Plan::read(&Folder::at(&step.place.out))?;
    pool::run(&step.place, (&plan, digest), step.workers, step.attempts)?;
    finish(&step.place.out, step.refused_max)
}
