//! What a repository offers: programs, bundles, releases that bind them, and who installs which.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp as Time;
use tough::TargetName;
use tough::schema::{Hashes, Target, Targets};

use super::Repository;
use crate::files;
use crate::release::{
    self, FILES_MAX, FileEntry, FilePath, Files, Name, Part, Release, Sha256, target_path,
};
use crate::role::{FLEET, Role, release_target};
use crate::rollout::{self, Rollout};

/// Files of one part of a release, and where they lie.
#[derive(Debug)]
pub struct Parts {
    /// As a release lists them.
    pub files: Files,
    folder: PathBuf,
    part: Part,
}

impl Parts {
    /// Looks through a folder.
    ///
    /// # Errors
    /// Anything but plain files and folders, a name that no release may have, or too many files.
    pub fn of(folder: &Path, part: Part) -> anyhow::Result<Self> {
        let mut files = Files::new();
        collect(folder, folder, part, &mut files)?;
        ensure!(!files.is_empty(), "{}: expected files, found none", folder.display());
        Ok(Self { files, folder: folder.into(), part })
    }
}

fn collect(root: &Path, folder: &Path, part: Part, files: &mut Files) -> anyhow::Result<()> {
    let what = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        let known = fs::symlink_metadata(&path).with_context(what)?;
        if known.is_dir() {
            collect(root, &path, part, files)?;
            continue;
        }
        ensure!(known.is_file(), "{}: expected a file, found a link or device", path.display());
        let name = path.strip_prefix(root).with_context(what)?.to_string_lossy().into_owned();
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let (sha256, length) =
            Sha256::of_reader(file).with_context(|| format!("reading {}", path.display()))?;
        // A bundle is data: no file of it is ever a program.
        let executable = part == Part::App && known.permissions().mode() & 0o111 != 0;
        files.insert(FilePath::try_from(name)?, FileEntry { sha256, length, executable });
        ensure!(files.len() <= FILES_MAX, "{}: expected at most {FILES_MAX} files", root.display());
    }
    Ok(())
}

impl Repository {
    /// Offers the files of a part, by the role that may.
    ///
    /// # Errors
    /// The disk fails.
    pub fn add(&self, parts: &Parts, now: Time, life: Duration) -> anyhow::Result<Role> {
        let role = match parts.part {
            Part::App => Role::App,
            Part::Bundle => Role::Models,
        };
        let mut targets = self.next_targets(role, now, life)?;
        for (path, entry) in &parts.files {
            let name = parts.part.target(&entry.sha256);
            self.carry(&parts.folder.join(path), &name, entry)?;
            targets.targets.insert(TargetName::new(name)?, target(entry));
        }
        self.draft(role, targets)?;
        Ok(role)
    }

