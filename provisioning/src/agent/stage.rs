//! From a verified release to a folder that holds it whole: fetched, synced, hashed again, named.
//!
//! ```text
//! partial/<sha256>            a file that is being fetched; gone on with after an interruption
//! releases/<digest>.new/      a release that is being put together
//! releases/<digest>/          a whole release: app/, bundle/, release.json; nobody may write in it
//! ```
//!
//! The folder gets its name when everything in it is synced, so a name means a whole release. What
//! another release on the disk holds already is not fetched again.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clearfilm::clock::Clock;
use rustix::fs::statvfs;

use crate::files::{self, FileError, io};
use crate::release::{self, FileEntry, FilePath, Part, Release, Sha256, target_path};
use crate::trust::{Refusal, SignedRelease, Verified};

/// Bytes that are moved at a time.
const CHUNK: usize = 1 << 16;

/// Name of the document in a release's folder.
pub const DOCUMENT: &str = "release.json";

/// Limits of fetching.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes in a second; 0: no limit.
    pub rate: u64,
    /// Space that stays free, bytes.
    pub free_min: u64,
}

/// A release cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// What was offered is not believed, or cannot be reached.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would leave too little space.
    #[error("space: {}: expected {need} bytes and {free_min} that stay free, found {free}", folder.display())]
    Space {
        /// Where.
        folder: PathBuf,
        /// What it needs, bytes.
        need: u64,
        /// What must stay free, bytes.
        free_min: u64,
        /// What is free, bytes.
        free: u64,
    },
    /// The disk fails.
    #[error("disk: {0}")]
    Disk(#[from] FileError),
}

/// Where releases are kept.
pub struct Releases<'a> {
    folder: PathBuf,
    partial: PathBuf,
    /// Where the same files may lie, too.
    factory: Option<PathBuf>,
    limits: Limits,
    clock: &'a dyn Clock,
}

impl<'a> Releases<'a> {
    /// Below the agent's folder.
    ///
    /// # Errors
    /// The disk fails.
    pub fn at(
        folder: &Path,
        factory: Option<PathBuf>,
        limits: Limits,
        clock: &'a dyn Clock,
    ) -> Result<Self, FileError> {
        let (releases, partial) = (folder.join("releases"), folder.join("partial"));
        files::folder(&releases)?;
        files::folder(&partial)?;
        Ok(Self { folder: releases, partial, factory, limits, clock })
    }

    /// The folder of a whole release, if it is here.
    #[must_use]
    pub fn folder_of(&self, digest: &Sha256) -> Option<PathBuf> {
        let folder = self.folder.join(digest.to_string());
        folder.is_dir().then_some(folder)
    }

    /// Fetches a release for an architecture; one that is here whole is hashed again.
    ///
    /// # Errors
    /// [`StageError`]; what was fetched stays for the next time, unless it is wrong.
    pub fn stage(
        &self,
        verified: &Verified,
        signed: &SignedRelease,
        architecture: &str,
    ) -> Result<PathBuf, StageError> {
        let digest = signed.digest;
        let wanted = signed.release.files(architecture).map_err(Refusal::from)?;
        for (part, _, entry) in &wanted {
            verified.offers(*part, entry)?;
        }
        if let Some(folder) = self.folder_of(&digest) {
            for (part, path, entry) in &wanted {
                check(&folder.join(part.folder()).join(path), &path.to_string(), entry)?;
            }
            return Ok(folder);
        }
        let new = self.folder.join(format!("{digest}.new"));
        let mut here = self.contents()?;
        // What an interrupted attempt has placed is here too.
        for (part, path, entry) in &wanted {
            let placed = new.join(part.folder()).join(path);
            if placed.is_file() {
                here.insert(entry.sha256, placed);
            }
        }
        self.has_space(&wanted, &here)?;
        files::folder(&new)?;
        for (part, path, entry) in &wanted {
            let to = new.join(part.folder()).join(path);
            if check(&to, &path.to_string(), entry).is_ok() {
                continue;
            }
            if to.exists() {
                fs::remove_file(&to).map_err(io("removing", &to))?;
            }
            self.place(verified, *part, entry, &to, here.get(&entry.sha256))?;
            check(&to, &path.to_string(), entry)?;
        }
        files::put(&new.join(DOCUMENT), &signed.bytes, 0o444)?;
        sync_tree(&new)?;
        let whole = self.folder.join(digest.to_string());
        fs::rename(&new, &whole).map_err(io("naming", &whole))?;
        files::sync_folder(&self.folder)?;
        Ok(whole)
    }

