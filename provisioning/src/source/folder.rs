//! A repository in a folder: files below it, and nothing that a link could lead to.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::SourceError;

/// A folder that holds a repository.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder; a stick that is pulled out meanwhile gives errors, not another stick's files.
    ///
    /// # Errors
    /// No folder.
    pub fn open_at(path: &Path) -> Result<Self, SourceError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(folder) => Ok(Self { folder, path: path.into() }),
            Err(error) => Err(SourceError::Failed {
                file: path.display().to_string(),
                text: error.to_string(),
            }),
        }
    }

    pub(super) fn open(
        &self,
        file: &str,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let name = self.path.join(file).display().to_string();
        // A pipe would be waited for without NONBLOCK, and a device read without an end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = match openat2(&self.folder, file, flags, Mode::empty(), resolve) {
            Ok(open) => File::from(open),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(SourceError::NotFound(name)),
            Err(Errno::LOOP | Errno::XDEV) => return Err(SourceError::NoFile(name)),
            Err(error) => {
                return Err(SourceError::Failed { file: name, text: error.to_string() });
            }
        };
        let failed = |error: std::io::Error| SourceError::Failed {
            file: name.clone(),
            text: error.to_string(),
        };
        if !open.metadata().map_err(failed)?.is_file() {
            return Err(SourceError::NoFile(name));
        }
        let mut open = open;
        open.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(Box::new(open))
    }
}
