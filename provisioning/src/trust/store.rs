//! The library's files, kept so that they are whole or known to be damaged.
//!
//! `tough` truncates and writes them without a sync. It is given a copy in a scratch folder, and
//! only what a whole check believed takes the place of what was there: synced, with a file of
//! digests, by one exchange of two folders' names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Refusal;
use crate::files::{self, FileError, io};
use crate::release::Sha256;
use crate::role::DOCUMENT_MAX;

/// What is kept: what the library compares new metadata with.
const KEPT: [&str; 3] = ["root.json", "timestamp.json", "snapshot.json"];

/// Digests of the others.
const SUMS: &str = "sums.json";

/// Largest file of digests.
const SUMS_MAX: u64 = 4096;

/// The library's files on disk.
#[derive(Debug)]
pub(super) struct Store {
    kept: PathBuf,
    scratch: PathBuf,
}

impl Store {
    pub(super) fn at(folder: &Path) -> Self {
        Self { kept: folder.join("metadata"), scratch: folder.join("metadata.new") }
    }

    /// The root that was believed last, and a scratch folder with what the library needs.
    ///
    /// `Ok(None)` before the first metadata. `believed` says that there was some.
    pub(super) fn open(&self, believed: bool) -> Result<Option<Vec<u8>>, Refusal> {
        if self.scratch.exists() {
            fs::remove_dir_all(&self.scratch).map_err(io("removing", &self.scratch))?;
        }
        fs::create_dir(&self.scratch).map_err(io("making the folder", &self.scratch))?;
        let Some(files) = self.read()? else {
            return if believed {
                Err(Refusal::StoreMissing(self.kept.display().to_string()))
            } else {
                Ok(None)
            };
        };
        for (name, bytes) in &files {
            let file = self.scratch.join(name);
            fs::write(&file, bytes).map_err(io("writing", &file))?;
        }
        Ok(files.get(KEPT[0]).cloned())
    }

    pub(super) fn exists(&self) -> bool {
        self.kept.exists()
    }

    /// Where the library may write.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// What is kept, or that it is damaged; nothing where there is no folder.
    fn read(&self) -> Result<Option<BTreeMap<String, Vec<u8>>>, Refusal> {
        if !self.kept.exists() {
            return Ok(None);
        }
        let damaged =
            |text: String| Refusal::StoreDamaged(format!("{}: {text}", self.kept.display()));
        let sums =
            files::read(&self.kept.join(SUMS), SUMS_MAX).map_err(|e| damaged(e.to_string()))?;
        let sums: BTreeMap<String, Sha256> =
            serde_json::from_slice(&sums).map_err(|e| damaged(format!("{SUMS}: {e}")))?;
        let mut kept = BTreeMap::new();
        for name in KEPT {
            let bytes = files::read(&self.kept.join(name), DOCUMENT_MAX)
                .map_err(|e| damaged(e.to_string()))?;
            let (expected, found) = (sums.get(name), Sha256::of(&bytes));
            if expected != Some(&found) {
                return Err(damaged(format!("{name}: expected {expected:?}, found {found}")));
            }
            kept.insert(name.to_owned(), bytes);
        }
        Ok(Some(kept))
    }

    /// Keeps what the library wrote, with the newest root.
    pub(super) fn keep(&self, root: &[u8]) -> Result<(), FileError> {
        let mut sums = BTreeMap::new();
        for entry in fs::read_dir(&self.scratch).map_err(io("reading", &self.scratch))? {
            let file = entry.map_err(io("reading", &self.scratch))?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !KEPT.contains(&name.as_str()) {
                fs::remove_file(&file).map_err(io("removing", &file))?;
            }
        }
        for name in KEPT {
            let file = self.scratch.join(name);
            let bytes = match name {
                "root.json" => root.to_vec(),
                _ => files::read(&file, DOCUMENT_MAX)?,
            };
            files::put(&file, &bytes, 0o600)?;
            sums.insert(name, Sha256::of(&bytes));
        }
        let text = serde_json::to_vec(&sums).map_err(|e| io("writing", &self.scratch)(e.into()))?;
        files::put(&self.scratch.join(SUMS), &text, 0o600)?;
        let exchanged = if self.kept.exists() {
            renameat_with(CWD, &self.scratch, CWD, &self.kept, RenameFlags::EXCHANGE)
        } else {
            renameat_with(CWD, &self.scratch, CWD, &self.kept, RenameFlags::NOREPLACE)
        };
        exchanged.map_err(|error| io("naming", &self.kept)(error.into()))?;
        files::sync_folder_of(&self.kept)
    }

    /// Sets damaged files aside, for somebody to look at.
    pub(super) fn set_aside(&self) -> Result<(), FileError> {
        let aside = self.kept.with_extension("damaged");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(io("removing", &aside))?;
        }
        if self.kept.exists() {
            fs::rename(&self.kept, &aside).map_err(io("naming", &aside))?;
        }
        files::sync_folder_of(&self.kept)
    }
}
