//! From a file that a person writes to a release.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clearfilm::bundle::Bundle as Loaded;
use clearfilm_fleet::files;
use clearfilm_fleet::release::{
    App, Bundle, Engines, FORMAT, Name, Part, Release, Sha256, StoreRange, target_path,
};
use clearfilm_fleet::repo::Parts;
use clearfilm_fleet::trust::Verified;
use serde::Deserialize;

/// Largest file that describes a release.
const SIZE_MAX: u64 = 1 << 20;

/// Largest file of a bundle, as `bundle.max_file` has it.
const BUNDLE_FILE_MAX: u64 = 1 << 30;

/// What a person says of a release.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    name: Name,
    number: u32,
    epoch: u32,
    devices: Vec<String>,
    engines: Engines,
    store: StoreRange,
    notes: String,
    app: DescribedApp,
    bundle: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedApp {
    version: String,
    builds: BTreeMap<String, PathBuf>,
}

impl Description {
    /// Folders in it are relative to the file.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let what = || format!("reading the release in {}", file.display());
        let bytes = files::read(file, SIZE_MAX)?;
        let text = std::str::from_utf8(&bytes).with_context(what)?;
        let mut described: Self = toml::from_str(text).with_context(what)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        described.bundle = folder.join(&described.bundle);
        for build in described.app.builds.values_mut() {
            *build = folder.join(&*build);
        }
        Ok(described)
    }

    /// Looks through the folders; the bundle is loaded, so that no release holds one that a device
    /// would refuse.
    pub(crate) fn release(self) -> anyhow::Result<Release> {
        let loaded = Loaded::from_folder(&self.bundle, BUNDLE_FILE_MAX)?;
        let mut builds = BTreeMap::new();
        for (architecture, folder) in &self.app.builds {
            builds.insert(architecture.clone(), Parts::of(folder, Part::App)?.files);
        }
        Ok(Release {
            format: FORMAT.into(),
            name: self.name,
            number: self.number,
            epoch: self.epoch,
            app: App { version: self.app.version, builds },
            bundle: Bundle {
                name: loaded.manifest.name,
                version: loaded.manifest.version,
                digest: loaded.digest,
                files: Parts::of(&self.bundle, Part::Bundle)?.files,
            },
            store: self.store,
            devices: self.devices,
            engines: self.engines,
            notes: self.notes,
        })
    }
}

/// Is every file of a release there, and what it should be?
pub(crate) fn whole(verified: &Verified, release: &Release) -> anyhow::Result<()> {
    let apps = release.app.builds.values().map(|files| (Part::App, files));
    for (part, files) in apps.chain([(Part::Bundle, &release.bundle.files)]) {
        for (path, entry) in files {
            let target = part.target(&entry.sha256);
            let file = format!("targets/{}", target_path(&target, &entry.sha256));
            let reader = verified.source().open(&file, 0, entry.length)?;
            let found = Sha256::of_reader(reader).with_context(|| format!("reading {file}"))?;
            ensure!(
                found == (entry.sha256, entry.length),
                "{path}: expected {} of {} bytes, found {} of {}",
                entry.sha256,
                entry.length,
                found.0,
                found.1
            );
        }
    }
    Ok(())
}
