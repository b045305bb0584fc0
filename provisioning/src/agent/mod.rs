//! The device's side: what a repository says now, what this device shall do, and the release that
//! it shall run.

mod install;
mod progress;
mod run;
mod slots;
mod stage;
mod state;
mod trial;
mod unit;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clearfilm::clock::Clock;
use clearfilm::config::Config;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub use install::{Install, Look, Phase, Step, after_look, next};
pub use run::Runner;
pub use slots::{Facts, Outcome, Request, Slot, Slots};
pub use stage::{DOCUMENT, Limits, Releases, StageError};
pub use state::{BAD_MAX, Bad, State, StateError, StateFile};

use crate::files::{self, FileError};
use crate::release::{Name, Sha256};
use crate::rollout::Order;
use crate::source::{Source, Web, WebSettings};
use crate::trust::{Known, Pending, Refusal, SignedRelease, Trust, Verified};

/// The agent of one device.
pub struct Agent<'a> {
    config: &'a Config,
    clock: &'a dyn Clock,
    trust: Trust,
    state: StateFile,
    /// Held until the agent is dropped: one process at a time changes what is kept.
    _lock: File,
}

/// Longest wait for another process that is at work here.
const BUSY: Duration = Duration::from_secs(10);

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The repository is not believed, or cannot be reached.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The release cannot be staged.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The disk fails.
    #[error("disk: {0}")]
    Disk(#[from] FileError),
    /// Nothing that could be meant.
    #[error("nothing: expected a release on its way or one that an update brought, found none")]
    Nothing,
    /// A release is being started.
    #[error("underway: release {0}: expected none that is being started: try again later")]
    Underway(Name),
    /// Another process changes what is kept.
    #[error("busy: {}: expected nobody else at work, found another process: try again later", .0.display())]
    Busy(PathBuf),
    /// The configuration cannot be used.
    #[error("{0:#}")]
    Settings(anyhow::Error),
    /// The release is for other devices.
    #[error("device-type: release {release}: expected one for {device_type}, found {found:?}")]
    DeviceType {
        /// Which release.
        release: String,
        /// What this device is.
        device_type: String,
        /// What it is for.
        found: Vec<String>,
    },
    /// The release failed here before.
    #[error("bad: release {release} failed here before: {reason}")]
    Bad {
        /// Which release.
        release: String,
        /// Why it failed.
        reason: String,
    },
}

/// What this device shall do.
///
/// Nothing of it is believed yet: a repository whose documents hold and whose files do not is not one
/// to learn from.
#[derive(Debug)]
pub struct Told<'a> {
    /// When its turn is, and for what.
    pub order: Order,
    /// The release, where it shall run one.
    pub release: Option<SignedRelease>,
    /// Was the clock behind a time that has passed?
    pub time_trusted: bool,
    verified: Verified,
    pending: Pending<'a>,
    state: State,
}

impl<'a> Agent<'a> {
    /// The agent's folder and state are made where there are none.
    ///
    /// # Errors
    /// The disk fails, or the state was taken away.
    pub fn new(config: &'a Config, clock: &'a dyn Clock) -> Result<Self, AgentError> {
        let folder = &config.update.folder;
        files::folder(folder)?;
        let lock = lock(folder, clock)?;
        let trust = Trust::at(folder, &config.update.root_file);
        let state = StateFile::at(folder);
        state.begin(trust.believed())?;
        Ok(Self { config, clock, trust, state, _lock: lock })
    }

