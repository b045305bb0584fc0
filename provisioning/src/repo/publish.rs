//! Publishing: complete drafts under their names, then a snapshot of them, then a timestamp.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp as Time;
use serde::de::DeserializeOwned;
use tough::schema::{
    Hashes, Metafile, Role as Document, RoleType, Root, Signed, Snapshot, Targets, Timestamp,
};

use super::draft::DRAFTED;
use super::{Repository, after, expiry, write};
use crate::files;
use crate::keys::Private;
use crate::release::Sha256;
use crate::role::{Role, SIGNED_AT, SPECIFICATION};

/// How long what is signed at a publication holds.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of the snapshot.
    pub snapshot: Duration,
    /// Of the timestamp: how long a mirror can hide what is newer.
    pub timestamp: Duration,
}

impl Repository {
    /// Publishes every draft, and signs snapshot and timestamp anew.
    ///
    /// Without drafts it only makes the repository fresh again.
    ///
    /// # Errors
    /// A draft that lacks signatures, or keys that hold neither role.
    pub async fn publish(
        &self,
        keys: &[Private],
        now: Time,
        lives: Lifetimes,
    ) -> anyhow::Result<u64> {
        for draft in self.waiting()? {
            if let Some(missing) = draft.missing {
                bail!("publishing {}: {missing}", draft.role);
            }
        }
        let (old, timestamp) = (self.snapshot()?, self.timestamp()?);
        let mut meta = old.as_ref().map(|old| old.signed.meta.clone()).unwrap_or_default();
        self.name::<Root>(Role::Root, None)?;
        for role in [Role::Targets, Role::App, Role::Models, Role::Operations] {
            self.name::<Targets>(role, Some(&mut meta))?;
        }
        let root = self.next_root()?;
        let snapshot = Snapshot {
            spec_version: SPECIFICATION.into(),
            version: after(old.map(|old| old.signed.version)),
            expires: expiry(now, lives.snapshot)?,
            meta,
            _extra: HashMap::new(),
        };
        let snapshot = signed(snapshot, &root, RoleType::Snapshot, keys).await?;
        let version = snapshot.signed.version;
        let file = self.metadata().join(format!("{version}.snapshot.json"));
        let entry = metafile(&write(&file, &snapshot)?, version);
        let version = after(timestamp.map(|old| old.signed.version));
        let stamp = stamp(entry, version, now, lives.timestamp)?;
        let stamp = signed(stamp, &root, RoleType::Timestamp, keys).await?;
        write(&self.metadata().join("timestamp.json"), &stamp)?;
        for role in DRAFTED {
            if self.draft_file(role).exists() {
                self.forget(role)?;
            }
        }
        Ok(version.get())
    }

    /// Copies the repository to a folder, a USB stick's for instance, with a timestamp that holds
    /// longer. One counter serves both: the copy takes the next version and the repository the one
    /// after it, so that a device that read the stick can go on with either.
    ///
    /// # Errors
    /// As [`Self::publish`]; drafts stay where they are.
    pub async fn export(
        &self,
        to: &Path,
        keys: &[Private],
        now: Time,
        copy: Duration,
        own: Duration,
    ) -> anyhow::Result<u64> {
        let folder = self.folder.display();
        let old = self.timestamp()?;
        let old = old.with_context(|| format!("{folder}: expected a publication, found none"))?;
        let entry = old.signed.meta.get("snapshot.json").cloned();
        let entry = entry.with_context(|| format!("{folder}: expected a snapshot, found none"))?;
        let root = self.root()?.with_context(|| format!("{folder}: expected a root"))?.signed;
        files::folder(to)?;
        let copy_version = after(Some(old.signed.version));
        let own_version = after(Some(copy_version));
        let carried = stamp(entry.clone(), copy_version, now, copy)?;
        let carried = signed(carried, &root, RoleType::Timestamp, keys).await?;
        let stamp = stamp(entry, own_version, now, own)?;
        let stamp = signed(stamp, &root, RoleType::Timestamp, keys).await?;
        for part in ["targets", "metadata"] {
            copy_new(&self.folder.join(part), &to.join(part))?;
        }
        // Ours first: were it the other way, a stick could be ahead of what is ever online.
        write(&self.metadata().join("timestamp.json"), &stamp)?;
        write(&to.join("metadata/timestamp.json"), &carried)?;
        Ok(copy_version.get())
    }

    /// Gives a draft its published name; the snapshot that will name it makes it count.
    fn name<T: Document + DeserializeOwned>(
        &self,
        role: Role,
        meta: Option<&mut HashMap<String, Metafile>>,
    ) -> anyhow::Result<()> {
        let Some(draft) = self.drafted::<T>(role)? else { return Ok(()) };
        let version = draft.signed.version();
        let file = self.metadata().join(format!("{version}.{role}.json"));
        let bytes = write(&file, &draft)?;
        if let Some(meta) = meta {
            meta.insert(format!("{role}.json"), metafile(&bytes, version));
        }
        Ok(())
    }
}

/// A timestamp, which also says when it was signed: a time that has passed, whatever the clock of
/// whoever reads it says.
fn stamp(
    entry: Metafile,
    version: NonZeroU64,
    now: Time,
    life: Duration,
) -> anyhow::Result<Timestamp> {
    Ok(Timestamp {
        spec_version: SPECIFICATION.into(),
        version,
        expires: expiry(now, life)?,
        meta: HashMap::from([("snapshot.json".to_owned(), entry)]),
        _extra: HashMap::from([(SIGNED_AT.to_owned(), now.to_string().into())]),
    })
}

/// Signs a document by those of `keys` that hold the role.
async fn signed<T: Document>(
    document: T,
    root: &Root,
    kind: RoleType,
    keys: &[Private],
) -> anyhow::Result<Signed<T>> {
    let held =
        root.roles.get(&kind).with_context(|| format!("root: expected {kind}, found none"))?;
    let mut signed = Signed { signed: document, signatures: Vec::new() };
    for key in keys.iter().filter(|key| held.keyids.contains(&key.id)) {
        signed.signatures.push(key.sign(&signed.signed).await?);
    }
    root.verify_role(&signed).with_context(|| format!("signing {kind}"))?;
    Ok(signed)
}

fn metafile(bytes: &[u8], version: NonZeroU64) -> Metafile {
    let sha256 = Sha256::of(bytes).0.to_vec().into();
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes { sha256, _extra: HashMap::new() }),
        version,
        _extra: HashMap::new(),
    }
}

/// Copies what is not there yet. Every name but `timestamp.json`'s says its version or its content,
/// and that one is written at the end.
fn copy_new(from: &Path, to: &Path) -> anyhow::Result<()> {
    files::folder(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name();
        if source.is_dir() {
            copy_new(&source, &target)?;
        } else if name != "timestamp.json"
            && !name.to_string_lossy().starts_with('.')
            && fs::metadata(&target).ok().map(|m| m.len())
                != fs::metadata(&source).ok().map(|m| m.len())
        {
            copy(&source, &target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let what = || format!("copying {} to {}", from.display(), to.display());
    let new = files::unfinished(to);
    fs::copy(from, &new).with_context(what)?;
    fs::File::open(&new).and_then(|f| f.sync_all()).with_context(what)?;
    fs::rename(&new, to).with_context(what)?;
    files::sync_folder_of(to)?;
    Ok(())
}
