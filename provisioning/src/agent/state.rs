//! What the agent knows, in two files of which one is always whole.
//!
//! ```text
//! state.0, state.1   each: SHA-256 of the rest in hexadecimal, a line feed, JSON
//! ```
//!
//! Each write goes over the older of the two and is synced, so that a power cut tears at most what
//! was being written. The newer one that is whole counts. Where there is none although there was,
//! nothing can be compared with what was believed before, and nothing is believed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::install::Install;
use crate::files::{self, FileError};
use crate::release::Sha256;
use crate::trust::Marks;

/// Largest state: 64 reasons and some hundred bytes.
const SIZE_MAX: u64 = 1 << 20;

/// Most releases that are remembered as bad; the oldest is forgotten first, and its number is below
/// what is rolled out by then.
pub const BAD_MAX: usize = 64;

/// What the agent knows.
///
/// A newer agent may have written more than this one knows, and was rolled back: that is no damage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Rises with every write.
    sequence: u64,
    /// The newest metadata that was believed.
    pub marks: Marks,
    /// A person said that the shipped root is begun with again; nothing was believed since.
    pub anew: bool,
    /// Releases that failed here, oldest first.
    pub bad: Vec<Bad>,
    /// The release on its way.
    #[serde(default)]
    pub install: Option<Install>,
    /// The release whose bundle a person at the site approved.
    #[serde(default)]
    pub approved: Option<Sha256>,
}

/// A release that failed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Digest of its document.
    pub release: Sha256,
    /// Why.
    pub reason: String,
    /// Was it started, so that it may have said something?
    #[serde(default)]
    pub ran: bool,
}

/// The state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk fails.
    #[error(transparent)]
    File(#[from] FileError),
    /// Both files are damaged.
    #[error("state-damaged: {0}: expected a whole state.0 or state.1, found neither")]
    Damaged(PathBuf),
    /// There is none, although metadata was believed.
    #[error(
        "state-missing: {0}: expected state.0 or state.1, found neither, although metadata was believed before"
    )]
    Missing(PathBuf),
}

/// The two files.
#[derive(Debug)]
pub struct StateFile {
    folder: PathBuf,
}

impl StateFile {
    /// In this folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// Even numbers go to one file, odd ones to the other.
    fn file(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("state.{}", sequence % 2))
    }

    /// Writes a first state where there is none, on a device that never believed anything.
    ///
    /// # Errors
    /// There is none although metadata was believed: it was taken away.
    pub fn begin(&self, believed: bool) -> Result<(), StateError> {
        if self.file(0).exists() || self.file(1).exists() {
            return Ok(());
        }
        if believed {
            return Err(StateError::Missing(self.folder.clone()));
        }
        Ok(self.write(&mut State::default())?)
    }

    /// What was written last.
    ///
    /// # Errors
    /// Files that are damaged.
    pub fn read(&self) -> Result<State, StateError> {
        let mut newest: Option<State> = None;
        for at in 0..2 {
            let Some(bytes) = files::read_if_there(&self.file(at), SIZE_MAX)? else { continue };
            let found = whole(&bytes).filter(|found| found.sequence % 2 == at);
            newest = match (newest, found) {
                (Some(a), Some(b)) if b.sequence > a.sequence => Some(b),
                (None, found) => found,
                (newest, _) => newest,
            };
        }
        newest.ok_or_else(|| StateError::Damaged(self.folder.clone()))
    }

    /// Writes what is known now; when this returns, it is durable.
    ///
    /// # Errors
    /// The disk fails; what was there stays.
    pub fn write(&self, state: &mut State) -> Result<(), FileError> {
        state.sequence += 1;
        let json =
            serde_json::to_vec(state).map_err(|e| files::io("writing", &self.folder)(e.into()))?;
        let mut bytes = format!("{}\n", Sha256::of(&json)).into_bytes();
        bytes.extend(json);
        files::put(&self.file(state.sequence), &bytes, 0o600)
    }
}

fn whole(bytes: &[u8]) -> Option<State> {
    let (sum, json) = bytes.split_at_checked(64)?;
    let json = json.strip_prefix(b"\n")?;
    let sum = Sha256::try_from(String::from_utf8(sum.to_vec()).ok()?).ok()?;
    if sum == Sha256::of(json) { serde_json::from_slice(json).ok() } else { None }
}

impl State {
    /// A release that failed here is not tried again.
    pub fn set_bad(&mut self, release: Sha256, reason: String, ran: bool) {
        self.bad.retain(|bad| bad.release != release);
        if self.bad.len() == BAD_MAX {
            self.bad.remove(0);
        }
        self.bad.push(Bad { release, reason, ran });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_epoch(epoch: u32) -> State {
        State { marks: Marks { epoch, ..Marks::default() }, ..State::default() }
    }

    #[test]
    fn a_torn_write_leaves_what_was_written_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::at(folder.path());
        let mut state = with_epoch(1);
        file.write(&mut state).expect("written");
        state.marks.epoch = 2;
        file.write(&mut state).expect("written");
        assert_eq!(file.read().expect("whole"), state);
        let newest = file.file(state.sequence);
        let bytes = std::fs::read(&newest).expect("there");
        for end in 0..bytes.len() {
            std::fs::write(&newest, &bytes[..end]).expect("torn");
            assert_eq!(file.read().expect("whole").marks.epoch, 1, "torn at {end}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(&newest, flipped).expect("flipped");
            assert_eq!(file.read().expect("whole").marks.epoch, 1, "flipped at {at}");
        }
    }

    #[test]
    fn damaged_or_missing_files_make_no_new_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::at(folder.path());
        file.begin(false).expect("a first state");
        assert_eq!(file.read().expect("whole").marks, Marks::default());
        std::fs::write(folder.path().join("state.1"), b"x").expect("written");
        assert!(matches!(file.read(), Err(StateError::Damaged(_))));
        std::fs::remove_file(folder.path().join("state.1")).expect("removed");
        assert!(matches!(file.begin(true), Err(StateError::Missing(_))));
    }
}
