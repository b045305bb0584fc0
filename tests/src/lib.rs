//! What the system tests share: where the workspace lies and which files it consists of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in a folder of the workspace").into()
}

/// A file of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl File {
    /// A file that exists only in a test.
    #[must_use]
    pub fn planted(path: &str, text: &str) -> Self {
        Self { path: path.into(), bytes: text.into() }
    }

    /// What it holds as text; whatever is not UTF-8 becomes a replacement character.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Does the path end in `.extension`?
    #[must_use]
    pub fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
    }
}

/// One file of the workspace as text.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn text(path: &str) -> String {
    let read = fs::read_to_string(root().join(path));
    assert!(
        read.is_ok(),
        "reading {path}: {}",
        read.err().map(|e| e.to_string()).unwrap_or_default()
    );
    read.unwrap_or_default()
}

/// Every file that git tracks and that is there.
///
/// # Panics
/// This is no git checkout, or git is not installed.
#[must_use]
pub fn tracked() -> Vec<File> {
    // A checkout that belongs to another user (a container's) is inspected too.
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let files = names.split_terminator('\0').filter_map(|path| {
        let bytes = fs::read(root().join(path)).ok()?;
        Some(File { path: path.into(), bytes })
    });
    let files: Vec<File> = files.collect();
    assert!(
        !files.is_empty(),
        "listing the files of a git checkout: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    files
}
