//! The checkout that we work on: where it lies, which commit it is, and when that was made.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Digits of a commit that a binary carries, as `runtime/build.rs` asks git for them.
const COMMIT_DIGITS: usize = 12;

/// A checkout of the workspace.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    /// Twelve hexadecimal digits, with `-dirty` where tracked files differ from the commit.
    pub(crate) commit: String,
    /// Seconds since 1970 at which the commit was made: the only time that a package may hold.
    pub(crate) epoch: u64,
}

impl Checkout {
    /// The one that this program was built from.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().context("finding the workspace above cross")?;
        // Paths are cut out of the binaries by their text: no link may stand in them.
        let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
        let head = git(&root, &["show", "--no-patch", "--format=%H %ct", "HEAD"])?;
        let (commit, epoch) = head
            .trim()
            .split_once(' ')
            .with_context(|| format!("git show: expected a commit and a time, found {head:?}"))?;
        ensure!(commit.len() > COMMIT_DIGITS, "git show: expected a commit, found {commit:?}");
        let epoch = epoch.parse().with_context(|| format!("reading {epoch:?} as a time"))?;
        let changed = git(&root, &["status", "--porcelain", "--untracked-files=no"])?;
        let dirty = if changed.trim().is_empty() { "" } else { "-dirty" };
        Ok(Self { root, commit: format!("{}{dirty}", &commit[..COMMIT_DIGITS]), epoch })
    }

    /// What we fetched or made and can fetch or make again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join(".cache/cross")
    }

    /// Cargo's folder for what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        let set = std::env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty());
        self.root.join(set.unwrap_or_else(|| "target".into()))
    }
}

/// A checkout that belongs to another user (a container's) is worked on too.
fn git(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(root)
        .output()
        .context("running git, which says what commit is built")?;
    let why = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "git {}: {}", arguments.join(" "), why.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_knows_its_commit_and_its_time() {
        let here = Checkout::here().expect("the tests run in a checkout");
        let digits = here.commit.trim_end_matches("-dirty");
        assert_eq!(digits.len(), COMMIT_DIGITS);
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()), "{digits}");
        assert!(here.root.join("cross/src").is_dir() && here.epoch > 0);
    }
}