    /// Asks the repository what this device shall do.
    ///
    /// # Errors
    /// [`AgentError`], and everything is as it was.
    pub async fn ask(&self, source: &Source) -> Result<Told<'_>, AgentError> {
        let state = self.state.read()?;
        let known = Known { marks: &state.marks, anew: state.anew };
        let (mut verified, pending) = self.trust.check(source, &known, self.clock.now()).await?;
        let rollout = verified.rollout()?;
        let (unit, update) = (&self.config.unit, &self.config.update);
        let order = rollout.order(&unit.site, &unit.name, update.canary, self.clock.now());
        // Another site's word about epochs is not for us.
        if order != Order::OtherSite {
            verified.marks.epoch = verified.marks.epoch.max(rollout.min_epoch);
        }
        let release = match &order {
            Order::Run { release, .. } => Some(verified.release(release)?),
            Order::Wait(_) | Order::NotYet | Order::Halted | Order::OtherSite => None,
        };
        let time_trusted = verified.time_trusted;
        Ok(Told { order, release, time_trusted, verified, pending, state })
    }

    /// Believes what the repository said, from now on.
    ///
    /// # Errors
    /// The disk fails.
    pub fn believe(&self, told: Told<'_>) -> Result<(), AgentError> {
        let mut state = told.state;
        told.pending.keep()?;
        if state.anew || state.marks != told.verified.marks {
            state.marks = told.verified.marks;
            state.anew = false;
            self.state.write(&mut state)?;
        }
        Ok(())
    }

    /// Stages the release that this device shall run.
    ///
    /// # Errors
    /// [`AgentError`]; what was fetched stays for the next time.
    pub fn stage(&self, told: &Told<'_>) -> Result<Option<PathBuf>, AgentError> {
        let Some(signed) = &told.release else { return Ok(None) };
        let release = &signed.release;
        let device_type = &self.config.update.device_type;
        if !release.devices.contains(device_type) {
            return Err(AgentError::DeviceType {
                release: release.name.to_string(),
                device_type: device_type.clone(),
                found: release.devices.clone(),
            });
        }
        if let Some(bad) = told.state.bad.iter().find(|bad| bad.release == signed.digest) {
            let (release, reason) = (release.name.to_string(), bad.reason.clone());
            return Err(AgentError::Bad { release, reason });
        }
        let update = &self.config.update;
        let limits = Limits { rate: update.rate.as_u64(), free_min: update.free_min.as_u64() };
        // What the service starts, where that is the factory's: a release's own document says what it
        // holds.
        let slots = Slots::at(&update.slots, &update.folder);
        let factory = slots.current(Slot::Daemon).ok().filter(|f| !f.starts_with(&update.folder));
        let releases = Releases::at(&update.folder, factory, limits, self.clock)?;
        let architecture = std::env::consts::ARCH;
        Ok(Some(releases.stage(&told.verified, signed, architecture)?))
    }

    /// The folder of a release that is here whole.
    #[must_use]
    pub fn folder_of(&self, release: &Sha256) -> Option<PathBuf> {
        let folder = self.config.update.folder.join("releases").join(release.to_string());
        folder.is_dir().then_some(folder)
    }

    /// A person at the site approves the bundle of the release on its way; gives its name.
    ///
    /// # Errors
    /// There is none, or the disk fails.
    pub fn approve(&self) -> Result<Name, AgentError> {
        let mut state = self.state.read()?;
        let Some(install) = state.install.clone() else { return Err(AgentError::Nothing) };
        state.approved = Some(install.release);
        self.state.write(&mut state)?;
        Ok(install.name)
    }

    /// A person goes back to the release before: the one that runs is not tried again here.
    ///
    /// # Errors
    /// The factory's runs, a release is on its way, or the disk fails.
    pub fn roll_back(&self) -> Result<Sha256, AgentError> {
        let slots = Slots::at(&self.config.update.slots, &self.config.update.folder);
        let mut state = self.state.read()?;
        let current = slots.facts(Slot::Daemon)?.current.ok_or(AgentError::Nothing)?;
        // One that root was asked to start would run with nobody to watch it.
        let started = state.install.take().filter(|install| !install.phase.is_waiting());
        if let Some(other) = started.filter(|install| install.release != current) {
            return Err(AgentError::Underway(other.name));
        }
        state.set_bad(current, "rolled back by a person".into(), true);
        self.state.write(&mut state)?;
        slots.ask(Slot::Daemon, &Request::RollBack(current, "person"))?;
        Ok(current)
    }

    /// How the last release on its way ended, where none is any more: why it failed.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn ended(&self, release: &Sha256) -> Result<Option<Result<(), String>>, AgentError> {
        let state = self.state.read()?;
        if state.install.is_some() {
            return Ok(None);
        }
        let bad = state.bad.iter().find(|bad| bad.release == *release);
        Ok(Some(bad.map_or(Ok(()), |bad| Err(bad.reason.clone()))))
    }

    /// Sets damaged metadata aside and begins with the shipped root again; what was believed stays
    /// the lower bound.
    ///
    /// # Errors
    /// The disk fails.
    pub fn rebuild_trust(&self) -> Result<(), AgentError> {
        let mut state = self.state.read()?;
        state.anew = true;
        self.state.write(&mut state)?;
        Ok(self.trust.set_aside()?)
    }
}

/// One process at a time.
fn lock(folder: &Path, clock: &dyn Clock) -> Result<File, AgentError> {
    let file = folder.join(".lock");
    let open = File::options().create(true).append(true).open(&file);
    let open = open.map_err(files::io("opening", &file))?;
    let begun = clock.monotonic();
    while let Err(error) = flock(&open, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK {
            return Err(files::io("locking", &file)(error.into()).into());
        }
        if clock.monotonic() - begun > BUSY {
            return Err(AgentError::Busy(file));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(open)
}

/// The repository that a configuration names; none where it names none.
///
/// # Errors
/// A folder that is not there, or settings that cannot be used.
pub fn source_of(config: &Config) -> Result<Option<Source>, AgentError> {
    let update = &config.update;
    if update.source.is_empty() {
        return Ok(None);
    }
    if update.source.starts_with('/') {
        let folder = Source::folder(update.source.as_ref()).map_err(Refusal::from)?;
        return Ok(Some(folder));
    }
    let settings = WebSettings {
        url: update.source.clone(),
        proxy: update.proxy.clone(),
        ca_file: update.ca_file.clone(),
        wait: update.wait,
        rate_min: update.rate_min.as_u64(),
    };
    let web = Web::new(&settings).map_err(AgentError::Settings)?;
    Ok(Some(Source::Web(Arc::new(web))))
}