    /// Every file of the whole releases, by what it holds.
    fn contents(&self) -> Result<BTreeMap<Sha256, PathBuf>, FileError> {
        let mut contents = BTreeMap::new();
        if let Some(factory) = &self.factory {
            for part in [Part::App, Part::Bundle] {
                hash_into(&factory.join(part.folder()), &mut contents)?;
            }
        }
        for entry in fs::read_dir(&self.folder).map_err(io("reading", &self.folder))?.flatten() {
            let folder = entry.path();
            let document = files::read_if_there(&folder.join(DOCUMENT), release::SIZE_MAX);
            let Ok(Some(bytes)) = document else { continue };
            let Ok(release) = Release::parse(&bytes) else { continue };
            let apps = release.app.builds.values().map(|files| (Part::App, files));
            for (part, files) in apps.chain([(Part::Bundle, &release.bundle.files)]) {
                for (path, entry) in files {
                    let file = folder.join(part.folder()).join(path);
                    if file.is_file() {
                        contents.insert(entry.sha256, file);
                    }
                }
            }
        }
        Ok(contents)
    }

    fn has_space(
        &self,
        wanted: &[(Part, &FilePath, &FileEntry)],
        here: &BTreeMap<Sha256, PathBuf>,
    ) -> Result<(), StageError> {
        let fetched = |entry: &&FileEntry| !here.contains_key(&entry.sha256);
        let lengths = wanted.iter().map(|(_, _, entry)| *entry).filter(fetched).map(|e| e.length);
        let need = lengths.fold(0_u64, u64::saturating_add);
        let known =
            statvfs(&self.folder).map_err(|e| io("asking for space in", &self.folder)(e.into()))?;
        let free = known.f_bavail.saturating_mul(known.f_frsize);
        let free_min = self.limits.free_min;
        if need.saturating_add(free_min) > free {
            return Err(StageError::Space { folder: self.folder.clone(), need, free_min, free });
        }
        Ok(())
    }

    /// Puts one file where it belongs: a second name of one that is here, a copy where it has
    /// another owner, or fetched.
    fn place(
        &self,
        verified: &Verified,
        part: Part,
        entry: &FileEntry,
        to: &Path,
        here: Option<&PathBuf>,
    ) -> Result<(), StageError> {
        let folder = to.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(io("making the folder", folder))?;
        let name = part.target(&entry.sha256);
        let mode = if entry.executable { 0o555 } else { 0o444 };
        // Two names of one file have one mode.
        let has_mode = |file: &Path| {
            fs::metadata(file).is_ok_and(|known| known.permissions().mode() & 0o777 == mode)
        };
        if let Some(here) = here
            && has_mode(here)
            && check(here, &name, entry).is_ok()
            && fs::hard_link(here, to).is_ok()
        {
            return Ok(());
        }
        let partial = self.partial.join(entry.sha256.to_string());
        // One that was interrupted before it got its name may have lost its owner's right to write.
        if partial.exists() {
            fs::set_permissions(&partial, Permissions::from_mode(0o600))
                .map_err(io("setting the mode of", &partial))?;
        }
        if let Some(here) = here
            && fs::copy(here, &partial).is_ok()
            && check(&partial, &name, entry).is_ok()
        {
            File::open(&partial).and_then(|f| f.sync_all()).map_err(io("syncing", &partial))?;
        } else {
            self.fetch(verified, &name, entry, &partial)?;
        }
        fs::set_permissions(&partial, Permissions::from_mode(mode))
            .map_err(io("setting the mode of", &partial))?;
        fs::rename(&partial, to).map_err(io("naming", to))?;
        Ok(())
    }

