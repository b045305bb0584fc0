//! Files that are whole and synced, or not there, and that never grow beyond what was allowed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file or folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", file.display())]
pub struct FileError {
    /// What was done.
    pub action: &'static str,
    /// To which file.
    pub file: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// Says what was done to which file.
pub fn io<'a>(action: &'static str, file: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { action, file: file.into(), source }
}

/// The bytes of a file of at most `limit` bytes.
///
/// # Errors
/// A file that cannot be read, or that is longer.
pub fn read(file: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let open = File::open(file).map_err(io("opening", file))?;
    read_open(open, limit).map_err(io("reading", file))
}

/// The same of a file that is open.
///
/// # Errors
/// The same.
pub fn read_open(open: impl io::Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("expected at most {limit} bytes, found more")));
    }
    Ok(bytes)
}

/// The same, or nothing where there is no file.
///
/// # Errors
/// The same.
pub fn read_if_there(file: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    match read(file, limit) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Writes a file in one piece: whole and synced, or what was there before.
///
/// One process writes a file; what a killed one left under the temporary name is overwritten.
///
/// # Errors
/// The disk fails; what was there stays.
pub fn put(file: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let new = unfinished(file);
    let mut options = File::options();
    let mut open = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .map_err(io("making", &new))?;
    open.write_all(bytes).and_then(|()| open.sync_all()).map_err(io("writing", &new))?;
    std::fs::rename(&new, file).map_err(io("naming", file))?;
    sync_folder_of(file)
}

/// Name of a file while it is written.
pub fn unfinished(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.tmp"))
}

/// Makes the names in a file's folder durable.
///
/// # Errors
/// The disk fails.
pub fn sync_folder_of(file: &Path) -> Result<(), FileError> {
    // A bare name's parent is an empty path, which is no folder to open.
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The disk fails.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(io("syncing", folder))
}

/// Makes a folder, and its name durable; one that is there is left alone.
///
/// # Errors
/// The disk fails, or something else has the name.
pub fn folder(path: &Path) -> Result<(), FileError> {
    match std::fs::create_dir(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(io("making the folder", path)(error)),
    }
}
