//! Verbs of a device about its own releases.

use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use clearfilm::clock::{SystemClock, rfc3339};
use clearfilm::config::Config;
use clearfilm::pulse::Pulses;
use clearfilm::update::FILE;
use clearfilm_fleet::agent::{Agent, AgentError, Runner, source_of};
use clearfilm_fleet::rollout::Order;
use clearfilm_fleet::source::Source;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask the repository what this device shall run.
    Check(From),
    /// The same, and fetch it, verified and ready to run.
    Fetch(From),
    /// The agent: asks from time to time, and brings what this device shall run, until it is stopped.
    Run(Configured),
    /// What the agent says of itself, as JSON.
    Status(Configured),
    /// Approve the bundle of the release that waits for it.
    Approve(Configured),
    /// Go back to the release before, and never try this one again here.
    RollBack(Configured),
    /// Set damaged metadata aside and begin with the shipped root again; nothing older than what was
    /// believed is believed then.
    RebuildTrust(Configured),
}

/// Bring what a folder tells this device to run, and wait until it stays or was rolled back; for a
/// Mender update module, and for a person with a stick.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The folder with the repository.
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
    #[command(flatten)]
    configured: Configured,
}

#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The device's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct From {
    #[command(flatten)]
    configured: Configured,
    /// A folder with the repository, a USB stick's for instance, instead of `update.source`.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
}

pub(crate) async fn run(verb: Verb) -> anyhow::Result<String> {
    match verb {
        Verb::Check(from) => ask(&from, false).await,
        Verb::Fetch(from) => ask(&from, true).await,
        Verb::Run(configured) => keep_running(&configured.config).await,
        Verb::Status(configured) => {
            let folder = read(&configured.config)?.update.folder;
            let file = folder.join(FILE);
            Ok(fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?
                + "\n")
        }
        Verb::Approve(configured) => {
            let config = read(&configured.config)?;
            let release = Agent::new(&config, &SystemClock)?.approve()?;
            Ok(format!("approved {release}\n"))
        }
        Verb::RollBack(configured) => {
            let config = read(&configured.config)?;
            let release = Agent::new(&config, &SystemClock)?.roll_back()?;
            Ok(format!("rolling back {release}\n"))
        }
        Verb::RebuildTrust(configured) => {
            let config = read(&configured.config)?;
            Agent::new(&config, &SystemClock)?.rebuild_trust()?;
            Ok("metadata set aside\n".into())
        }
    }
}

/// How often the service manager is told that turns are made: its limit is 5 minutes.
const FEED: Duration = Duration::from_secs(30);

/// Longest turn: a release is brought in it, over a link that may be slow.
const TURN_MAX: Duration = Duration::from_secs(24 * 3600);

async fn keep_running(file: &Path) -> anyhow::Result<String> {
    let config = read(file)?;
    start_log(&config.telemetry.log)?;
    let clock = SystemClock;
    let pulses = Pulses::new(Arc::new(SystemClock));
    let pulse = pulses.of("turns");
    pulse.promise(TURN_MAX);
    // A thread of its own, because a turn may take long, and ends with the process.
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        while pulses.stuck().is_empty() {
            tell(&[NotifyState::Watchdog]);
            std::thread::sleep(FEED);
        }
    })?;
    let mut runner = Runner::new(&config, file, &clock);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut told = false;
    loop {
        pulse.promise(TURN_MAX);
        let wait = match runner.turn().await {
            Ok(wait) => wait,
            Err(error @ (AgentError::Busy(_) | AgentError::Disk(_))) => {
                tracing::warn!(%error, "a turn failed");
                FEED
            }
            Err(error) => return Err(error.into()),
        };
        if !told {
            tell(&[NotifyState::Ready]);
            told = true;
        }
        pulse.promise(wait + FEED);
        tokio::select! {
            _ = terminate.recv() => return Ok(String::new()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Tells the service manager, where there is one.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn start_log(level: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .with_context(|| format!("telemetry.log: expected a level, found {level:?}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    log.try_init().map_err(anyhow::Error::from_boxed).context("starting the log")
}

pub(crate) async fn apply(apply: &Apply) -> anyhow::Result<String> {
    let file = &apply.configured.config;
    let config = read(file)?;
    start_log(&config.telemetry.log)?;
    let clock = SystemClock;
    let source = Source::folder(&apply.from)?;
    let mut runner = Runner::new(&config, file, &clock);
    let Some(release) = runner.apply(&source).await? else {
        return Ok("nothing to do\n".into());
    };
    loop {
        // The device's own agent may do the same beside this process: each step may be repeated.
        let wait = runner.step()?;
        match Agent::new(&config, &clock)?.ended(&release)? {
            Some(Ok(())) => return Ok(format!("installed {release}\n")),
            Some(Err(reason)) => bail!("{release} failed here: {reason}"),
            None => tokio::time::sleep(wait.min(FEED)).await,
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Config> {
    Ok(Config::load(Some(file))?.config)
}

async fn ask(from: &From, fetch: bool) -> anyhow::Result<String> {
    let config = read(&from.configured.config)?;
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