    fn fetch(
        &self,
        verified: &Verified,
        name: &str,
        entry: &FileEntry,
        partial: &Path,
    ) -> Result<(), StageError> {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(partial)
            .map_err(io("opening", partial))?;
        let begun = file.metadata().map_err(io("reading", partial))?.len().min(entry.length);
        if begun < entry.length {
            let path = format!("targets/{}", target_path(name, &entry.sha256));
            let from = verified
                .source()
                .open(&path, begun, entry.length - begun)
                .map_err(Refusal::from)?;
            // One byte more than there may be shows that there are more.
            let from = from.take(entry.length - begun + 1);
            self.copy(from, &mut file, name, partial)?;
        }
        file.sync_all().map_err(io("syncing", partial))?;
        drop(file);
        if let Err(refusal) = check(partial, name, entry) {
            // An endless or wrong file is not gone on with; one that ended early is.
            let long = fs::metadata(partial).is_ok_and(|known| known.len() >= entry.length);
            if long {
                fs::remove_file(partial).map_err(io("removing", partial))?;
            }
            return Err(refusal);
        }
        Ok(())
    }

    fn copy(
        &self,
        mut from: impl Read,
        to: &mut File,
        name: &str,
        partial: &Path,
    ) -> Result<(), StageError> {
        let begun = self.clock.monotonic();
        let mut chunk = vec![0; CHUNK];
        let mut moved = 0_u64;
        loop {
            let n = from
                .read(&mut chunk)
                .map_err(|e| Refusal::Unreachable(format!("reading {name}: {e}")))?;
            if n == 0 {
                return Ok(());
            }
            to.write_all(&chunk[..n]).map_err(io("writing", partial))?;
            moved += n as u64;
            if let Some(pause) = pause(moved, self.limits.rate, self.clock.monotonic() - begun) {
                std::thread::sleep(pause);
            }
        }
    }
}

/// Files of a folder that no document describes, by what they hold. A folder that is not there has
/// none.
fn hash_into(folder: &Path, contents: &mut BTreeMap<Sha256, PathBuf>) -> Result<(), FileError> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten().take(release::FILES_MAX) {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
            hash_into(&path, contents)?;
        } else if kind.is_ok_and(|kind| kind.is_file()) {
            let open = File::open(&path).map_err(io("opening", &path))?;
            let (sha256, _) = Sha256::of_reader(open).map_err(io("reading", &path))?;
            contents.insert(sha256, path);
        }
    }
    Ok(())
}

/// How long to wait after so many bytes in so much time.
fn pause(moved: u64, rate: u64, taken: Duration) -> Option<Duration> {
    if rate == 0 {
        return None;
    }
    let due = Duration::from_millis(moved.saturating_mul(1000) / rate);
    due.checked_sub(taken).filter(|pause| !pause.is_zero())
}

/// Is this file what was signed?
fn check(file: &Path, name: &str, entry: &FileEntry) -> Result<(), StageError> {
    let open = File::open(file).map_err(io("opening", file))?;
    let (sha256, length) = Sha256::of_reader(open).map_err(io("reading", file))?;
    if (sha256, length) == (entry.sha256, entry.length) {
        return Ok(());
    }
    Err(Refusal::Content {
        target: name.into(),
        expected: format!("{} of {} bytes", entry.sha256, entry.length),
        found: format!("{sha256} of {length} bytes"),
    }
    .into())
}

/// Makes everything in a folder durable.
fn sync_tree(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(io("reading", folder))? {
        let path = entry.map_err(io("reading", folder))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|f| f.sync_all()).map_err(io("syncing", &path))?;
        }
    }
    files::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_pauses_and_none_needs_none() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(4096, 1024, second), Some(3 * second));
        assert_eq!(pause(1024, 1024, 2 * second), None, "late already");
        assert_eq!(pause(u64::MAX, 0, Duration::ZERO), None, "no limit");
    }
}
