//! What a device believes of a repository: `tough` verifies, and this module does what the library
//! leaves to whoever calls it.
//!
//! 1. The root that was believed last is the one to begin with, the shipped one only at first.
//! 2. The library's files are replaced as a whole, synced, and a damaged or missing one refuses.
//! 3. Versions of every role, and the epoch, have a lower bound of our own ([`Marks`]).
//! 4. Time has a lower bound too, and it is what signers say, never what the clock says: a clock in
//!    1970 ends no metadata, and one that was ahead leaves nothing behind.
//! 5. Files are verified from our own disk, after they were synced (`stage`).
//! 6. Whatever the library reads has a limit.

mod marks;
mod refusal;
mod store;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clearfilm::clock::rfc3339;
use tough::schema::{Root, Signed, Target, Targets, Timestamp};
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader, TargetName};
use url::Url;

pub use marks::{Mark, Marks};
pub use refusal::Refusal;
use store::Store;

use crate::files::{self, FileError};
use crate::release::{self, FileEntry, Name, Part, Release, Sha256, target_path};
use crate::role::{DOCUMENT_MAX, FLEET, Role, SIGNED_AT, release_target};
use crate::rollout::{self, Rollout};
use crate::source::{BASE, Source};

/// Most roots that are followed at once: one a week for six years.
const ROOTS_MAX: u64 = 300;

/// What a device believes, on its disk.
#[derive(Debug)]
pub struct Trust {
    store: Store,
    shipped: PathBuf,
}

/// What was believed before.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The newest.
    pub marks: &'a Marks,
    /// A person said that the shipped root is begun with again.
    pub anew: bool,
}

/// Metadata that was verified, and where its files are.
#[derive(Debug)]
pub struct Verified {
    /// What is the newest now.
    pub marks: Marks,
    /// Was the clock behind a time that has passed?
    pub time_trusted: bool,
    /// When the root ends; whoever holds it must renew it before.
    pub root_expires: DateTime<Utc>,
    /// When the timestamp ends: the last moment at which this is believed.
    pub fresh_until: DateTime<Utc>,
    targets: Targets,
    source: Source,
}

/// A release and the bytes that were signed.
#[derive(Debug)]
pub struct SignedRelease {
    /// What they say.
    pub release: Release,
    /// Their digest, which names the release on a device.
    pub digest: Sha256,
    /// They themselves.
    pub bytes: Vec<u8>,
}

impl Trust {
    /// `folder` holds what was believed, `shipped` is the root that came with the device.
    #[must_use]
    pub fn at(folder: &Path, shipped: &Path) -> Self {
        Self { store: Store::at(folder), shipped: shipped.into() }
    }

    /// Was any metadata believed here?
    #[must_use]
    pub fn believed(&self) -> bool {
        self.store.exists()
    }

    /// Reads and verifies what a repository says now. Nothing is believed yet.
    ///
    /// # Errors
    /// [`Refusal`], and everything is as it was.
    pub async fn check(
        &self,
        source: &Source,
        known: &Known<'_>,
        now: DateTime<Utc>,
    ) -> Result<(Verified, Pending<'_>), Refusal> {
        let Known { marks: known, anew } = *known;
        let root = match self.store.open(!known.roles.is_empty() && !anew)? {
            Some(root) => root,
            None => files::read(&self.shipped, DOCUMENT_MAX)?,
        };
        let floor = known.time.map_or(now, |time| time.max(now));
        let base = Url::parse(BASE).map_err(|error| Refusal::Other(error.to_string()))?;
        let loader = RepositoryLoader::new(&root, base.clone(), base)
            .transport(source.clone())
            .limits(limits())
            .datastore(self.store.scratch())
            .expiration_enforcement(ExpirationEnforcement::Safe);
        let loaded = loader.load().await.map_err(|e| refusal::of(&e, &rfc3339(floor)))?;
        let lives = lives(&loaded)?;
        for (role, _, expires) in &lives {
            if *expires < floor {
                let (expires, time) = (rfc3339(*expires), rfc3339(floor));
                return Err(Refusal::Expired { role: role.to_string(), expires, time });
            }
        }
        let versions = lives.iter().map(|(role, version, _)| (*role, *version)).collect();
        let (root, targets) = (&loaded.root().signed, &loaded.targets().signed);
        let mut marks = Marks::of(root, &versions, targets);
        known.check(&marks)?;
        marks.epoch = known.epoch;
        let fresh_until = time(loaded.timestamp().signed.expires)?;
        marks.time = known.time.max(Some(signed_at(&loaded.timestamp().signed)?));
        let verified = Verified {
            marks,
            time_trusted: floor == now,
            root_expires: time(root.expires)?,
            fresh_until,
            targets: targets.clone(),
            source: source.clone(),
        };
        Ok((verified, Pending { store: &self.store, root: loaded.root().clone() }))
    }

    /// Sets damaged files aside. The marks stay, so nothing older than what was believed is believed
    /// when the shipped root is begun with again.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set_aside(&self) -> Result<(), FileError> {
        self.store.set_aside()
    }
}

/// Verified metadata that may be kept.
#[derive(Debug)]
pub struct Pending<'a> {
    store: &'a Store,
    root: Signed<Root>,
}

impl Pending<'_> {
    /// Keeps it, before the marks are written down: they must never be ahead of what is kept.
    ///
    /// # Errors
    /// The disk fails.
    pub fn keep(self) -> Result<(), Refusal> {
        let root = serde_json::to_vec(&self.root).map_err(|e| Refusal::Other(e.to_string()))?;
        Ok(self.store.keep(&root)?)
    }
}

