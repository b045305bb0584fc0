//! The folder of engines that TensorRT built on this device.
//!
//! A serialised engine is native code. So the folder is private, and a record beside the engines
//! holds what they were built from and with, and the digest of each file. What does not fit is moved
//! aside before a session is made, and no engine's process ever opens it; an engine that came from
//! anywhere else has no record here.
//!
//! On disk: `current/` with the engines and `record.json`; `aside/`, the last folder that did not
//! fit, for whoever wants to know why; `lock`, because `doctor` and the service may meet here.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::platform::Platform;
use crate::bundle::Bundle;
use crate::config;
use crate::id::Digest;

/// The record's name among the engines.
const RECORD: &str = "record.json";

/// Files that a folder may have: an engine, its profile and its timing cache for each part of a
/// graph, and graphs fall into few parts.
const FILES_MAX: usize = 64;

/// What engines are built from and with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(BTreeMap<String, String>);

impl Key {
    /// Of a bundle's encoder, on this platform, with these options.
    #[must_use]
    pub fn new(bundle: &Bundle, platform: &Platform, config: &config::Engine) -> Self {
        let mut facts = platform.0.clone();
        facts.insert("encoder".into(), Digest::of(&bundle.encoder).to_string());
        let options = format!(
            "device {}, fp16 {}, workspace {}, precision {:?}, input {:?}",
            config.device,
            config.fp16,
            config.workspace.as_u64(),
            bundle.manifest.encoder.precision,
            [
                bundle.manifest.input.channels,
                bundle.manifest.input.height,
                bundle.manifest.input.width
            ],
        );
        facts.insert("options".into(), options);
        Self(facts)
    }

    /// The first fact in which a record differs; none where it is the same.
    fn differs(&self, record: &Self) -> Option<String> {
        let facts = self.0.keys().chain(record.0.keys());
        let of = |key: &Self, fact: &String| key.0.get(fact).map_or("none", |v| v).to_owned();
        facts
            .map(|fact| (fact, of(self, fact), of(record, fact)))
            .find(|(_, a, b)| a != b)
            .map(|(fact, expected, found)| format!("{fact}: expected {expected}, found {found}"))
    }
}

/// What stands beside the engines.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    key: Key,
    files: BTreeMap<String, Digest>,
}

/// Version of the record's form.
const VERSION: u32 = 1;

/// What was found of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Every engine is one of ours, for this key.
    Fitting,
    /// There is none yet.
    Nothing,
    /// What was there does not fit and was moved aside; says why.
    Aside(String),
}

/// The folder of built engines, for one process at a time: who waits finds what the other built.
#[derive(Debug)]
pub struct Built {
    root: PathBuf,
    bytes_max: u64,
    /// Held as long as this lives.
    _lock: File,
}

impl Built {
    /// Opens the folder, or makes it for this user alone; waits while another process has it, which
    /// is at most as long as an engine may take to be built.
    ///
    /// # Errors
    /// It cannot be made, not be made private, or not be locked.
    pub fn open(root: &Path, bytes_max: u64) -> io::Result<Self> {
        private(root)?;
        let lock = File::create(root.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { root: root.into(), bytes_max, _lock: lock })
    }

    /// Where engines are read from and written to.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Leaves the folder either fitting or empty.
    ///
    /// # Errors
    /// What does not fit cannot be moved aside.
    pub fn prepare(&self, key: &Key) -> io::Result<Found> {
        let folder = self.folder();
        let found = match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => return Err(error),
            Ok(_) => match self.fits(key) {
                Ok(()) => Found::Fitting,
                Err(why) => {
                    self.set_aside()?;
                    Found::Aside(why)
                }
            },
        };
        private(&folder)?;
        Ok(found)
    }

    /// Records what a build has left in the folder.
    ///
    /// # Errors
    /// The folder holds what no build leaves, or cannot be read or written.
    pub fn seal(&self, key: &Key) -> io::Result<()> {
        let folder = self.folder();
        let names = self.engines().map_err(io::Error::other)?;
        let digest = |name: String| {
            let file = folder.join(&name);
            File::open(&file)?.sync_all()?;
            Ok((name, Digest::of(&fs::read(file)?)))
        };
        let files = names.into_iter().map(digest).collect::<io::Result<_>>()?;
        let record = Record { v: VERSION, key: key.clone(), files };
        let unfinished = folder.join(format!("{RECORD}.new"));
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, folder.join(RECORD))?;
        File::open(&folder)?.sync_all()
    }

    /// Is every file one that the record names, for this key? What is compared first costs nothing;
    /// engines are opened last, and only to be hashed.
    fn fits(&self, key: &Key) -> Result<(), String> {
        let folder = self.folder();
        let names = self.engines()?;
        let text = fs::read(folder.join(RECORD)).map_err(|e| format!("{RECORD}: {e}"))?;
        let record: Record = serde_json::from_slice(&text).map_err(|e| format!("{RECORD}: {e}"))?;
        if record.v != VERSION {
            return Err(format!("{RECORD}: expected version {VERSION}, found {}", record.v));
        }
        if let Some(difference) = key.differs(&record.key) {
            return Err(difference);
        }
        if !names.iter().eq(record.files.keys()) {
            let listed: Vec<&String> = record.files.keys().collect();
            return Err(format!("expected the files {listed:?}, found {names:?}"));
        }
        for (name, expected) in &record.files {
            let bytes = fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
            let found = Digest::of(&bytes);
            if found != *expected {
                return Err(format!("{name}: expected {expected}, found {found}"));
            }
        }
        Ok(())
    }

    /// Names of the engines, sorted, without opening any of them.
    fn engines(&self) -> Result<Vec<String>, String> {
        let folder = self.folder();
        let of_folder = fs::symlink_metadata(&folder).map_err(|e| e.to_string())?;
        if !of_folder.is_dir() || of_folder.permissions().mode() & 0o077 != 0 {
            return Err("expected a folder for this user alone, found another".into());
        }
        let (mut names, mut bytes) = (Vec::new(), 0_u64);
        for entry in fs::read_dir(&folder).map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| e.to_string())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let facts = fs::symlink_metadata(entry.path()).map_err(|e| format!("{name}: {e}"))?;
            // A second name would be a way to change it from outside.
            if !facts.is_file() || facts.nlink() != 1 || facts.uid() != of_folder.uid() {
                return Err(format!("{name}: expected a plain file of our own, found another"));
            }
            bytes = bytes.saturating_add(facts.len());
            if names.len() >= FILES_MAX || bytes > self.bytes_max {
                return Err(format!(
                    "expected at most {FILES_MAX} files of {} bytes, found more",
                    self.bytes_max
                ));
            }
            names.push(name);
        }
        names.retain(|name| name != RECORD);
        names.sort_unstable();
        Ok(names)
    }

    /// Moves the folder aside. One is kept: it is for looking at, and disks are small.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn set_aside(&self) -> io::Result<()> {
        let aside = self.root.join("aside");
        match fs::symlink_metadata(&aside) {
            Ok(facts) if facts.is_dir() => fs::remove_dir_all(&aside)?,
            Ok(_) => fs::remove_file(&aside)?,
            Err(_) => {}
        }
        fs::rename(self.folder(), &aside)
    }
}

