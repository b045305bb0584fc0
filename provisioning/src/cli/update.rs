//! Verbs of a device about its own releases.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clearfilm::clock::{SystemClock, rfc3339};
use clearfilm::config::Config;
use clearfilm_fleet::agent::{Agent, source_of};
use clearfilm_fleet::rollout::Order;
use clearfilm_fleet::source::Source;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask the repository what this device shall run.
    Check(From),
    /// The same, and fetch it, verified and ready to run.
    Fetch(From),
    /// Set damaged metadata aside and begin with the shipped root again; nothing older than what was
    /// believed is believed then.
    RebuildTrust {
        /// The device's configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct From {
    /// The device's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
    config: PathBuf,
    /// A folder with the repository, a USB stick's for instance, instead of `update.source`.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
}

pub(crate) async fn run(verb: Verb) -> anyhow::Result<String> {
    match verb {
        Verb::Check(from) => ask(&from, false).await,
        Verb::Fetch(from) => ask(&from, true).await,
        Verb::RebuildTrust { config } => {
            let config = read(&config)?;
            Agent::new(&config, &SystemClock)?.rebuild_trust()?;
            Ok("metadata set aside\n".into())
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Config> {
    Ok(Config::load(Some(file))?.config)
}

async fn ask(from: &From, fetch: bool) -> anyhow::Result<String> {
    let config = read(&from.config)?;
    let source = match &from.from {
        Some(folder) => Some(Source::folder(folder)?),
        None => source_of(&config)?,
    };
    let source = source.context("update.source: expected an address or a folder, found none")?;
    let agent = Agent::new(&config, &SystemClock)?;
    let told = agent.ask(&source).await?;
    let mut text = match &told.order {
        Order::Run { release, pinned: true } => format!("run {release} (pinned)\n"),
        Order::Run { release, pinned: false } => format!("run {release}\n"),
        Order::Wait(start) => format!("wait until {}\n", rfc3339(*start)),
        Order::NotYet => "wait for a later wave\n".into(),
        Order::Halted => "wait: the roll-out is halted\n".into(),
        Order::OtherSite => "nothing: the roll-out is for other sites\n".into(),
    };
    if !told.time_trusted {
        text.push_str("time not trusted: the clock is behind what was seen before\n");
    }
    if fetch && let Some(folder) = agent.stage(&told)? {
        writeln!(text, "staged {}", folder.display())?;
    }
    agent.believe(told)?;
    Ok(text)
}
