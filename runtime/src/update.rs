//! What the update agent says of itself, in a file that the daemon reads and tells the hospital.
//!
//! The agent is a process of its own that outlives a bad daemon; only the daemon speaks with the
//! broker, so that there is one connection, one outbox and one clock of messages.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The file, in `update.folder`.
pub const FILE: &str = "progress.json";

/// The form of the file.
pub const FORM: &str = "clearfilm-update/1";

/// Longest file: 64 digests and some sentences.
const BYTES_MAX: u64 = 64 << 10;

/// What the agent says; also the payload of `update`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORM`].
    pub form: String,
    /// The release that runs; none: the factory's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// A release on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underway: Option<Underway>,
    /// When the repository was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<DateTime<Utc>>,
    /// When it was believed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub believed: Option<DateTime<Utc>>,
    /// Why nothing can be updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The release that failed last, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Releases that ran here and were rolled back: what they said is withdrawn.
    #[serde(default)]
    pub withdrawn: Vec<String>,
}

/// A release on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// Digest of its document.
    pub release: String,
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub phase: String,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Report {
    /// As it is told.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("it holds only plain values")
    }

    /// What the agent wrote last; none where it never wrote, or cannot be understood.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        use std::io::Read as _;

        let file = std::fs::File::open(folder.join(FILE)).ok()?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|report: &Self| report.form == FORM)
    }
}