    /// Copies a file to where its target is looked for.
    fn carry(&self, from: &Path, target: &str, entry: &FileEntry) -> anyhow::Result<()> {
        let to = self.target_file(target, &entry.sha256);
        if fs::metadata(&to).is_ok_and(|known| known.len() == entry.length) {
            return Ok(());
        }
        let new = files::unfinished(&to);
        let what = || format!("copying {} to {}", from.display(), to.display());
        fs::copy(from, &new).with_context(what)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).with_context(what)?;
        let file = File::open(&new).with_context(what)?;
        file.sync_all().with_context(what)?;
        let found = Sha256::of_reader(file).with_context(what)?;
        ensure!(
            found == (entry.sha256, entry.length),
            "{}: expected {}, found {}: it changed meanwhile",
            from.display(),
            entry.sha256,
            found.0
        );
        fs::rename(&new, &to).with_context(what)?;
        files::sync_folder_of(&to)?;
        Ok(())
    }

    /// Where a target lies: TUF 5.7.3 puts its hash before the last component.
    fn target_file(&self, target: &str, sha256: &Sha256) -> PathBuf {
        self.targets_folder().join(target_path(target, sha256))
    }

    /// Offers a release.
    ///
    /// # Errors
    /// A file of it that nobody offers, or a name or number that was used before.
    pub fn release(&self, release: &Release, now: Time, life: Duration) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec_pretty(release).context("writing a release")?;
        Release::parse(&bytes)?;
        let builds = release.app.builds.values().map(|files| (Role::App, Part::App, files));
        for (role, part, files) in
            builds.chain([(Role::Models, Part::Bundle, &release.bundle.files)])
        {
            let offered = self.offered(role)?;
            for (path, entry) in files {
                let found = offered.get(&part.target(&entry.sha256));
                ensure!(
                    found.is_some_and(|found| found.length == entry.length),
                    "release {}: {path}: expected it among the targets of {role}, found it is not: add it first",
                    release.name
                );
            }
        }
        for old in self.releases()? {
            ensure!(
                old.name != release.name && old.number < release.number,
                "release {}: expected a new name and a number above {}, found {}",
                release.name,
                old.number,
                release.number
            );
        }
        let mut targets = self.next_targets(Role::Targets, now, life)?;
        self.offer(&mut targets, &release_target(&release.name.to_string()), &bytes)?;
        self.draft(Role::Targets, targets)
    }

    /// Says who installs what.
    ///
    /// # Errors
    /// A release that is not offered.
    pub fn fleet(&self, rollout: &Rollout, now: Time, life: Duration) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec_pretty(rollout).context("writing the rollout")?;
        Rollout::parse(&bytes)?;
        let offered: Vec<Name> = self.releases()?.into_iter().map(|release| release.name).collect();
        for named in rollout.pins.values().chain([&rollout.release]) {
            ensure!(
                offered.contains(named),
                "{FLEET}: release: expected one of {offered:?}, found {named}"
            );
        }
        let mut targets = self.next_targets(Role::Operations, now, life)?;
        self.offer(&mut targets, FLEET, &bytes)?;
        self.draft(Role::Operations, targets)
    }

    /// Who installs what, as it is published.
    ///
    /// # Errors
    /// Nothing was said yet.
    pub fn rollout(&self) -> anyhow::Result<Rollout> {
        let offered = self.offered(Role::Operations)?;
        let Some(target) = offered.get(FLEET) else {
            bail!("{}: expected {FLEET}, found none", self.folder.display())
        };
        Ok(Rollout::parse(&self.bytes_of(FLEET, target, rollout::SIZE_MAX)?)?)
    }

    /// Every release that is offered, or will be.
    ///
    /// # Errors
    /// A document that cannot be read.
    pub fn releases(&self) -> anyhow::Result<Vec<Release>> {
        let mut releases = Vec::new();
        for (name, target) in self.offered(Role::Targets)? {
            if name.starts_with("release/") {
                let bytes = self.bytes_of(&name, &target, release::SIZE_MAX)?;
                releases.push(Release::parse(&bytes)?);
            }
        }
        releases.sort_by_key(|release| release.number);
        Ok(releases)
    }

    /// The targets that a role offers, or will.
    fn offered(&self, role: Role) -> anyhow::Result<HashMap<String, Target>> {
        let targets = match self.drafted::<Targets>(role)? {
            Some(targets) => Some(targets),
            None => self.targets(role)?,
        };
        let named = targets.into_iter().flat_map(|targets| targets.signed.targets);
        Ok(named.map(|(name, target)| (name.raw().to_owned(), target)).collect())
    }

    fn bytes_of(&self, name: &str, target: &Target, limit: u64) -> anyhow::Result<Vec<u8>> {
        let sha256 = Sha256::try_from(target.hashes.sha256.clone().into_vec())?;
        Ok(files::read(&self.target_file(name, &sha256), limit)?)
    }

    /// Writes a small target and lists it.
    fn offer(&self, targets: &mut Targets, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let (sha256, length) = (Sha256::of(bytes), bytes.len() as u64);
        files::put(&self.target_file(name, &sha256), bytes, 0o644)?;
        let entry = FileEntry { sha256, length, executable: false };
        targets.targets.insert(TargetName::new(name)?, target(&entry));
        Ok(())
    }
}

fn target(entry: &FileEntry) -> Target {
    Target {
        length: entry.length,
        hashes: Hashes { sha256: entry.sha256.0.to_vec().into(), _extra: HashMap::new() },
        custom: HashMap::new(),
        _extra: HashMap::new(),
    }
}
