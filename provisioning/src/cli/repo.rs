//! Verbs about the release repository.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clearfilm::clock::{Clock as _, SystemClock, rfc3339};
use clearfilm_fleet::files;
use clearfilm_fleet::keys::Private;
use clearfilm_fleet::release::Part;
use clearfilm_fleet::repo::{Draft, Holders, Lifetimes, Parts, Repository};
use clearfilm_fleet::rollout::{self, Rollout};
use clearfilm_fleet::source::Source;
use clearfilm_fleet::trust::{Known, Marks, Trust};
use jiff::Timestamp as Time;

use crate::release::{self, Description};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Draft what must change so that the keys of a file hold the roles: at first, to rotate, to
    /// revoke.
    Roles {
        #[command(flatten)]
        at: At,
        /// Which public keys hold which role.
        file: PathBuf,
        /// Draft a new root also where nobody changed, because the old one ends.
        #[arg(long)]
        renew: bool,
        #[command(flatten)]
        life: Life,
    },
    /// Draft that the files of a folder are offered.
    Add {
        #[command(flatten)]
        at: At,
        /// What they are.
        part: PartName,
        /// Where they are.
        folder: PathBuf,
        #[command(flatten)]
        life: Life,
    },
    /// Draft a release.
    Release {
        #[command(flatten)]
        at: At,
        /// What it binds.
        file: PathBuf,
        #[command(flatten)]
        life: Life,
    },
    /// Draft which devices install which release, and when.
    Fleet {
        #[command(flatten)]
        at: At,
        /// `fleet.json`, or the same as TOML.
        file: PathBuf,
        #[command(flatten)]
        life: Life,
    },
    /// Draft that nobody starts any more.
    Halt {
        #[command(flatten)]
        at: At,
        /// That they go on.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        life: Life,
    },
    /// Sign every draft that these keys may sign.
    Sign {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        keys: Keys,
    },
    /// Print what is drafted and what it lacks.
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Publish every draft with a new snapshot and timestamp; without drafts, make them fresh.
    Publish {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        keys: Keys,
        /// Life of the snapshot.
        #[arg(long, value_parser = humantime::parse_duration, default_value = "30d")]
        snapshot_valid: Duration,
        /// Life of the timestamp: how long somebody can hide what is newer.
        #[arg(long, value_parser = humantime::parse_duration, default_value = "7d")]
        timestamp_valid: Duration,
    },
    /// Copy what is published to a folder, a USB stick's for instance.
    Export {
        #[command(flatten)]
        at: At,
        /// The folder.
        to: PathBuf,
        #[command(flatten)]
        keys: Keys,
        /// Life of the copy's timestamp.
        #[arg(long, value_parser = humantime::parse_duration, default_value = "45d")]
        valid: Duration,
        /// Life of our own, which gets a new one too.
        #[arg(long, value_parser = humantime::parse_duration, default_value = "7d")]
        timestamp_valid: Duration,
    },
    /// Read what is published as a new device would.
    Check {
        #[command(flatten)]
        at: At,
        /// The root that devices are shipped with.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
    },
}

/// Which repository.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Folder of the repository.
    repository: PathBuf,
}

/// How long a drafted document holds.
#[derive(Debug, Args)]
pub(crate) struct Life {
    /// Life of the document.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "365d")]
    valid: Duration,
}

/// Who signs.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// A private key.
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
}

/// The parts of a release.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum PartName {
    /// Programs.
    App,
    /// A model bundle.
    Bundle,
}

impl Keys {
    fn read(&self) -> anyhow::Result<Vec<Private>> {
        self.keys.iter().map(|file| Private::of(file)).collect()
    }
}

impl At {
    fn open(&self) -> Repository {
        Repository::at(&self.repository)
    }
}

