//! Who holds which role: from a file that a person writes to a drafted root and its delegations.
//!
//! Rotating a key and revoking one are the same act: another list of keys. A role whose keys changed
//! is drafted again too, so that no published document rests on a key that was taken away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp as Time;
use serde::Deserialize;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{
    DelegatedRole, Delegations, PathPattern, PathSet, RoleKeys, RoleType, Root, Targets,
};

use super::{Repository, after, expiry};
use crate::files;
use crate::keys::Public;
use crate::role::{Role, SPECIFICATION};

/// Largest file that names holders.
const SIZE_MAX: u64 = 64 * 1024;

/// Fewest signatures that a root needs: one lost or stolen key must neither lock everybody out nor
/// let a thief in.
const ROOT_THRESHOLD_MIN: u64 = 2;

/// The holders of all roles.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Holders(BTreeMap<Role, Holder>);

/// The holders of one role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holder {
    /// Files of public keys, relative to the file that names them.
    keys: Vec<PathBuf>,
    /// How many of them must sign.
    threshold: NonZeroU64,
}

/// Keys of a role that were read.
struct Held {
    keys: BTreeMap<String, (Decoded<Hex>, Key)>,
    threshold: NonZeroU64,
}

impl Holders {
    /// Reads a file of holders.
    ///
    /// # Errors
    /// A file of another form.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let what = || format!("reading the roles in {}", file.display());
        let bytes = files::read(file, SIZE_MAX)?;
        let text = std::str::from_utf8(&bytes).with_context(what)?;
        let mut holders: Self = toml::from_str(text).with_context(what)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for holder in holders.0.values_mut() {
            holder.keys = holder.keys.iter().map(|key| folder.join(key)).collect();
        }
        Ok(holders)
    }

    fn held(&self, role: Role) -> anyhow::Result<Held> {
        let holder = self.0.get(&role);
        let holder = holder.with_context(|| format!("roles: expected {role}, found none"))?;
        let mut keys = BTreeMap::new();
        for file in &holder.keys {
            let public = Public::of(file)?;
            keys.insert(public.id()?, (public.key_id()?, public.0));
        }
        let (threshold, found) = (holder.threshold.get(), keys.len() as u64);
        ensure!(
            threshold <= found,
            "roles: {role}: expected {threshold} different keys at least, found {found}"
        );
        ensure!(
            role != Role::Root || threshold >= ROOT_THRESHOLD_MIN,
            "roles: root: expected a threshold of {ROOT_THRESHOLD_MIN} at least, found {threshold}"
        );
        Ok(Held { keys, threshold: holder.threshold })
    }

    /// A root of these holders.
    fn root(&self, version: NonZeroU64, expires: Time) -> anyhow::Result<Root> {
        let types = [
            (Role::Root, RoleType::Root),
            (Role::Targets, RoleType::Targets),
            (Role::Snapshot, RoleType::Snapshot),
            (Role::Timestamp, RoleType::Timestamp),
        ];
        let (mut keys, mut roles) = (HashMap::new(), HashMap::new());
        for (role, kind) in types {
            let held = self.held(role)?;
            let keyids = held.keys.values().map(|(id, _)| id.clone()).collect();
            keys.extend(held.keys.into_values());
            let entry = RoleKeys { keyids, threshold: held.threshold, _extra: HashMap::new() };
            roles.insert(kind, entry);
        }
        Ok(Root {
            spec_version: SPECIFICATION.into(),
            consistent_snapshot: true,
            version,
            expires,
            keys,
            roles,
            _extra: HashMap::new(),
        })
    }

    /// What `Targets` delegates to these holders.
    fn delegations(&self) -> anyhow::Result<Delegations> {
        let mut delegations = Delegations::new();
        for role in Role::DELEGATED {
            let held = self.held(role)?;
            let pattern = role.pattern().context("a delegated role has a pattern")?;
            let pattern = PathPattern::new(pattern).context("a pattern of ours is one")?;
            delegations.roles.push(DelegatedRole {
                name: role.name().into(),
                keyids: held.keys.values().map(|(id, _)| id.clone()).collect(),
                threshold: held.threshold,
                paths: PathSet::Paths(vec![pattern]),
                terminating: true,
                targets: None,
            });
            delegations.keys.extend(held.keys.into_values());
        }
        Ok(delegations)
    }
}

/// Who holds a role of the root: identifiers of keys, sorted, and how many must sign.
fn holders_of(root: &Root, kind: RoleType) -> Option<(BTreeSet<Vec<u8>>, NonZeroU64)> {
    let role = root.roles.get(&kind)?;
    Some((role.keyids.iter().map(|id| id.to_vec()).collect(), role.threshold))
}

impl Repository {
    /// Drafts what must change so that these are the holders of the roles; `renew` drafts a new root
    /// also where nobody changed, because the old one ends.
    ///
    /// Returns the roles that were drafted.
    ///
    /// # Errors
    /// Holders that cannot be read, or too few of them.
    pub fn hold(
        &self,
        holders: &Holders,
        renew: bool,
        now: Time,
        life: Duration,
    ) -> anyhow::Result<Vec<Role>> {
        self.make_folders()?;
        let mut drafted = Vec::new();
        let published = self.root()?.map(|root| root.signed);
        let version = after(published.as_ref().map(|root| root.version));
        let root = holders.root(version, expiry(now, life)?)?;
        let same = |kind| {
            published.as_ref().is_some_and(|old| holders_of(old, kind) == holders_of(&root, kind))
        };
        let targets_same = same(RoleType::Targets);
        let others = [RoleType::Root, RoleType::Snapshot, RoleType::Timestamp];
        if renew || !targets_same || !others.into_iter().all(same) {
            self.draft(Role::Root, root)?;
            drafted.push(Role::Root);
        }
        let delegations = holders.delegations()?;
        let targets = self.targets(Role::Targets)?.map(|targets| targets.signed);
        let old = targets.as_ref().and_then(|targets| targets.delegations.as_ref());
        if old != Some(&delegations) || !targets_same {
            let mut targets = self.next_targets(Role::Targets, now, life)?;
            targets.delegations = Some(delegations.clone());
            self.draft(Role::Targets, targets)?;
            drafted.push(Role::Targets);
        }
        for role in Role::DELEGATED {
            let find = |d: &Delegations| d.roles.iter().find(|r| r.name == role.name()).cloned();
            if old.and_then(find) != find(&delegations) {
                let targets: Targets = self.next_targets(role, now, life)?;
                self.draft(role, targets)?;
                drafted.push(role);
            }
        }
        Ok(drafted)
    }

    fn make_folders(&self) -> anyhow::Result<()> {
        files::folder(&self.folder)?;
        for folder in [self.metadata(), self.targets_folder(), self.drafts()] {
            files::folder(&folder)?;
        }
        for folder in ["app", "models", "release"] {
            files::folder(&self.targets_folder().join(folder))?;
        }
        Ok(())
    }
}
