//! The agent's turns: ask the repository from time to time, and bring what is on its way one step on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clearfilm::clock::Clock;
use clearfilm::config::Config;
use jiff::tz::TimeZone;

use super::install::{Install, Look, Phase, Step, after_look, next};
use super::progress::Progress;
use super::slots::{Facts, Request, Slot, Slots};
use super::state::State;
use super::trial::{Trial, page, selftest};
use super::unit::Unit;
use super::{Agent, AgentError, source_of};
use crate::files::{self, io};
use crate::release::Sha256;
use crate::rollout::Order;
use crate::source::Source;
use crate::trust::SignedRelease;

/// Pause between two looks at what root or a trial does.
const SOON: Duration = Duration::from_millis(250);

/// Pause between two looks at whether a release may be started.
const LATER: Duration = Duration::from_secs(30);

/// After so long root is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How long an agent runs before it says that it is well: some turns.
const AGENT_TRIAL: Duration = Duration::from_secs(30);

/// The agent of a device, while it runs.
pub struct Runner<'a> {
    config: &'a Config,
    /// The configuration's file, for the programs of a release.
    file: &'a Path,
    clock: &'a dyn Clock,
    slots: Slots,
    /// The release that this process was started from.
    own: Option<Sha256>,
    begun: Instant,
    polled: Option<Instant>,
    trial: Option<Trial>,
    asked: Option<(Slot, Request, Instant)>,
    progress: Progress,
}

impl<'a> Runner<'a> {
    /// Begins where the state says.
    #[must_use]
    pub fn new(config: &'a Config, file: &'a Path, clock: &'a dyn Clock) -> Self {
        let update = &config.update;
        Self {
            config,
            file,
            clock,
            slots: Slots::at(&update.slots, &update.folder),
            own: own_release(&update.folder),
            begun: clock.monotonic(),
            polled: None,
            trial: None,
            asked: None,
            progress: Progress::resumed(&update.folder),
        }
    }

    /// One turn; says how long to wait for the next.
    ///
    /// # Errors
    /// The disk fails, or somebody else is at work. What the repository says wrongly is no error: it
    /// is in the progress.
    pub async fn turn(&mut self) -> Result<Duration, AgentError> {
        let agent = Agent::new(self.config, self.clock)?;
        let waiting = agent.state.read()?.install.is_none_or(|install| install.phase.is_waiting());
        if waiting && self.is_due() {
            self.polled = Some(self.clock.monotonic());
            self.progress.checked = Some(self.clock.now());
            match source_of(self.config) {
                Ok(Some(source)) => self.poll(&agent, &source).await,
                Ok(None) => {}
                Err(error) => self.progress.problem = Some(error.to_string()),
            }
        }
        let wait = self.go_on(&agent)?;
        let state = agent.state.read()?;
        let current = self.slots.facts(Slot::Daemon)?.current;
        self.progress.keep(&self.config.update.folder, &state, current)?;
        Ok(wait)
    }

    /// Takes up what a folder tells this device to run; gives its release where there is one to wait
    /// for.
    ///
    /// # Errors
    /// It is not believed, or has no room.
    pub async fn apply(&mut self, source: &Source) -> Result<Option<Sha256>, AgentError> {
        let agent = Agent::new(self.config, self.clock)?;
        self.bring(&agent, source).await?;
        Ok(agent.state.read()?.install.map(|install| install.release))
    }

    /// A turn without a question to the repository.
    ///
    /// # Errors
    /// As for [`Self::turn`].
    pub fn step(&mut self) -> Result<Duration, AgentError> {
        let agent = Agent::new(self.config, self.clock)?;
        self.go_on(&agent)
    }

    fn is_due(&self) -> bool {
        let poll = self.config.update.poll + self.jitter();
        self.polled.is_none_or(|polled| self.clock.monotonic() - polled > poll)
    }

    /// Up to a tenth of the period, always the same of one device.
    fn jitter(&self) -> Duration {
        let name = Sha256::of(self.config.unit.name.as_bytes()).to_string();
        let share = u32::from_str_radix(&name[..4], 16).unwrap_or(0);
        self.config.update.poll / 10 * share / 0x1_0000
    }

