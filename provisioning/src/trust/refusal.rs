//! Why metadata or a file is not believed: every attack has a name that an operator can look up.

use std::error::Error as _;

use tough::error::Error as Tough;
use tough::schema::Error as Schema;
use tough::{TransportError, TransportErrorKind};

use crate::files::FileError;
use crate::release::ReleaseError;
use crate::rollout::RolloutError;
use crate::source::SourceError;

/// Why metadata or a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Signed long ago: somebody may hide what is newer.
    #[error("freeze: {role} ended at {expires}, and it is {time}")]
    Expired {
        /// Whose document.
        role: String,
        /// When it ended.
        expires: String,
        /// What time it is at the least.
        time: String,
    },
    /// Older than what was believed before.
    #[error("rollback: {role}: expected version {least} or newer, found {found}")]
    Rollback {
        /// Whose document.
        role: String,
        /// The oldest that is believed.
        least: u64,
        /// What was offered.
        found: u64,
    },
    /// Too few good signatures by those who hold the role.
    #[error("signature: {role}: {text}")]
    Signature {
        /// Whose document.
        role: String,
        /// What was found.
        text: String,
    },
    /// Documents or files that were signed at different times, put together.
    #[error("mix: {0}")]
    Mix(String),
    /// A document of a role is not there any more.
    #[error("role-missing: expected a document of {0}, found none")]
    RoleMissing(String),
    /// More bytes than the metadata or a limit allows.
    #[error("endless: {0}")]
    Endless(String),
    /// A file that should be there is not.
    #[error("not-there: {0}")]
    NotThere(String),
    /// A document that cannot be read.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A role that names what it may not.
    #[error("delegation: {0}")]
    Delegation(String),
    /// A file that holds something else than was signed.
    #[error("content: {target}: expected {expected}, found {found}")]
    Content {
        /// Which.
        target: String,
        /// Hash or length that was signed.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A link or a device where a file should be.
    #[error("no-file: {0}")]
    NoFile(String),
    /// What was believed before is damaged, so nothing can be compared with it.
    #[error("store-damaged: {0}")]
    StoreDamaged(String),
    /// What was believed before is gone.
    #[error("store-missing: expected {0}, found none, although metadata was believed before")]
    StoreMissing(String),
    /// An epoch below one that was seen.
    #[error("epoch: release {release}: expected epoch {least} or newer, found {found}")]
    Epoch {
        /// Which release.
        release: String,
        /// The oldest epoch that is believed.
        least: u32,
        /// Its epoch.
        found: u32,
    },
    /// The repository cannot be reached. No attack, or none that can be told from a bad cable.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The device's own disk fails.
    #[error("disk: {0}")]
    Disk(#[from] FileError),
    /// What the library says in a case without a name of its own.
    #[error("refused: {0}")]
    Other(String),
}

impl Refusal {
    /// The attack's name: the first word of the message, which `docs/release.md` explains.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "freeze",
            Self::Rollback { .. } => "rollback",
            Self::Signature { .. } => "signature",
            Self::Mix(_) => "mix",
            Self::RoleMissing(_) => "role-missing",
            Self::Endless(_) => "endless",
            Self::NotThere(_) => "not-there",
            Self::Malformed(_) => "malformed",
            Self::Delegation(_) => "delegation",
            Self::Content { .. } => "content",
            Self::NoFile(_) => "no-file",
            Self::StoreDamaged(_) => "store-damaged",
            Self::StoreMissing(_) => "store-missing",
            Self::Epoch { .. } => "epoch",
            Self::Unreachable(_) => "unreachable",
            Self::Disk(_) => "disk",
            Self::Other(_) => "refused",
        }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        let text = error.to_string();
        match error {
            SourceError::NotFound(_) => Self::NotThere(text),
            SourceError::TooLong { .. } => Self::Endless(text),
            SourceError::NoFile(_) => Self::NoFile(text),
            SourceError::Status { .. } | SourceError::Failed { .. } => Self::Unreachable(text),
        }
    }
}

impl From<ReleaseError> for Refusal {
    fn from(error: ReleaseError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<RolloutError> for Refusal {
    fn from(error: RolloutError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Names what `tough` refused. `time` is what it compared with.
pub(super) fn of(error: &Tough, time: &str) -> Refusal {
    let text = || error.to_string();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's enum grows; the rest has no name"
    )]
    match error {
        Tough::ExpiredMetadata { role, .. } => Refusal::Expired {
            role: role.to_string(),
            expires: "a time before that".into(),
            time: time.into(),
        },
        Tough::OlderMetadata { role, current_version, new_version, .. } => {
            rollback(&role.to_string(), *current_version, *new_version)
        }
        Tough::OlderSnapshotInTimestamp { snapshot_old, snapshot_new, .. } => {
            rollback("snapshot", *snapshot_old, *snapshot_new)
        }
        Tough::SnapshotRoleRollback { role, old_role_version, new_role_version, .. } => {
            rollback(role, *old_role_version, *new_role_version)
        }
        Tough::SnapshotRoleMissing { role, .. } => Refusal::RoleMissing(role.clone()),
        Tough::SnapshotTargetsMetaMissing { .. } => Refusal::RoleMissing("targets".into()),
        Tough::MetaMissing { file, .. } => Refusal::RoleMissing((*file).to_owned()),
        Tough::MissingSnapshotMeta { .. } => Refusal::RoleMissing("snapshot".into()),
        Tough::VerifyMetadata { role, source, .. } => signature(&role.to_string(), source),
        Tough::VerifyRoleMetadata { role, source, .. } => signature(role, source),
        Tough::VerifyTrustedMetadata { source, .. } => signature("trusted root", source),
        Tough::VersionMismatch { .. } => Refusal::Mix(text()),
        Tough::ParseMetadata { role, source, .. } => {
            Refusal::Malformed(format!("{role}: {source}"))
        }
        Tough::ParseTrustedMetadata { source, .. } => {
            Refusal::StoreDamaged(format!("root.json: {source}"))
        }
        Tough::MaxUpdatesExceeded { .. } | Tough::MaxSizeExceeded { .. } => {
            Refusal::Endless(text())
        }
        Tough::HashMismatch { .. } => Refusal::Mix(text()),
        Tough::Transport { source, .. } => transport(source, time),
        Tough::InvalidPath { source } => Refusal::Delegation(source.to_string()),
        Tough::DelegatedRolesNotConsistent { .. } => Refusal::Delegation(text()),
        _ => Refusal::Other(text()),
    }
}

fn rollback(role: &str, least: u64, found: u64) -> Refusal {
    Refusal::Rollback { role: role.into(), least, found }
}

fn signature(role: &str, source: &Schema) -> Refusal {
    Refusal::Signature { role: role.into(), text: source.to_string() }
}

/// What the transport, or the library's check of what it brought, says.
fn transport(error: &TransportError, time: &str) -> Refusal {
    let source = error.source();
    if let Some(error) = source.and_then(|source| source.downcast_ref::<Tough>()) {
        return of(error, time);
    }
    let text = source.map_or_else(|| error.to_string(), ToString::to_string);
    match source.and_then(|source| source.downcast_ref::<SourceError>()) {
        Some(SourceError::TooLong { .. }) => Refusal::Endless(text),
        Some(SourceError::NoFile(_)) => Refusal::NoFile(text),
        _ if error.kind() == TransportErrorKind::FileNotFound => Refusal::NotThere(text),
        _ => Refusal::Unreachable(text),
    }
}