impl Verified {
    /// Who installs what.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn rollout(&self) -> Result<Rollout, Refusal> {
        let target = self.target_of(Role::Operations, FLEET)?;
        let (bytes, _) = self.small(FLEET, target, rollout::SIZE_MAX)?;
        Ok(Rollout::parse(&bytes)?)
    }

    /// A release.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn release(&self, name: &Name) -> Result<SignedRelease, Refusal> {
        let target = release_target(&name.to_string());
        let found = self.target_of(Role::Targets, &target)?;
        let (bytes, digest) = self.small(&target, found, release::SIZE_MAX)?;
        let release = Release::parse(&bytes)?;
        if release.name != *name {
            return Err(Refusal::Mix(format!("{target}: expected {name}, found {}", release.name)));
        }
        if release.epoch < self.marks.epoch {
            let (least, found) = (self.marks.epoch, release.epoch);
            return Err(Refusal::Epoch { release: name.to_string(), least, found });
        }
        Ok(SignedRelease { release, digest, bytes })
    }

    /// Does the role that may offer it offer this file of a release?
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn offers(&self, part: Part, entry: &FileEntry) -> Result<(), Refusal> {
        let role = match part {
            Part::App => Role::App,
            Part::Bundle => Role::Models,
        };
        let name = part.target(&entry.sha256);
        let target = self.target_of(role, &name)?;
        let sha256 = Sha256::try_from(target.hashes.sha256.to_vec())?;
        if (sha256, target.length) == (entry.sha256, entry.length) {
            return Ok(());
        }
        let expected = format!("{} of {} bytes", entry.sha256, entry.length);
        Err(Refusal::Mix(format!(
            "{name}: expected {expected}, found {sha256} of {} bytes",
            target.length
        )))
    }

    /// Where the files are.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// A target that this very role lists, and no other one.
    fn target_of(&self, role: Role, name: &str) -> Result<&Target, Refusal> {
        let what = || Refusal::NotThere(format!("{role}: expected the target {name}, found none"));
        let key = TargetName::new(name).map_err(|_| what())?;
        if role == Role::Targets {
            return self.targets.targets.get(&key).ok_or_else(what);
        }
        let delegated = self.targets.delegated_targets(role.name()).map_err(|_| what())?;
        delegated.signed.targets.get(&key).ok_or_else(what)
    }

    fn small(&self, name: &str, target: &Target, limit: u64) -> Result<(Vec<u8>, Sha256), Refusal> {
        if target.length > limit {
            return Err(Refusal::Endless(format!(
                "{name}: expected at most {limit} bytes, found {}",
                target.length
            )));
        }
        let sha256 = Sha256::try_from(target.hashes.sha256.to_vec())?;
        let path = format!("targets/{}", target_path(name, &sha256));
        let bytes = self.source.read(&path, target.length)?;
        let found = Sha256::of(&bytes);
        if found != sha256 {
            let (target, expected, found) =
                (name.to_owned(), sha256.to_string(), found.to_string());
            return Err(Refusal::Content { target, expected, found });
        }
        Ok((bytes, sha256))
    }
}

/// Version and end of every role's document; none may be missing.
fn lives(loaded: &Repository) -> Result<Vec<(Role, u64, DateTime<Utc>)>, Refusal> {
    let life = |role, version: NonZeroU64, expires| {
        Ok::<_, Refusal>((role, version.get(), time(expires)?))
    };
    let (root, timestamp) = (&loaded.root().signed, &loaded.timestamp().signed);
    let (snapshot, targets) = (&loaded.snapshot().signed, &loaded.targets().signed);
    let mut lives = vec![
        life(Role::Root, root.version, root.expires)?,
        life(Role::Timestamp, timestamp.version, timestamp.expires)?,
        life(Role::Snapshot, snapshot.version, snapshot.expires)?,
        life(Role::Targets, targets.version, targets.expires)?,
    ];
    for role in Role::DELEGATED {
        // The library takes a role that the snapshot does not name for one without targets.
        let found = targets.delegated_targets(role.name());
        let found = &found.map_err(|_| Refusal::RoleMissing(role.to_string()))?.signed;
        lives.push(life(role, found.version, found.expires)?);
        // The library is content when somebody else may name the target.
        if let Some(name) = found.targets.keys().find(|name| !role.may_name(name.resolved())) {
            return Err(Refusal::Delegation(format!("{role}: may not name {}", name.raw())));
        }
    }
    Ok(lives)
}

/// When a timestamp was signed.
fn signed_at(timestamp: &Timestamp) -> Result<DateTime<Utc>, Refusal> {
    let wrong = |found: String| {
        Refusal::Malformed(format!(
            "timestamp: {SIGNED_AT}: expected a time before its end, found {found}"
        ))
    };
    let found = timestamp._extra.get(SIGNED_AT).and_then(|value| value.as_str());
    let found = found.ok_or_else(|| wrong("none".into()))?;
    let signed = found.parse::<DateTime<Utc>>().map_err(|_| wrong(found.into()))?;
    // A signer whose clock is wrong would lock every device out until then.
    if signed <= time(timestamp.expires)? { Ok(signed) } else { Err(wrong(found.into())) }
}

fn limits() -> Limits {
    Limits {
        max_root_size: DOCUMENT_MAX,
        max_targets_size: DOCUMENT_MAX,
        max_timestamp_size: DOCUMENT_MAX,
        max_snapshot_size: DOCUMENT_MAX,
        max_root_updates: ROOTS_MAX,
    }
}

fn time(time: jiff::Timestamp) -> Result<DateTime<Utc>, Refusal> {
    let found = DateTime::from_timestamp(time.as_second(), 0);
    found.ok_or_else(|| Refusal::Malformed(format!("expected a time of this age, found {time}")))
}
