//! Who signs what: the roles of the repository, and what each may name.
//!
//! The names of metadata files are TUF's (`timestamp.json`, `3.app.json`). Every target is named by
//! its content (`app/<sha256>`), so that a file that two releases share is published, carried on a
//! stick and fetched once; what it is called on a device is what its release says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Version of the TUF specification that the metadata follows.
pub const SPECIFICATION: &str = "1.0.34";

/// The field of a timestamp that says when it was signed, RFC 3339; TUF leaves room for one's own.
pub const SIGNED_AT: &str = "x-signed-at";

/// Largest metadata document: some 200 bytes a target, and 20,000 targets.
pub const DOCUMENT_MAX: u64 = 4 << 20;

/// A role and the document that it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who has which role; offline, two of three.
    Root,
    /// Releases, and whom it delegates the rest to; offline.
    Targets,
    /// Which versions of all documents belong together; online.
    Snapshot,
    /// That this is the newest snapshot, for a few days; online.
    Timestamp,
    /// Programs.
    App,
    /// Model bundles.
    Models,
    /// Which devices install which release, and when; so that a halt never needs an offline key.
    Operations,
}

impl Role {
    /// Every role, in the order in which a device checks them.
    pub const ALL: [Self; 7] = [
        Self::Root,
        Self::Timestamp,
        Self::Snapshot,
        Self::Targets,
        Self::App,
        Self::Models,
        Self::Operations,
    ];

    /// Those that `Targets` delegates to, each terminating.
    pub const DELEGATED: [Self; 3] = [Self::App, Self::Models, Self::Operations];

    /// The name in metadata and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::App => "app",
            Self::Models => "models",
            Self::Operations => "operations",
        }
    }

    /// The targets that a delegated role may name, as a shell pattern.
    #[must_use]
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Self::App => Some("app/*"),
            Self::Models => Some("models/*"),
            Self::Operations => Some(FLEET),
            Self::Root | Self::Targets | Self::Snapshot | Self::Timestamp => None,
        }
    }
}

impl Role {
    /// May a delegated role name this target?
    #[must_use]
    pub fn may_name(self, target: &str) -> bool {
        match self.pattern() {
            Some(pattern) => match pattern.strip_suffix('*') {
                Some(folder) => target.strip_prefix(folder).is_some_and(|name| !name.contains('/')),
                None => target == pattern,
            },
            None => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("expected a role, found {text:?}"))
    }
}

/// Name of the target that says which devices install which release.
pub const FLEET: &str = "fleet.json";

/// Name of a release's target.
#[must_use]
pub fn release_target(name: &str) -> String {
    format!("release/{name}.json")
}
