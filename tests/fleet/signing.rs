//! Metadata as an attacker, or a holder of keys who errs, would change it: documents are read as
//! JSON, altered, and signed again by whatever keys there are.

use std::fs;
use std::path::{Path, PathBuf};

use clearfilm_fleet::keys::Private;
use clearfilm_fleet::release::Sha256;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tough::schema::{Role, Root, Signed, Snapshot, Targets, Timestamp};

use crate::office::{Office, SCENE, copy};

/// A repository that an attack changes: a copy of what was released last.
pub(crate) struct Mirror {
    folder: tempfile::TempDir,
}

/// Documents below the timestamp, from the bottom up: whoever changes one must name it anew above.
const BELOW: [&str; 4] = ["targets", "app", "models", "operations"];

impl Mirror {
    /// What was released last.
    pub(crate) fn new() -> Self {
        Self::of(&SCENE.office.repository())
    }

    pub(crate) fn of(repository: &Path) -> Self {
        let mirror = Self { folder: tempfile::tempdir().expect("a folder") };
        copy(repository, &mirror.path());
        mirror
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn metadata(&self, name: &str) -> PathBuf {
        self.path().join("metadata").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Value {
        let bytes = fs::read(self.metadata(name)).expect("there");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    pub(crate) fn write(&self, name: &str, document: &Value) {
        fs::write(self.metadata(name), document.to_string()).expect("written");
    }

    /// Name of the newest document of a role.
    pub(crate) fn newest(&self, role: &str) -> String {
        match role {
            "timestamp" => "timestamp.json".into(),
            "root" => {
                let newest =
                    (1..).take_while(|n| self.metadata(&format!("{n}.root.json")).exists());
                format!("{}.root.json", newest.last().expect("one at least"))
            }
            "snapshot" => {
                let version =
                    &self.read("timestamp.json")["signed"]["meta"]["snapshot.json"]["version"];
                format!("{version}.snapshot.json")
            }
            _ => {
                let snapshot = self.read(&self.newest("snapshot"));
                let version = &snapshot["signed"]["meta"][format!("{role}.json")]["version"];
                format!("{version}.{role}.json")
            }
        }
    }

    /// Alters what a role signed, signs it again by `keys`, and everything above it by those who may.
    pub(crate) fn alter(&self, role: &str, keys: &[&str], change: impl FnOnce(&mut Value)) {
        let name = self.newest(role);
        let mut document = self.read(&name);
        change(&mut document["signed"]);
        self.put(role, &name, &document["signed"], keys);
        self.name_anew(role);
    }

    /// Signs what is said and writes it.
    pub(crate) fn put(&self, role: &str, name: &str, signed: &Value, keys: &[&str]) {
        let document = sign(&SCENE.office, role, signed, keys);
        self.write(name, &document);
    }

    /// Names a changed document in the snapshot, and that in the timestamp, with the keys that may.
    pub(crate) fn name_anew(&self, role: &str) {
        if BELOW.contains(&role) {
            let name = self.newest(role);
            let entry = self.entry(&name);
            self.alter("snapshot", &["snapshot"], |snapshot| {
                snapshot["meta"][format!("{role}.json")] = entry;
            });
        } else if role == "snapshot" {
            let entry = self.entry(&self.newest("snapshot"));
            self.alter("timestamp", &["timestamp"], |timestamp| {
                timestamp["meta"]["snapshot.json"] = entry;
            });
        }
    }

    /// What the document above says of a document.
    fn entry(&self, name: &str) -> Value {
        let bytes = fs::read(self.metadata(name)).expect("there");
        let document: Value = serde_json::from_slice(&bytes).expect("JSON");
        json!({
            "version": document["signed"]["version"],
            "length": bytes.len(),
            "hashes": { "sha256": Sha256::of(&bytes).to_string() },
        })
    }

    /// The file of a target whose name begins so.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        for role in BELOW {
            let document = self.read(&self.newest(role));
            let targets = document["signed"]["targets"].as_object().expect("targets");
            if let Some((found, entry)) = targets.iter().find(|(found, _)| found.starts_with(name))
            {
                let sha = entry["hashes"]["sha256"].as_str().expect("a hash");
                let file = match found.rsplit_once('/') {
                    Some((folder, last)) => format!("{folder}/{sha}.{last}"),
                    None => format!("{sha}.{found}"),
                };
                return self.path().join("targets").join(file);
            }
        }
        unreachable!("no target begins with {name}")
    }

    /// Replaces a target by other bytes of a name of their own: the one below may be another's too.
    pub(crate) fn replace(&self, target: &Path, bytes: &[u8]) {
        fs::remove_file(target).expect("there");
        fs::write(target, bytes).expect("written");
    }

    /// Replaces the release's document, validly signed.
    pub(crate) fn release(&self, change: impl FnOnce(&mut Value)) {
        let file = self.target("release/0.2.0");
        let mut release: Value =
            serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
        change(&mut release);
        self.offer("targets", "release/0.2.0.json", release.to_string().as_bytes());
    }

    /// Lists a target, validly signed by a role.
    pub(crate) fn offer(&self, role: &str, name: &str, bytes: &[u8]) {
        let sha = Sha256::of(bytes).to_string();
        let file = match name.rsplit_once('/') {
            Some((folder, last)) => format!("{folder}/{sha}.{last}"),
            None => format!("{sha}.{name}"),
        };
        fs::write(self.path().join("targets").join(file), bytes).expect("written");
        self.alter(role, &[role], |targets| {
            targets["targets"][name] = json!({"length": bytes.len(), "hashes": {"sha256": sha}});
        });
    }
}

/// A document with the signatures of these keys.
pub(crate) fn sign(office: &Office, role: &str, signed: &Value, keys: &[&str]) -> Value {
    let keys: Vec<Private> =
        keys.iter().map(|key| Private::of(&office.key(key)).expect("a key")).collect();
    match role {
        "root" => signed_by::<Root>(signed, &keys),
        "timestamp" => signed_by::<Timestamp>(signed, &keys),
        "snapshot" => signed_by::<Snapshot>(signed, &keys),
        _ => signed_by::<Targets>(signed, &keys),
    }
}

fn signed_by<T: Role + Serialize + DeserializeOwned>(signed: &Value, keys: &[Private]) -> Value {
    let document: T = serde_json::from_value(signed.clone()).expect("a document of the role");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let sign = |key: &Private| runtime.block_on(key.sign(&document)).expect("signed");
    let signatures = keys.iter().map(sign).collect();
    let mut signed_json =
        serde_json::to_value(Signed { signed: document, signatures }).expect("JSON");
    // What is signed is said as it was read, whatever the type would make of it.
    signed_json["signed"] = signed.clone();
    signed_json
}
