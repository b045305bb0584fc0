//! Files that are whole and synced, or not there: a process may be killed at any instant.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Ending of files that are being written; what a killed process leaves has it.
pub(crate) const UNFINISHED: &str = ".tmp";

/// A file or folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", file.display())]
pub struct FileError {
    /// What was done.
    action: &'static str,
    /// To which file.
    file: PathBuf,
    /// Why it failed.
    source: io::Error,
}

/// Says what was done to which file.
pub(crate) fn io<'a>(
    action: &'static str,
    file: &'a Path,
) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { action, file: file.into(), source }
}

/// Writes a file in one piece. Two processes that make the same one do not meet, because each
/// writes under a name of its own.
///
/// # Errors
/// The disk fails; what was there stays.
pub fn put(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut new = beside(file)?;
    new.write_all(bytes).map_err(io("writing", file))?;
    persist(new, file)
}

/// A file of our own in the same folder.
pub(crate) fn beside(file: &Path) -> Result<NamedTempFile, FileError> {
    tempfile::Builder::new()
        .prefix(".")
        .suffix(UNFINISHED)
        // Others on the cluster read it too, as far as the umask allows.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder_of(file))
        .map_err(io("making a file beside", file))
}

/// Syncs a file and gives it its name.
pub(crate) fn persist(new: NamedTempFile, file: &Path) -> Result<(), FileError> {
    new.as_file().sync_all().map_err(io("syncing", file))?;
    new.persist(file).map_err(|error| io("naming", file)(error.error))?;
    let folder = folder_of(file);
    File::open(folder).and_then(|f| f.sync_all()).map_err(io("syncing", folder))
}

fn folder_of(file: &Path) -> &Path {
    // A bare name's parent is an empty path, which is no folder to open.
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