pub(crate) async fn run(verb: Verb) -> anyhow::Result<String> {
    let now = Time::from_second(SystemClock.now().timestamp())?;
    match verb {
        Verb::Roles { at, file, renew, life } => {
            let drafted = at.open().hold(&Holders::read(&file)?, renew, now, life.valid)?;
            let names: Vec<&str> = drafted.iter().map(|role| role.name()).collect();
            Ok(match names.as_slice() {
                [] => "nothing to do\n".into(),
                names => format!("drafted {}\n", names.join(", ")),
            })
        }
        Verb::Add { at, part, folder, life } => {
            let part = match part {
                PartName::App => Part::App,
                PartName::Bundle => Part::Bundle,
            };
            let parts = Parts::of(&folder, part)?;
            let role = at.open().add(&parts, now, life.valid)?;
            Ok(format!("drafted {role}: {} files\n", parts.files.len()))
        }
        Verb::Release { at, file, life } => {
            let release = Description::read(&file)?.release()?;
            at.open().release(&release, now, life.valid)?;
            Ok(format!("drafted targets: release {}\n", release.name))
        }
        Verb::Fleet { at, file, life } => {
            let rollout = read_rollout(&file)?;
            at.open().fleet(&rollout, now, life.valid)?;
            Ok(format!("drafted operations: release {}\n", rollout.release))
        }
        Verb::Halt { at, undo, life } => {
            let repository = at.open();
            let rollout = Rollout { halt: !undo, ..repository.rollout()? };
            repository.fleet(&rollout, now, life.valid)?;
            let what = if undo { "goes on" } else { "halted" };
            Ok(format!("drafted operations: release {} {what}\n", rollout.release))
        }
        Verb::Sign { at, keys } => Ok(told(&at.open().sign(&keys.read()?).await?)),
        Verb::Status { at } => Ok(told(&at.open().waiting()?)),
        Verb::Publish { at, keys, snapshot_valid, timestamp_valid } => {
            let lives = Lifetimes { snapshot: snapshot_valid, timestamp: timestamp_valid };
            let version = at.open().publish(&keys.read()?, now, lives).await?;
            Ok(format!("published timestamp {version}\n"))
        }
        Verb::Export { at, to, keys, valid, timestamp_valid } => {
            let keys = keys.read()?;
            let version = at.open().export(&to, &keys, now, valid, timestamp_valid).await?;
            Ok(format!("exported with timestamp {version} to {}\n", to.display()))
        }
        Verb::Check { at, root } => check(&at.repository, &root).await,
    }
}

fn told(drafts: &[Draft]) -> String {
    let mut text = String::new();
    for draft in drafts {
        let state = draft.missing.as_deref().unwrap_or("complete");
        writeln!(text, "{} version {}: {state}", draft.role, draft.version)
            .expect("a String grows");
    }
    if text.is_empty() { "nothing is drafted\n".into() } else { text }
}

fn read_rollout(file: &Path) -> anyhow::Result<Rollout> {
    let what = || format!("reading {}", file.display());
    let bytes = files::read(file, rollout::SIZE_MAX)?;
    if file.extension().is_some_and(|ending| ending == "json") {
        return Rollout::parse(&bytes).with_context(what);
    }
    let text = std::str::from_utf8(&bytes).with_context(what)?;
    let rollout: Rollout = toml::from_str(text).with_context(what)?;
    let json = serde_json::to_vec(&rollout).with_context(what)?;
    Rollout::parse(&json).with_context(what)
}

async fn check(folder: &Path, root: &Path) -> anyhow::Result<String> {
    let scratch = tempfile::tempdir().context("making a scratch folder")?;
    let trust = Trust::at(scratch.path(), root);
    let source = Source::folder(folder)?;
    let nothing = Marks::default();
    let known = Known { marks: &nothing, anew: false };
    let (verified, _) = trust.check(&source, &known, SystemClock.now()).await?;
    let mut text = String::new();
    for (role, mark) in &verified.marks.roles {
        writeln!(text, "{role} version {}", mark.version)?;
    }
    writeln!(text, "fresh until {}", rfc3339(verified.fresh_until))?;
    writeln!(text, "root ends {}", rfc3339(verified.root_expires))?;
    let rollout = verified.rollout()?;
    for name in rollout.pins.values().chain([&rollout.release]) {
        let signed = verified.release(name)?;
        let release = &signed.release;
        writeln!(text, "release {name}: {}", signed.digest)?;
        for architecture in release.app.builds.keys() {
            for (part, path, entry) in release.files(architecture)? {
                verified.offers(part, entry).with_context(|| format!("{name}: {path}"))?;
            }
        }
        release::whole(&verified, release).with_context(|| format!("release {name}"))?;
    }
    Ok(text)
}