    /// Asks the repository, and takes up what it says.
    async fn poll(&mut self, agent: &Agent<'_>, source: &Source) {
        self.progress.problem = match self.bring(agent, source).await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "nothing is updated");
                Some(error.to_string())
            }
        };
    }

    /// Brings what the repository tells this device to run, and puts it on its way.
    ///
    /// # Errors
    /// It is not believed, not reached or has no room.
    pub async fn bring(&mut self, agent: &Agent<'_>, source: &Source) -> Result<(), AgentError> {
        let told = agent.ask(source).await?;
        let halted = matches!(told.order, Order::Halted);
        let release = told.release.as_ref().map(|signed| (signed.digest, install_of(signed)));
        let runs = self.slots.facts(Slot::Daemon)?.current;
        let wanted = release.filter(|(digest, _)| runs.as_ref() != Some(digest));
        if wanted.is_some() {
            agent.stage(&told)?;
        }
        agent.believe(told)?;
        self.progress.believed = Some(self.clock.now());
        let mut state = agent.state.read()?;
        let before = state.install.clone();
        match (wanted, &before) {
            (Some((digest, _)), Some(install)) if install.release == digest => {}
            (Some((_, install)), _) => state.install = Some(install),
            (None, Some(install)) if install.phase.is_waiting() => {
                tracing::info!(release = %install.name, halted, "not wanted any more");
                state.install = None;
            }
            (None, _) => {}
        }
        if state.install != before {
            agent.state.write(&mut state)?;
        }
        Ok(())
    }

    /// Brings what is on its way as far as it goes now.
    fn go_on(&mut self, agent: &Agent<'_>) -> Result<Duration, AgentError> {
        self.progress.why = None;
        loop {
            let mut state = agent.state.read()?;
            let Some(install) = state.install.clone() else {
                self.trial = None;
                self.prune(&state)?;
                return Ok(LATER.min(self.config.update.poll));
            };
            let (daemon, own_slot) =
                (self.slots.facts(Slot::Daemon)?, self.slots.facts(Slot::Agent)?);
            let starts = self.config.update.starts;
            let mut step = next(&install, &daemon, &own_slot, self.own, starts);
            if let Step::Look(slot) = step {
                match after_look(&install, slot, self.look(&install, slot)) {
                    Some(after) => step = after,
                    None => return Ok(SOON),
                }
            }
            match step {
                Step::Go(phase) => self.write(agent, &mut state, install, phase)?,
                Step::SelfTest => {
                    let folder = agent.folder_of(&install.release);
                    let passed = match folder {
                        Some(folder) => selftest(&folder, self.config, self.file, self.clock),
                        None => Err("its folder is gone".into()),
                    };
                    match passed {
                        Ok(()) => self.write(agent, &mut state, install, Phase::Ready)?,
                        Err(reason) => self.fail(agent, &mut state, &install, reason)?,
                    }
                }
                Step::Gate => match self.gate(&install, &state) {
                    Ok(engine) => {
                        let install = Install { engine, ..install };
                        self.write(agent, &mut state, install, Phase::Switching)?;
                    }
                    Err(why) => {
                        self.progress.why = Some(why);
                        return Ok(LATER);
                    }
                },
                Step::Ask(slot, request) => {
                    self.ask(slot, request)?;
                    return Ok(SOON);
                }
                Step::Look(_) => return Ok(SOON),
                Step::Done => {
                    tracing::info!(release = %install.name, "installed");
                    state.install = None;
                    agent.state.write(&mut state)?;
                }
                Step::Failed(reason) => self.fail(agent, &mut state, &install, reason)?,
            }
        }
    }

    /// A phase is durable before anything of it is done.
    fn write(
        &mut self,
        agent: &Agent<'_>,
        state: &mut State,
        install: Install,
        phase: Phase,
    ) -> Result<(), AgentError> {
        tracing::info!(release = %install.name, phase = phase.name(), "update");
        (self.trial, self.asked) = (None, None);
        state.install = Some(Install { phase, ..install });
        Ok(agent.state.write(state)?)
    }

    fn fail(
        &mut self,
        agent: &Agent<'_>,
        state: &mut State,
        install: &Install,
        reason: String,
    ) -> Result<(), AgentError> {
        tracing::error!(release = %install.name, reason, "update failed");
        state.set_bad(install.release, reason, !install.phase.is_waiting());
        state.install = None;
        Ok(agent.state.write(state)?)
    }

    /// Asks root, and again only after a while.
    fn ask(&mut self, slot: Slot, request: Request) -> Result<(), AgentError> {
        let now = self.clock.monotonic();
        let lately = self
            .asked
            .as_ref()
            .is_some_and(|(to, what, at)| (*to, what) == (slot, &request) && now - *at < ASK_AGAIN);
        if !lately {
            self.slots.ask(slot, &request)?;
            self.asked = Some((slot, request, now));
        }
        Ok(())
    }

    fn look(&mut self, install: &Install, slot: Slot) -> Look {
        if slot == Slot::Agent {
            // It got here by itself: it reads state, configuration and slots.
            let ran = self.clock.monotonic() - self.begun;
            let most = AGENT_TRIAL.min(self.config.update.trial);
            return if ran >= most { Look::Passed } else { Look::Going };
        }
        let clock = self.clock;
        let trial = self.trial.get_or_insert_with(|| Trial::begin(clock));
        trial.look(install, self.config, clock)
    }

    /// May a release be started now? Gives the engine that reads now, or why not yet.
    fn gate(&self, install: &Install, state: &State) -> Result<Option<String>, String> {
        let update = &self.config.update;
        // Without the page nobody could see how its trial goes.
        let unit = Unit::ask(page(self.config)?);
        let (from, to) = update.window().ok_or("update.window: expected hh:mm-hh:mm")?;
        let now = jiff::Timestamp::try_from(std::time::SystemTime::from(self.clock.now()))
            .map_err(|error| error.to_string())?
            .to_zoned(TimeZone::system());
        let minute =
            u32::from(now.hour().unsigned_abs()) * 60 + u32::from(now.minute().unsigned_abs());
        if !within(minute, from, to) {
            return Err(format!("window: it waits for {}", update.window));
        }
        // A daemon that does not answer receives nothing, and may need what waits.
        let Ok(unit) = unit else { return Ok(None) };
        if let Some(store) = unit.store
            && !(install.store.0..=install.store.1).contains(&store)
        {
            let (oldest, newest) = install.store;
            return Err(format!("store: expected version {oldest} to {newest}, found {store}"));
        }
        let same = unit.bundle == Some(install.bundle);
        if update.approve_bundle && !same && state.approved != Some(install.release) {
            return Err("approval: it waits for clearfilm-fleet update approve".into());
        }
        if unit.idle.is_some_and(|idle| idle < update.quiet) {
            return Err("quiet: images arrive".into());
        }
        Ok(unit.engine)
    }

    /// Removes releases that nothing needs any more.
    fn prune(&self, state: &State) -> Result<(), AgentError> {
        let update = &self.config.update;
        let mut kept = BTreeSet::new();
        for slot in [Slot::Daemon, Slot::Agent] {
            let Facts { current, .. } = self.slots.facts(slot)?;
            kept.extend(current);
            kept.extend(self.slots.previous(slot));
        }
        kept.extend(state.install.as_ref().map(|install| install.release));
        let folder = update.folder.join("releases");
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(digest) = Sha256::try_from(name) else { continue };
            if kept.contains(&digest) {
                continue;
            }
            // Its name goes first: a name means a whole release.
            let (whole, part) = (entry.path(), folder.join(format!("{digest}.gone")));
            fs::rename(&whole, &part).map_err(io("renaming", &whole))?;
            files::sync_folder(&folder)?;
            fs::remove_dir_all(&part).map_err(io("removing", &part))?;
        }
        Ok(())
    }
}

