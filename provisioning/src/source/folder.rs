//! A repository in a folder: files below it, and nothing that a link could lead to.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
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
        let open = match self.beneath(file) {
            Ok(open) => File::from(open),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(SourceError::NotFound(name)),
            Err(Errno::LOOP) => return Err(SourceError::NoFile(name)),
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

    /// Opens a file below the folder; a link on the way, or a name that leads elsewhere, is
    /// [`Errno::LOOP`].
    ///
    /// Name by name: `openat2` would do it at once, and containers and older kernels do not have it.
    fn beneath(&self, file: &str) -> rustix::io::Result<OwnedFd> {
        let (folders, name) = file.rsplit_once('/').unwrap_or(("", file));
        let mut folder = self.folder.try_clone().map_err(|_| Errno::MFILE)?;
        for name in folders.split('/').filter(|name| !name.is_empty()) {
            folder = plain(&folder, name, OFlags::DIRECTORY)?;
        }
        // A pipe would be waited for without NONBLOCK, and a device read without an end.
        plain(&folder, name, OFlags::NONBLOCK)
    }
}

/// Opens what has this name in a folder, and nothing that a link of this name leads to.
fn plain(folder: &OwnedFd, name: &str, more: OFlags) -> rustix::io::Result<OwnedFd> {
    if matches!(name, "" | "." | "..") {
        return Err(Errno::LOOP);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
    match openat(folder, name, flags, Mode::empty()) {
        // What a link to a folder gives, and a file where a folder is looked for.
        Err(Errno::NOTDIR) => {
            let known = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let link = FileType::from_raw_mode(known.st_mode) == FileType::Symlink;
            Err(if link { Errno::LOOP } else { Errno::NOTDIR })
        }
        opened => opened,
    }
}
