//! What a device installs: one document that binds programs, bundle and what they need.
//!
//! App and bundle are never chosen apart. Each is validly signed by itself, so a mirror that could
//! combine them freely could make a pair that nobody ever tested.

use std::collections::BTreeMap;
use std::{fmt, io};

use clearfilm::id::Digest;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};

/// The form of the document; another one is refused.
pub const FORMAT: &str = "clearfilm-release/1";

/// Largest document: a release of 1,000 files has some 150 kB.
pub const SIZE_MAX: u64 = 1 << 20;

/// Most files of a release: programs and licences, and a bundle's ten.
pub const FILES_MAX: usize = 1000;

/// Longest name and path, characters; FAT sticks and every file system take them.
const NAME_MAX: usize = 64;
const PATH_MAX: usize = 200;

/// Bytes that are hashed at a time: enough that system calls do not count.
const BUFFER: usize = 1 << 16;

/// Deepest path, components.
const DEPTH_MAX: usize = 6;

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// [`FORMAT`].
    pub format: String,
    /// Unique for ever.
    pub name: Name,
    /// Rises with every release: only a signed pin makes a device go back.
    pub number: u32,
    /// A device never goes below the highest epoch that it ran or was told: raised when a release
    /// cures a weakness.
    pub epoch: u32,
    /// The programs.
    pub app: App,
    /// The model bundle.
    pub bundle: Bundle,
    /// Which stores the programs can open.
    pub store: StoreRange,
    /// Device types that it was tested on.
    pub devices: Vec<String>,
    /// What it may do about engines.
    pub engines: Engines,
    /// What changed, for the person who approves it: plain text, with the bundle's change class.
    pub notes: String,
}

/// The programs of a release, for each architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Version of the programs.
    pub version: String,
    /// Files by architecture, as Rust names it: `aarch64`, `x86_64`.
    pub builds: BTreeMap<String, Files>,
}

/// The model bundle of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Its name, as its manifest has it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its digest, as every message names it.
    pub digest: Digest,
    /// Its files.
    pub files: Files,
}

/// Schema versions of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRange {
    /// The oldest one that is read.
    pub oldest: u32,
    /// The one that is written.
    pub writes: u32,
}

/// What a release may do about engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engines {
    /// May a device commit to it although its engine is a worse one than before?
    pub worse: bool,
}

/// Files of one part by their path on the device.
pub type Files = BTreeMap<FilePath, FileEntry>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// What it holds, which is also what its target is called.
    pub sha256: Sha256,
    /// Bytes.
    pub length: u64,
    /// Is it a program?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// A release cannot be what it says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReleaseError {
    /// No document of this form.
    #[error("release: expected {FORMAT}, found {0}")]
    Form(String),
    /// A field's value.
    #[error("release: {field}: expected {expected}, found {found:?}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

impl Release {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// JSON of another form, an unknown field, or a value that no release can have.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let release: Self =
            serde_json::from_slice(bytes).map_err(|error| ReleaseError::Form(error.to_string()))?;
        release.check()?;
        Ok(release)
    }

    fn check(&self) -> Result<(), ReleaseError> {
        let field = |field, expected, found: &str| {
            Err(ReleaseError::Field { field, expected, found: found.into() })
        };
        if self.format != FORMAT {
            return Err(ReleaseError::Form(self.format.clone()));
        }
        if self.store.oldest > self.store.writes {
            return field("store", "oldest <= writes", &self.store.oldest.to_string());
        }
        if self.app.builds.is_empty() {
            return field("app.builds", "a build at least", "none");
        }
        let files = self.app.builds.values().chain([&self.bundle.files]);
        let count: usize = files.clone().map(BTreeMap::len).sum();
        if count > FILES_MAX || files.clone().any(BTreeMap::is_empty) {
            return field("files", "1 to 1000 in all, some in each part", &count.to_string());
        }
        let program = self.bundle.files.iter().find(|(_, entry)| entry.executable);
        if let Some((path, _)) = program {
            return field("bundle.files", "no program", &path.to_string());
        }
        Ok(())
    }

    /// What a device of this architecture installs, by the path below the release's folder.
    ///
    /// # Errors
    /// A release that has no build for it.
    pub fn files(
        &self,
        architecture: &str,
    ) -> Result<Vec<(Part, &FilePath, &FileEntry)>, ReleaseError> {
        let Some(build) = self.app.builds.get(architecture) else {
            return Err(ReleaseError::Field {
                field: "app.builds",
                expected: "a build for this device's architecture",
                found: format!("none for {architecture}"),
            });
        };
        let app = build.iter().map(|(path, entry)| (Part::App, path, entry));
        let bundle = self.bundle.files.iter().map(|(path, entry)| (Part::Bundle, path, entry));
        Ok(app.chain(bundle).collect())
    }
}

