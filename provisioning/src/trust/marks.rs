//! The newest that was ever believed: a lower bound that does not rest on the library's files.
//!
//! `tough` takes an old file that it cannot read for none, and forgets its timestamp and snapshot
//! whenever the root that it is given has other keys than the newest one. Each is a way back to an
//! old release. These marks are kept with the agent's own checked state and compared with whatever
//! the library says.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::{RoleType, Root, Targets};

use super::Refusal;
use crate::release::Sha256;
use crate::role::Role;

/// The newest that was ever believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Of each role; none before the first metadata.
    pub roles: BTreeMap<Role, Mark>,
    /// No release of a lower epoch is installed.
    pub epoch: u32,
    /// When the newest timestamp was signed: a time that has passed, whatever the clock says.
    pub time: Option<DateTime<Utc>>,
}

/// Of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Version of its document.
    pub version: u64,
    /// Digest of the identifiers of the keys that hold it.
    pub keys: Sha256,
}

impl Marks {
    /// Marks as these documents would set them; the epoch is decided by releases.
    pub(super) fn of(root: &Root, versions: &BTreeMap<Role, u64>, targets: &Targets) -> Self {
        let mut roles = BTreeMap::new();
        for (role, version) in versions {
            roles.insert(*role, Mark { version: *version, keys: keys(*role, root, targets) });
        }
        Self { roles, epoch: 0, time: None }
    }

    /// Is everything at least as new as what was believed before?
    ///
    /// A role whose keys a newer root (or, for delegated roles, newer delegations) changed begins
    /// anew: that is how a fleet recovers after a thief of a key signed a version of 2^60. Timestamp
    /// and snapshot fall together, as TUF 5.3.11 has it.
    pub(super) fn check(&self, new: &Self) -> Result<(), Refusal> {
        let changed = |role: &Role| match (self.roles.get(role), new.roles.get(role)) {
            (Some(old), Some(new)) => old.keys != new.keys,
            _ => false,
        };
        let online = [Role::Timestamp, Role::Snapshot];
        let online_changed = online.iter().any(changed);
        for (role, old) in &self.roles {
            let found =
                new.roles.get(role).ok_or_else(|| Refusal::RoleMissing(role.to_string()))?;
            let anew = match role {
                Role::Root => false,
                Role::Timestamp | Role::Snapshot => online_changed,
                Role::Targets | Role::App | Role::Models | Role::Operations => changed(role),
            };
            if !anew && found.version < old.version {
                let (least, found) = (old.version, found.version);
                return Err(Refusal::Rollback { role: role.to_string(), least, found });
            }
        }
        Ok(())
    }
}

fn keys(role: Role, root: &Root, targets: &Targets) -> Sha256 {
    let of_root = |kind| root.roles.get(&kind).map(|held| held.keyids.clone());
    let held: Option<Vec<Decoded<Hex>>> = match role {
        Role::Root => of_root(RoleType::Root),
        Role::Timestamp => of_root(RoleType::Timestamp),
        Role::Snapshot => of_root(RoleType::Snapshot),
        Role::Targets => of_root(RoleType::Targets),
        Role::App | Role::Models | Role::Operations => {
            let delegated = targets.delegations.iter().flat_map(|d| &d.roles);
            delegated.into_iter().find(|d| d.name == role.name()).map(|d| d.keyids.clone())
        }
    };
    let sorted: BTreeSet<Vec<u8>> = held.unwrap_or_default().iter().map(|id| id.to_vec()).collect();
    Sha256::of(&sorted.into_iter().flatten().collect::<Vec<u8>>())
}
