//! How a release comes to run: one table, from staged to committed or rolled back.
//!
//! ```text
//! staged -> ready -> switching -> trial -> committing -> agent-switching -> agent-trial -> (done)
//!    \         \          \          \-> rolling-back -> (failed)
//!     \         \          \-----------> (failed: the service ended, and root went back)
//!      \         \-> (dropped: halted, replaced)
//!       \-> (failed: its self-test)
//! ```
//!
//! A phase is written down and synced before anything of it is done, and what is done may be done
//! again. So whoever is killed goes on from the phase that is written, by looking at what is: the
//! table below sees no memory, only the phase and the facts.

use clearfilm::id::Digest;
use serde::{Deserialize, Serialize};

use super::slots::{Facts, Request, Slot};
use crate::release::{Name, Sha256};

/// A release on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// Digest of its document.
    pub release: Sha256,
    /// Its name.
    pub name: Name,
    /// Its bundle.
    pub bundle: Digest,
    /// Oldest and newest store that it can open.
    pub store: (u32, u32),
    /// May its engine be a worse one than before?
    pub worse: bool,
    /// Does it bring an agent, too?
    pub agent: bool,
    /// How the daemon before it read, by the configuration's name of the engine.
    #[serde(default)]
    pub engine: Option<String>,
    /// How far it has come.
    pub phase: Phase,
}

/// How far a release has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Phase {
    /// Whole on the disk; its self-test was not run.
    Staged,
    /// Its self-test passed; it waits for its time.
    Ready,
    /// Root was asked to start it.
    Switching,
    /// It runs, on trial.
    Trial,
    /// Its trial passed; root was asked to keep it.
    Committing,
    /// Its trial failed; root was asked for the one before.
    RollingBack {
        /// Why.
        reason: String,
    },
    /// The daemon stays; root was asked to start the agent of the release.
    AgentSwitching,
    /// The release's agent runs, on trial: this very process.
    AgentTrial,
}

impl Phase {
    /// As progress names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Ready => "ready",
            Self::Switching => "switching",
            Self::Trial => "trial",
            Self::Committing => "committing",
            Self::RollingBack { .. } => "rolling-back",
            Self::AgentSwitching => "agent-switching",
            Self::AgentTrial => "agent-trial",
        }
    }

    /// Has nothing of it been started yet, so that it can be dropped?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Staged | Self::Ready)
    }
}

/// How a look at a release on trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Not long enough yet.
    Going,
    /// It did all that it had to, for as long as it had to.
    Passed,
    /// It did not.
    Failed(String),
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write this phase, and look again.
    Go(Phase),
    /// Run the release's own self-test: [`Phase::Ready`] or failed.
    SelfTest,
    /// May it be switched to now? [`Phase::Switching`] or wait.
    Gate,
    /// Ask root, and look again later.
    Ask(Slot, Request),
    /// Look at what runs on trial: see [`after_look`].
    Look(Slot),
    /// The release is installed.
    Done,
    /// The release failed here and is not tried again.
    Failed(String),
}

/// The table.
///
/// `own` is the release that this very agent process was started from.
#[must_use]
pub fn next(
    install: &Install,
    daemon: &Facts,
    agent: &Facts,
    own: Option<Sha256>,
    starts: u8,
) -> Step {
    let release = install.release;
    if let Some(reason) = daemon.rolled_back(&release) {
        // Root was interrupted: what was rolled back may still be what runs.
        if daemon.pending {
            return Step::Ask(Slot::Daemon, Request::RollBack(release, "trial"));
        }
        return Step::Failed(if let Phase::RollingBack { reason } = &install.phase {
            reason.clone()
        } else {
            format!("the service ended: {reason}")
        });
    }
    let runs = daemon.current == Some(release);
    match &install.phase {
        // Whatever was written down: it runs already, so its trial has begun.
        Phase::Staged | Phase::Ready if runs && daemon.trial.is_some() => Step::Go(Phase::Trial),
        Phase::Staged => Step::SelfTest,
        Phase::Ready => Step::Gate,
        Phase::Switching if runs && !daemon.pending => Step::Go(Phase::Trial),
        Phase::Switching => Step::Ask(Slot::Daemon, Request::Switch(release, starts)),
        // Root went to another release, and did not say that this one failed.
        Phase::Trial | Phase::Committing if !runs => {
            Step::Failed("something else was started".into())
        }
        Phase::Trial => Step::Look(Slot::Daemon),
        Phase::Committing if daemon.trial.is_some() => {
            Step::Ask(Slot::Daemon, Request::Commit(release))
        }
        Phase::Committing if install.agent => Step::Go(Phase::AgentSwitching),
        Phase::Committing => Step::Done,
        Phase::RollingBack { .. } if runs => {
            Step::Ask(Slot::Daemon, Request::RollBack(release, "trial"))
        }
        Phase::RollingBack { reason } => Step::Failed(reason.clone()),
        Phase::AgentSwitching | Phase::AgentTrial => next_of_agent(install, agent, own, starts),
    }
}

/// The agent's own slot: the daemon stays whatever becomes of it.
fn next_of_agent(install: &Install, agent: &Facts, own: Option<Sha256>, starts: u8) -> Step {
    let release = install.release;
    // The old agent goes on, with the new daemon.
    if agent.rolled_back(&release).is_some() {
        return Step::Done;
    }
    let runs = agent.current == Some(release);
    let on_trial = install.phase == Phase::AgentTrial;
    if (runs && agent.trial.is_none()) || (on_trial && !runs) {
        return Step::Done;
    }
    // Only the new one can say that it is well.
    match (runs && own == Some(release), on_trial) {
        (true, false) => Step::Go(Phase::AgentTrial),
        (true, true) => Step::Look(Slot::Agent),
        (false, _) => Step::Ask(Slot::Agent, Request::Switch(release, starts)),
    }
}

/// What follows from a look.
#[must_use]
pub fn after_look(install: &Install, slot: Slot, look: Look) -> Option<Step> {
    match (slot, look) {
        (_, Look::Going) => None,
        (Slot::Daemon, Look::Passed) => Some(Step::Go(Phase::Committing)),
        (Slot::Daemon, Look::Failed(reason)) => Some(Step::Go(Phase::RollingBack { reason })),
        (Slot::Agent, Look::Passed) => {
            Some(Step::Ask(Slot::Agent, Request::Commit(install.release)))
        }
        (Slot::Agent, Look::Failed(_)) => {
            Some(Step::Ask(Slot::Agent, Request::RollBack(install.release, "trial")))
        }
    }
}