/// The two parts of a release, each a folder on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Programs.
    App,
    /// The model bundle.
    Bundle,
}

impl Part {
    /// Name of the folder on the device.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Bundle => "bundle",
        }
    }

    /// Name of the target that holds a file with this content.
    #[must_use]
    pub fn target(self, sha256: &Sha256) -> String {
        let folder = match self {
            Self::App => "app",
            Self::Bundle => "models",
        };
        format!("{folder}/{sha256}")
    }
}

/// Where a target lies in a repository: its hash stands before its last component (TUF 5.7.3).
#[must_use]
pub fn target_path(target: &str, sha256: &Sha256) -> String {
    match target.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{sha256}.{name}"),
        None => format!("{sha256}.{target}"),
    }
}

/// Name of a release: `[a-z0-9]` first, then `[a-z0-9.+-]`, 1 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl TryFrom<String> for Name {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = text.len() <= NAME_MAX
            && text.starts_with(plain)
            && text.chars().all(|c| plain(c) || ".+-".contains(c));
        if good {
            return Ok(Self(text));
        }
        let expected = "[a-z0-9] first, then [a-z0-9.+-], 1 to 64 characters";
        Err(ReleaseError::Field { field: "name", expected, found: text })
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below a release's part: components of `[A-Za-z0-9._+-]`, none of which begins with a dot.
///
/// So it can neither leave the folder (`..`, an absolute path), nor hide, nor be a name that a shell
/// or a stick's file system reads in another way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

impl TryFrom<String> for FilePath {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        let component = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
        };
        let good = text.len() <= PATH_MAX
            && text.split('/').count() <= DEPTH_MAX
            && text.split('/').all(component);
        if good {
            return Ok(Self(text));
        }
        let expected =
            "a relative path of [A-Za-z0-9._+-], no component of which begins with a dot";
        Err(ReleaseError::Field { field: "files", expected, found: text })
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> Self {
        path.0
    }
}

impl AsRef<std::path::Path> for FilePath {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Of everything that can be read, and how much that is.
    ///
    /// # Errors
    /// The reader fails.
    pub fn of_reader(mut from: impl io::Read) -> io::Result<(Self, u64)> {
        use sha2::Digest as _;
        let (mut digest, mut length) = (sha2::Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok((Self(digest.finalize().into()), length)),
                n => {
                    digest.update(&buffer[..n]);
                    length += n as u64;
                }
            }
        }
    }
}

impl TryFrom<String> for Sha256 {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes.and_then(|b| b.try_into().ok()).map(Self).ok_or(ReleaseError::Field {
            field: "sha256",
            expected: "64 hexadecimal digits",
            found: text,
        })
    }
}

impl TryFrom<Vec<u8>> for Sha256 {
    type Error = ReleaseError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, ReleaseError> {
        bytes.try_into().map(Self).map_err(|bytes: Vec<u8>| ReleaseError::Field {
            field: "sha256",
            expected: "32 bytes",
            found: bytes.len().to_string(),
        })
    }
}

impl From<Sha256> for String {
    fn from(sha: Sha256) -> Self {
        sha.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
