//! The release repository: signed metadata and the files that it names, in one folder that any
//! static host or USB stick carries.
//!
//! ```text
//! repo/metadata/  1.root.json .. N.root.json  timestamp.json  N.snapshot.json  N.targets.json
//!                 N.app.json  N.models.json  N.operations.json
//! repo/targets/   app/H.H  models/H.H  release/H.NAME.json  H.fleet.json     (H: SHA-256)
//! repo/draft/     documents that still lack signatures; never published
//! ```
//!
//! A change is drafted, signed by as many keys as its role asks for (each where it is kept), and
//! published: metadata under new names first, `timestamp.json` last, so that whoever reads at any
//! instant sees either the old state or the new one.

mod change;
mod draft;
mod publish;
mod roles;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp as Time;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tough::schema::{Role as Document, Root, Signed, Snapshot, Targets, Timestamp};

pub use change::Parts;
pub use draft::Draft;
pub use publish::Lifetimes;
pub use roles::Holders;

use crate::files;
use crate::role::{DOCUMENT_MAX, Role};

/// A repository on disk.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// A repository, or the folder that will be one.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    fn metadata(&self) -> PathBuf {
        self.folder.join("metadata")
    }

    fn targets_folder(&self) -> PathBuf {
        self.folder.join("targets")
    }

    fn drafts(&self) -> PathBuf {
        self.folder.join("draft")
    }

    /// The newest root that was published.
    fn root(&self) -> anyhow::Result<Option<Signed<Root>>> {
        let folder = self.metadata();
        let mut newest = 0;
        // One by one, as devices do: what lies behind a gap is never reached.
        while folder.join(format!("{}.root.json", newest + 1)).exists() {
            newest += 1;
        }
        match newest {
            0 => Ok(None),
            n => read(&folder.join(format!("{n}.root.json"))).map(Some),
        }
    }

    fn timestamp(&self) -> anyhow::Result<Option<Signed<Timestamp>>> {
        let file = self.metadata().join("timestamp.json");
        if file.exists() { read(&file).map(Some) } else { Ok(None) }
    }

    fn snapshot(&self) -> anyhow::Result<Option<Signed<Snapshot>>> {
        let Some(timestamp) = self.timestamp()? else { return Ok(None) };
        let Some(entry) = timestamp.signed.meta.get("snapshot.json") else {
            bail!("{}: expected an entry for snapshot.json, found none", self.folder.display())
        };
        read(&self.metadata().join(format!("{}.snapshot.json", entry.version))).map(Some)
    }

    /// What `Targets` or a role that it delegates to has published.
    fn targets(&self, role: Role) -> anyhow::Result<Option<Signed<Targets>>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let Some(entry) = snapshot.signed.meta.get(&format!("{role}.json")) else {
            return Ok(None);
        };
        read(&self.metadata().join(format!("{}.{role}.json", entry.version))).map(Some)
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let bytes = files::read(file, DOCUMENT_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", file.display()))
}

fn write<T: Document + Serialize>(file: &Path, document: &Signed<T>) -> anyhow::Result<Vec<u8>> {
    let what = || format!("writing {}", file.display());
    let mut bytes = serde_json::to_vec_pretty(document).with_context(what)?;
    bytes.push(b'\n');
    files::put(file, &bytes, 0o644)?;
    Ok(bytes)
}

/// Version after `version`, 1 where there is none.
fn after(version: Option<NonZeroU64>) -> NonZeroU64 {
    version.map_or(NonZeroU64::MIN, |version| version.saturating_add(1))
}

/// The end of a life that begins now.
fn expiry(now: Time, life: Duration) -> anyhow::Result<Time> {
    let end = now.checked_add(life).context("expected a time of this millennium")?;
    // Metadata has whole seconds.
    Time::from_second(end.as_second()).context("expected a time of this millennium")
}
