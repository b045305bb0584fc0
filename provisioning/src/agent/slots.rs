//! Root's part of an update, as the agent sees it: what each service starts, and how it is asked.
//!
//! The steps themselves are `provisioning/switch`, which also says what the files mean. The agent
//! only reads a slot's folder, and writes one line into a file of its own.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError, io};
use crate::release::Sha256;

/// Longest line that the script writes: a word, a digest and a reason of 40 characters.
const LINE_MAX: u64 = 256;

/// What is switched: a service of its own each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// What receives and reads.
    Daemon,
    /// This agent.
    Agent,
}

impl Slot {
    /// As the script calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Agent => "agent",
        }
    }

    /// The program that its service starts, in a release's `app` folder.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Daemon => "clearfilm",
            Self::Agent => "clearfilm-fleet",
        }
    }
}

/// What a slot says now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The release that the service starts; none: the factory's.
    pub current: Option<Sha256>,
    /// The current release, while it is on trial.
    pub trial: Option<Sha256>,
    /// The service was not started since root changed what it starts.
    pub pending: bool,
    /// How the last trial ended.
    pub outcome: Option<Outcome>,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The release stays.
    Committed(Sha256),
    /// The release before it runs again.
    RolledBack(Sha256, String),
}

impl Facts {
    /// Was this release rolled back, and why?
    #[must_use]
    pub fn rolled_back(&self, release: &Sha256) -> Option<&str> {
        match &self.outcome {
            Some(Outcome::RolledBack(digest, reason))
                if digest == release && self.current.as_ref() != Some(release) =>
            {
                Some(reason)
            }
            _ => None,
        }
    }
}

/// What root is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start this release, on trial, at most so many times.
    Switch(Sha256, u8),
    /// Its trial is over.
    Commit(Sha256),
    /// Start the release before it again.
    RollBack(Sha256, &'static str),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(release, starts) => write!(f, "switch {release} {starts}"),
            Self::Commit(release) => write!(f, "commit {release}"),
            Self::RollBack(release, reason) => write!(f, "rollback {release} {reason}"),
        }
    }
}

/// Both slots.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PathBuf,
    agent: PathBuf,
}

impl Slots {
    /// The slots below `folder`, asked from the agent's own folder.
    #[must_use]
    pub fn at(folder: &Path, agent: &Path) -> Self {
        Self { folder: folder.into(), agent: agent.into() }
    }

    /// The folder of the release that a slot's service starts.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn current(&self, slot: Slot) -> Result<PathBuf, FileError> {
        let link = self.folder.join(slot.name()).join("current");
        fs::read_link(&link).map_err(io("reading the link", &link))
    }

    /// What a slot says now; a slot that nobody has made yet says nothing.
    ///
    /// # Errors
    /// The disk fails.
    pub fn facts(&self, slot: Slot) -> Result<Facts, FileError> {
        let folder = self.folder.join(slot.name());
        let line = |name: &str| -> Result<Vec<String>, FileError> {
            let bytes = files::read_if_there(&folder.join(name), LINE_MAX)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(text.split_whitespace().map(str::to_owned).collect())
        };
        let digest = |text: &str| Sha256::try_from(text.to_owned()).ok();
        let releases = self.agent.join("releases");
        let current = fs::read_link(folder.join("current")).ok().and_then(|target| {
            let name = target.strip_prefix(&releases).ok()?.to_str()?.to_owned();
            digest(&name)
        });
        let trial = line("trial")?.first().and_then(|word| digest(word));
        let outcome = match line("outcome")?.as_slice() {
            [word, release] if word == "committed" => digest(release).map(Outcome::Committed),
            [word, release, reason] if word == "rolled-back" => {
                digest(release).map(|release| Outcome::RolledBack(release, reason.clone()))
            }
            _ => None,
        };
        let trial = trial.filter(|trial| current.as_ref() == Some(trial));
        let pending = folder.join("pending").exists();
        Ok(Facts { current, trial, pending, outcome })
    }

    /// The release that the service started before; none: the factory's.
    #[must_use]
    pub fn previous(&self, slot: Slot) -> Option<Sha256> {
        let target = fs::read_link(self.folder.join(slot.name()).join("previous")).ok()?;
        let name = target.strip_prefix(self.agent.join("releases")).ok()?.to_str()?.to_owned();
        Sha256::try_from(name).ok()
    }

    /// Asks root; what is asked is done soon or never, so it is asked again where nothing changes.
    ///
    /// # Errors
    /// The disk fails.
    pub fn ask(&self, slot: Slot, request: &Request) -> Result<(), FileError> {
        let file = self.agent.join(format!("request.{}", slot.name()));
        files::put(&file, format!("{request}\n").as_bytes(), 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: &str) -> Sha256 {
        Sha256::of(of.as_bytes())
    }

    #[test]
    fn a_slot_is_read_as_the_script_writes_it() {
        let root = tempfile::tempdir().expect("a folder");
        let (folder, agent) = (root.path().join("slots"), root.path().join("agent"));
        let slots = Slots::at(&folder, &agent);
        assert_eq!(slots.facts(Slot::Daemon).expect("read"), Facts::default(), "nothing yet");
        let slot = folder.join("daemon");
        fs::create_dir_all(&slot).expect("made");
        let (new, old) = (digest("new"), digest("old"));
        let release = |digest: &Sha256| agent.join("releases").join(digest.to_string());
        std::os::unix::fs::symlink(release(&new), slot.join("current")).expect("linked");
        fs::write(slot.join("trial"), format!("{new} 3 2\n")).expect("written");
        fs::write(slot.join("outcome"), format!("rolled-back {old} exit-code\n")).expect("written");
        let facts = slots.facts(Slot::Daemon).expect("read");
        assert_eq!((facts.current, facts.trial), (Some(new), Some(new)));
        assert_eq!((facts.rolled_back(&old), facts.rolled_back(&new)), (Some("exit-code"), None));
        // A trial of what is not current is none: the switch was not finished.
        fs::write(slot.join("trial"), format!("{old} 3 3\n")).expect("written");
        assert_eq!(slots.facts(Slot::Daemon).expect("read").trial, None);
    }

    #[test]
    fn the_factory_and_nonsense_are_no_releases() {
        let root = tempfile::tempdir().expect("a folder");
        let slots = Slots::at(root.path(), &root.path().join("agent"));
        let slot = root.path().join("agent");
        fs::create_dir_all(&slot).expect("made");
        std::os::unix::fs::symlink("/usr/lib/clearfilm/factory", slot.join("current"))
            .expect("linked");
        fs::write(slot.join("trial"), "x\n").expect("written");
        fs::write(slot.join("outcome"), "rolled-back x y\n").expect("written");
        assert_eq!(slots.facts(Slot::Agent).expect("read"), Facts::default());
    }
}