/// Makes a folder for this user alone; one that is there becomes so.
fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(driver: &str) -> Key {
        Key([("driver", driver), ("encoder", "sha256:0")].map(|(k, v)| (k.into(), v.into())).into())
    }

    fn built(root: &Path) -> Built {
        let built = Built::open(root, 1 << 20).expect("opened");
        assert_eq!(built.prepare(&key("1")).expect("prepared"), Found::Nothing);
        fs::write(built.folder().join("a.engine"), "native code").expect("written");
        fs::write(built.folder().join("a.timing"), "times").expect("written");
        built.seal(&key("1")).expect("sealed");
        built
    }

    #[test]
    fn what_was_built_here_fits_again_and_again() {
        let root = tempfile::tempdir().expect("a folder");
        let built = built(root.path());
        for _ in 0..2 {
            assert_eq!(built.prepare(&key("1")).expect("prepared"), Found::Fitting);
        }
        let mode = fs::metadata(built.folder()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    /// What `change` leaves is moved aside for a reason that holds `said`, and the folder is empty.
    #[track_caller]
    fn check_aside(change: impl FnOnce(&Path), driver: &str, said: &str) {
        let root = tempfile::tempdir().expect("a folder");
        let built = built(root.path());
        change(&built.folder());
        let Found::Aside(why) = built.prepare(&key(driver)).expect("prepared") else {
            panic!("expected it to be moved aside for {said}")
        };
        assert!(why.contains(said), "{why}");
        assert_eq!(fs::read_dir(built.folder()).expect("there").count(), 0);
        assert!(root.path().join("aside").exists());
    }

    #[test]
    fn what_is_stale_foreign_edited_or_unfinished_is_moved_aside() {
        let write = |name: &'static str, text: &'static str| {
            move |folder: &Path| fs::write(folder.join(name), text).expect("written")
        };
        check_aside(|_| {}, "2", "driver: expected 2, found 1");
        check_aside(write("a.engine", "native c0de"), "1", "a.engine: expected sha256:");
        check_aside(write("b.engine", "foreign"), "1", "expected the files");
        check_aside(write(RECORD, "{}"), "1", RECORD);
        let remove = |name: &'static str| {
            move |folder: &Path| fs::remove_file(folder.join(name)).expect("removed")
        };
        check_aside(remove(RECORD), "1", RECORD);
        check_aside(remove("a.timing"), "1", "expected the files");
    }

    #[test]
    fn a_file_with_two_names_a_link_and_a_folder_of_everybody_are_moved_aside() {
        let linked = |folder: &Path| {
            fs::hard_link(folder.join("a.engine"), folder.with_file_name("b")).expect("linked");
        };
        check_aside(linked, "1", "a.engine: expected a plain file");
        let symbolic = |folder: &Path| {
            std::os::unix::fs::symlink("/etc/passwd", folder.join("b.engine")).expect("linked");
        };
        check_aside(symbolic, "1", "b.engine: expected a plain file");
        let open = |folder: &Path| {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("set");
        };
        check_aside(open, "1", "expected a folder for this user alone");
        let large = |folder: &Path| {
            fs::write(folder.join("c.engine"), vec![0; 2 << 20]).expect("written");
        };
        check_aside(large, "1", "found more");
    }
}
