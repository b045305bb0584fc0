//! Documents that still lack signatures, and the signing of them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp as Time;
use serde::de::DeserializeOwned;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::{Delegations, Error, Role as Document, RoleType, Root, Signed, Targets};

use super::{Repository, after, expiry, read, write};
use crate::keys::Private;
use crate::role::{Role, SPECIFICATION};

/// A drafted document and how far it is signed.
#[derive(Debug)]
pub struct Draft {
    /// Whose.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// What is missing, in words; nothing where it is complete.
    pub missing: Option<String>,
}

/// Roles that can be drafted; the others are signed when they are published.
pub(super) const DRAFTED: [Role; 5] =
    [Role::Root, Role::Targets, Role::App, Role::Models, Role::Operations];

impl Repository {
    pub(super) fn draft_file(&self, role: Role) -> PathBuf {
        self.drafts().join(format!("{role}.json"))
    }

    /// Drafts a document; signatures of an earlier draft are void.
    pub(super) fn draft<T: Document>(&self, role: Role, document: T) -> anyhow::Result<()> {
        let unsigned = Signed { signed: document, signatures: Vec::new() };
        write(&self.draft_file(role), &unsigned).map(drop)
    }

    pub(super) fn drafted<T: DeserializeOwned>(
        &self,
        role: Role,
    ) -> anyhow::Result<Option<Signed<T>>> {
        let file = self.draft_file(role);
        if file.exists() { read(&file).map(Some) } else { Ok(None) }
    }

    /// What a role would publish next: its draft, or what it published with a new version and life.
    pub(super) fn next_targets(
        &self,
        role: Role,
        now: Time,
        life: Duration,
    ) -> anyhow::Result<Targets> {
        if let Some(draft) = self.drafted::<Targets>(role)? {
            return Ok(draft.signed);
        }
        let published = self.targets(role)?.map(|targets| targets.signed);
        let version = after(published.as_ref().map(|targets| targets.version));
        let mut targets = published
            .unwrap_or_else(|| Targets::new(SPECIFICATION.into(), version, Time::UNIX_EPOCH));
        if role != Role::Targets {
            targets.delegations = None;
        }
        targets.version = version;
        targets.expires = expiry(now, life)?;
        Ok(targets)
    }

    /// Adds the signatures that these keys can give to every draft.
    ///
    /// # Errors
    /// A key that may sign none of them: somebody brought the wrong one.
    pub async fn sign(&self, keys: &[Private]) -> anyhow::Result<Vec<Draft>> {
        let mut used = vec![false; keys.len()];
        for role in DRAFTED {
            if role == Role::Root {
                self.sign_one::<Root>(role, keys, &mut used).await?;
            } else {
                self.sign_one::<Targets>(role, keys, &mut used).await?;
            }
        }
        if let Some(unused) = used.iter().position(|used| !used) {
            let id = data_encoding::HEXLOWER.encode(&keys[unused].id);
            bail!(
                "signing: expected a key of a drafted role, found {id}, which holds none of them"
            );
        }
        self.waiting()
    }

    async fn sign_one<T: Document + DeserializeOwned>(
        &self,
        role: Role,
        keys: &[Private],
        used: &mut [bool],
    ) -> anyhow::Result<()> {
        let Some(mut draft) = self.drafted::<T>(role)? else { return Ok(()) };
        let holders = self.signers(role)?;
        for (key, used) in keys.iter().zip(used) {
            if !holders.contains(&key.id) {
                continue;
            }
            *used = true;
            draft.signatures.retain(|signature| signature.keyid != key.id);
            draft.signatures.push(key.sign(&draft.signed).await?);
        }
        write(&self.draft_file(role), &draft).map(drop)
    }

    /// Identifiers of the keys whose signatures count for the draft of a role.
    fn signers(&self, role: Role) -> anyhow::Result<Vec<Decoded<Hex>>> {
        let of = |root: &Root, kind: RoleType| {
            root.roles.get(&kind).map(|role| role.keyids.clone()).unwrap_or_default()
        };
        match role {
            Role::Root => {
                let old = self.root()?.map(|root| of(&root.signed, RoleType::Root));
                let new = self.drafted::<Root>(role)?.map(|root| of(&root.signed, RoleType::Root));
                Ok(old.into_iter().chain(new).flatten().collect())
            }
            Role::Targets => Ok(of(&self.next_root()?, RoleType::Targets)),
            Role::Snapshot => Ok(of(&self.next_root()?, RoleType::Snapshot)),
            Role::Timestamp => Ok(of(&self.next_root()?, RoleType::Timestamp)),
            Role::App | Role::Models | Role::Operations => {
                let delegations = self.next_delegations()?;
                let held = delegations.roles.iter().find(|held| held.name == role.name());
                Ok(held.map(|held| held.keyids.clone()).unwrap_or_default())
            }
        }
    }

    /// The root that will be in force when everything drafted is published.
    pub(super) fn next_root(&self) -> anyhow::Result<Root> {
        let drafted = self.drafted::<Root>(Role::Root)?;
        let root = match drafted {
            Some(root) => Some(root),
            None => self.root()?,
        };
        let folder = self.folder.display();
        Ok(root
            .with_context(|| format!("{folder}: expected a root, found none: name its roles"))?
            .signed)
    }

    /// The delegations that will be in force then.
    pub(super) fn next_delegations(&self) -> anyhow::Result<Delegations> {
        let targets = match self.drafted::<Targets>(Role::Targets)? {
            Some(targets) => Some(targets),
            None => self.targets(Role::Targets)?,
        };
        let folder = self.folder.display();
        targets
            .and_then(|targets| targets.signed.delegations)
            .with_context(|| format!("{folder}: expected delegations, found none: name its roles"))
    }

    /// Every draft, and what it lacks.
    ///
    /// # Errors
    /// A draft that cannot be read.
    pub fn waiting(&self) -> anyhow::Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        for role in DRAFTED {
            if role == Role::Root {
                let Some(draft) = self.drafted::<Root>(role)? else { continue };
                let by_old = match self.root()? {
                    Some(old) => old.signed.verify_role(&draft).err(),
                    None => None,
                };
                let by_new = draft.signed.verify_role(&draft).err();
                let missing = by_old.map(|e| format!("of the root in force, {}", lacking(&e)));
                let missing = missing.or(by_new.map(|e| lacking(&e)));
                drafts.push(Draft { role, version: draft.signed.version.get(), missing });
                continue;
            }
            let Some(draft) = self.drafted::<Targets>(role)? else { continue };
            let verified = match role {
                Role::Root | Role::Snapshot | Role::Timestamp | Role::Targets => {
                    self.next_root()?.verify_role(&draft)
                }
                Role::App | Role::Models | Role::Operations => {
                    self.next_delegations()?.verify_role(&draft, role.name())
                }
            };
            let missing = verified.err().map(|error| lacking(&error));
            drafts.push(Draft { role, version: draft.signed.version.get(), missing });
        }
        Ok(drafts)
    }

    /// Forgets a draft.
    pub(super) fn forget(&self, role: Role) -> anyhow::Result<()> {
        let file = self.draft_file(role);
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
    }
}

/// What a draft lacks; the library calls every delegated role "targets".
fn lacking(error: &Error) -> String {
    if let Error::SignatureThreshold { threshold, valid, .. } = error {
        return format!("expected signatures by {threshold} of its holders, found {valid}");
    }
    error.to_string()
}
