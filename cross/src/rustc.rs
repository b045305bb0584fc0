//! The compiler in use: which it is, and which targets' standard libraries it has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::output::text_of;
use crate::target::Target;

/// The Rust compiler that cargo runs in a folder.
#[derive(Debug)]
pub(crate) struct Rustc {
    /// Such as `1.95.0`.
    pub(crate) release: String,
    pub(crate) commit: String,
    /// Its own folder, with the host's standard library.
    pub(crate) sysroot: PathBuf,
}

impl Rustc {
    /// The one that cargo runs in `root`.
    pub(crate) fn of(root: &Path) -> anyhow::Result<Self> {
        let rustc = || {
            let mut command = Command::new("rustc");
            command.current_dir(root);
            command
        };
        let said = text_of(rustc().arg("-vV"))?;
        let value = |key: &str| {
            let found = said.lines().find_map(|line| line.strip_prefix(key));
            found
                .map(str::to_owned)
                .with_context(|| format!("rustc -vV: expected {key}, found none"))
        };
        let sysroot = text_of(rustc().args(["--print", "sysroot"]))?.trim().into();
        Ok(Self { release: value("release: ")?, commit: value("commit-hash: ")?, sysroot })
    }

    /// As `rustc --version` shows it.
    pub(crate) fn short_commit(&self) -> &str {
        self.commit.get(..9).unwrap_or(&self.commit)
    }

    /// Where the library's sources say that they lie.
    pub(crate) fn shown_as(&self) -> String {
        format!("/rustc/{}", self.commit)
    }

    /// Has it the target's standard library?
    pub(crate) fn has(&self, target: Target) -> bool {
        holds_std(&self.sysroot, target)
    }
}

/// Where a sysroot keeps a target's libraries.
pub(crate) fn libraries(sysroot: &Path, target: Target) -> PathBuf {
    sysroot.join("lib/rustlib").join(target.triple()).join("lib")
}

/// Is there a standard library for the target in a sysroot?
pub(crate) fn holds_std(sysroot: &Path, target: Target) -> bool {
    let entries = libraries(sysroot, target).read_dir();
    entries.is_ok_and(|entries| {
        entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with("libstd-"))
    })
}
