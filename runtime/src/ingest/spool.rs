//! The durable inbox on disk: one file per instance, named by our id.
//!
//! `spool/tmp/<id>` while it arrives, `spool/<id>.dcm` once it is complete and synced,
//! `quarantine/<id>.dcm` when it cannot be read. Names never come from the object.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::id::{Digest, Hashing, InstanceId};

/// Ending of a complete file.
const ENDING: &str = "dcm";

/// The folders under the storage path.
#[derive(Debug, Clone)]
pub struct Spool {
    tmp: PathBuf,
    complete: PathBuf,
    quarantine: PathBuf,
}

/// An action on the spool that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", file.display())]
pub struct SpoolError {
    action: &'static str,
    file: PathBuf,
    source: io::Error,
}

impl Spool {
    /// Makes the folders where they are missing and throws away what never became complete.
    ///
    /// # Errors
    /// A folder cannot be made, read or synced.
    pub fn open(storage: &Path) -> Result<Self, SpoolError> {
        let complete = storage.join("spool");
        let spool =
            Self { tmp: complete.join("tmp"), quarantine: storage.join("quarantine"), complete };
        for folder in [&spool.complete, &spool.tmp, &spool.quarantine] {
            fs::create_dir_all(folder).map_err(failed("making folder", folder))?;
        }
        // What lies in `tmp` was never acknowledged: its sender will send it again.
        for entry in
            fs::read_dir(&spool.tmp).map_err(failed("reading folder", &spool.tmp))?.flatten()
        {
            fs::remove_file(entry.path()).map_err(failed("removing", &entry.path()))?;
        }
        for folder in [storage, &spool.complete] {
            sync(folder)?;
        }
        Ok(spool)
    }

    /// Where a complete instance lies.
    #[must_use]
    pub fn path(&self, id: InstanceId) -> PathBuf {
        self.complete.join(format!("{id}.{ENDING}"))
    }

    /// The complete instances, by rising id.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn complete(&self) -> Result<Vec<InstanceId>, SpoolError> {
        instances_in(&self.complete)
    }

    /// Sets an instance aside that cannot be read; its bytes stay.
    ///
    /// # Errors
    /// The file cannot be moved. Where it was moved before, nothing is left to do.
    pub fn set_aside(&self, id: InstanceId) -> Result<(), SpoolError> {
        let (from, to) = (self.path(id), self.quarantine.join(format!("{id}.{ENDING}")));
        match fs::rename(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
            other => other.map_err(failed("setting aside", &from)),
        }?;
        sync(&self.quarantine)?;
        sync(&self.complete)
    }

    /// Removes an instance whose bytes are kept elsewhere or no longer needed.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, id: InstanceId) -> Result<(), SpoolError> {
        let file = self.path(id);
        fs::remove_file(&file).map_err(failed("removing", &file))
    }

    /// Removes every file of an instance; none is fine too.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn forget(&self, id: InstanceId) -> Result<(), SpoolError> {
        for folder in [&self.complete, &self.quarantine] {
            let file = folder.join(format!("{id}.{ENDING}"));
            match fs::remove_file(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other.map_err(failed("removing", &file))?;
                    sync(folder)?;
                }
            }
        }
        Ok(())
    }

    /// Instances that were set aside, by rising id.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn quarantined(&self) -> Result<Vec<InstanceId>, SpoolError> {
        instances_in(&self.quarantine)
    }

    /// Begins a file for a new instance.
    pub(super) fn begin(&self) -> Result<Writing<'_>, SpoolError> {
        let id = InstanceId::new();
        let path = self.tmp.join(id.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed("making", &path))?;
        Ok(Writing {
            spool: self,
            id,
            path,
            file,
            hashing: Hashing::default(),
            start: 0,
            bytes: 0,
            kept: false,
        })
    }
}

/// A file that is being written; dropped before it is complete, it is gone.
pub(super) struct Writing<'a> {
    spool: &'a Spool,
    id: InstanceId,
    path: PathBuf,
    file: File,
    hashing: Hashing,
    start: u64,
    bytes: u64,
    kept: bool,
}

impl Writing<'_> {
    /// Our id of the instance.
    pub(super) fn id(&self) -> InstanceId {
        self.id
    }

    /// Where the unfinished file lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Byte of the file at which the data set begins.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes of the data set so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Digest of the data set so far.
    pub(super) fn digest(&self) -> Digest {
        self.hashing.clone().finish()
    }

    /// Writes what stands before the data set.
    pub(super) fn preface(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.file.write_all(bytes).map_err(failed("writing", &self.path))?;
        self.start += bytes.len() as u64;
        Ok(())
    }

    /// Writes the next piece of the data set.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.file.write_all(bytes).map_err(failed("writing", &self.path))?;
        self.hashing.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file's bytes.
    pub(super) fn sync(&self) -> Result<(), SpoolError> {
        self.file.sync_all().map_err(failed("syncing", &self.path))
    }

    /// Gives the synced file its name and syncs the folder.
    pub(super) fn complete(&mut self) -> Result<(), SpoolError> {
        let to = self.spool.path(self.id);
        fs::rename(&self.path, &to).map_err(failed("renaming", &self.path))?;
        self.kept = true;
        sync(&self.spool.complete)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(instance = %self.id, %error, "an unfinished file stays until the next start");
        }
    }
}

fn instances_in(folder: &Path) -> Result<Vec<InstanceId>, SpoolError> {
    let entries = fs::read_dir(folder).map_err(failed("reading folder", folder))?;
    let mut ids: Vec<InstanceId> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".dcm")?.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

fn sync(folder: &Path) -> Result<(), SpoolError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("syncing folder", folder))
}

fn failed(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let file = file.to_path_buf();
    move |source| SpoolError { action, file, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_became_complete_is_gone_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let spool = Spool::open(folder.path()).expect("opened");
        let mut torn = spool.begin().expect("begun");
        torn.push(b"half an ima").expect("written");
        std::mem::forget(torn);
        let mut whole = spool.begin().expect("begun");
        whole.push(b"image").expect("written");
        whole.sync().expect("synced");
        whole.complete().expect("completed");
        let id = whole.id();
        assert_eq!(whole.digest(), Digest::of(b"image"));
        let again = Spool::open(folder.path()).expect("opened");
        assert_eq!(again.complete().expect("read"), [id]);
        assert_eq!(fs::read_dir(&again.tmp).expect("read").count(), 0);
    }

    #[test]
    fn setting_aside_twice_is_the_same_as_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let spool = Spool::open(folder.path()).expect("opened");
        let mut file = spool.begin().expect("begun");
        file.complete().expect("completed");
        spool.set_aside(file.id()).expect("moved");
        spool.set_aside(file.id()).expect("moved before");
        assert!(spool.complete().expect("read").is_empty());
        assert!(spool.set_aside(InstanceId::new()).is_err());
    }
}
