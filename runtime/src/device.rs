//! This device: who it is, what runs on it, and the site secret that its exam keys are made with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::{Config, Use};
use crate::id::{Digest, SiteSecret};

/// Version of the software, as every message carries it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit that the software was built from, or `unknown`.
pub const COMMIT: &str = env!("CLEARFILM_COMMIT");

/// Document of a release, beside its folders `app` and `bundle`.
const RELEASE: &str = "release.json";

/// Folder of a release's bundle.
const BUNDLE: &str = "bundle";

/// The folder that this program was installed in with a bundle: `<folder>/app/clearfilm` beside
/// `<folder>/bundle`. None where it runs from anywhere else.
#[must_use]
pub fn installed_in() -> Option<PathBuf> {
    // The kernel has followed the links to it: a link that is switched later changes nothing.
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?.parent()?;
    folder.join(BUNDLE).join("manifest.toml").is_file().then(|| folder.to_owned())
}

/// The bundle that was installed with this program.
#[must_use]
pub fn installed_bundle() -> Option<PathBuf> {
    Some(installed_in()?.join(BUNDLE))
}

/// The release that this program belongs to, by its document. None where it was not brought by an
/// update.
#[must_use]
pub fn release() -> Option<Digest> {
    Some(Digest::of(&fs::read(installed_in()?.join(RELEASE)).ok()?))
}

/// Who a device is; part of every message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Site.
    pub site: String,
    /// Device id, unique in the fleet.
    pub name: String,
    /// Room, where it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
}

/// One run of one device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Who it is.
    pub identity: Identity,
    /// What its results may be used for.
    pub intended: Use,
    /// Makes exam keys.
    pub secret: SiteSecret,
    /// New at every start of the process.
    pub boot: Uuid,
}

/// Why a device cannot say who it is.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The secret file could not be read or made.
    #[error("{action} site secret {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The secret file holds something else.
    #[error("site secret {}: expected 64 hexadecimal digits, found {found} bytes that are not", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// How many bytes it holds; never the bytes.
        found: usize,
    },
    /// Others can read the secret.
    #[error("site secret {}: expected mode 0600, found {mode:04o}", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Device {
    /// Reads the site secret, or makes it at the first start.
    ///
    /// # Errors
    /// The secret file cannot be read or made, is malformed, or others can read it.
    pub fn open(config: &Config) -> Result<Self, DeviceError> {
        let unit = &config.unit;
        let identity = Identity {
            site: unit.site.clone(),
            name: unit.name.clone(),
            room: (!unit.room.is_empty()).then(|| unit.room.clone()),
        };
        let secret = secret_in(&config.secret_file())?;
        Ok(Self { identity, intended: unit.intended, secret, boot: Uuid::new_v4() })
    }
}

fn secret_in(file: &Path) -> Result<SiteSecret, DeviceError> {
    let fail = |action| move |source| DeviceError::Io { action, file: file.into(), source };
    if !file.exists() {
        make_secret(file).map_err(fail("making"))?;
    }
    let mode = fs::metadata(file).map_err(fail("reading"))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(DeviceError::Exposed { file: file.into(), mode });
    }
    let text = fs::read(file).map_err(fail("reading"))?;
    HEXLOWER
        .decode(text.trim_ascii())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .map(SiteSecret::from_bytes)
        .ok_or_else(|| DeviceError::Malformed { file: file.into(), found: text.len() })
}

/// Writes a new secret so that a power cut leaves either none or a whole one:
/// losing it would change every exam key.
fn make_secret(file: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = file.with_extension("new");
    let mut out =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    // Two random UUIDs hold 244 random bits.
    let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    writeln!(out, "{}", HEXLOWER.encode(&bytes))?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("deep/site.key");
        let first = secret_in(&file).expect("made");
        assert!(secret_in(&file).expect("read") == first);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("site.key");
        secret_in(&file).expect("made");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        let error = secret_in(&file).expect_err("refused").to_string();
        assert!(error.contains("0600") && error.contains("0644"), "{error}");
    }

    #[test]
    fn a_malformed_secret_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("site.key");
        secret_in(&file).expect("made");
        fs::write(&file, "hunter2").expect("written");
        let error = secret_in(&file).expect_err("refused").to_string();
        assert!(error.contains("64 hexadecimal") && !error.contains("hunter2"), "{error}");
    }
}