/// Is a minute of the day in a window, which may go over midnight?
fn within(minute: u32, from: u32, to: u32) -> bool {
    if from <= to { (from..to).contains(&minute) } else { minute >= from || minute < to }
}

fn install_of(signed: &SignedRelease) -> Install {
    let release = &signed.release;
    let program = Slot::Agent.program();
    let has_agent = release
        .app
        .builds
        .get(std::env::consts::ARCH)
        .is_some_and(|files| files.keys().any(|path| path.as_ref() == Path::new(program)));
    Install {
        release: signed.digest,
        name: release.name.clone(),
        bundle: release.bundle.digest,
        store: (release.store.oldest, release.store.writes),
        worse: release.engines.worse,
        agent: has_agent,
        engine: None,
        phase: Phase::Staged,
    }
}

/// The release that this very program was started from.
fn own_release(agent: &Path) -> Option<Sha256> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?.parent()?;
    let name = folder.strip_prefix(agent.join("releases").canonicalize().ok()?).ok()?;
    Sha256::try_from(name.to_str()?.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_go_over_midnight() {
        assert!(within(60, 60, 300) && !within(300, 60, 300) && !within(59, 60, 300));
        assert!(within(1380, 1320, 300) && within(0, 1320, 300) && !within(300, 1320, 300));
        assert!(within(0, 0, 1440) && within(1439, 0, 1440), "any time");
    }
}
