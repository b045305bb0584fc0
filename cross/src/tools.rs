//! The cross linker and compiler: pinned Python wheels in an environment of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::checkout::Checkout;
use crate::output::text_of;

/// What is installed, each with its version and hashes.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Where a finished environment keeps what it was made from.
const MADE_FROM: &str = "made-from";

/// Programs that are there and have the pinned versions.
#[derive(Debug)]
pub(crate) struct Tools {
    /// `python` of the environment.
    pub(crate) python: PathBuf,
    pub(crate) zigbuild: PathBuf,
    pub(crate) zig: PathBuf,
}

impl Tools {
    /// Installs them where they are not there yet. An installation that was interrupted has no
    /// name, and begins again.
    pub(crate) fn ready(checkout: &Checkout) -> anyhow::Result<Self> {
        let folder = checkout.cache().join("tools");
        let made_from = fs::read_to_string(folder.join(MADE_FROM)).unwrap_or_default();
        if made_from != REQUIREMENTS {
            install(&folder)?;
        }
        let tools = Self {
            python: folder.join("bin/python"),
            zigbuild: folder.join("bin/cargo-zigbuild"),
            zig: packages(&folder)?.join("ziglang/zig"),
        };
        check(&tools.zig, "version", "ziglang")?;
        check(&tools.zigbuild, "--version", "cargo-zigbuild")?;
        Ok(tools)
    }

    /// The folder with the sources of what zig links in: C++'s library, and for unwinding.
    pub(crate) fn zig_library(&self) -> PathBuf {
        self.zig.with_file_name("lib")
    }
}

fn install(folder: &Path) -> anyhow::Result<()> {
    anstream::eprintln!("installing zig and cargo-zigbuild into {}", folder.display());
    let partial = folder.with_extension("partial");
    for old in [&partial, folder] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
        }
    }
    text_of(Command::new("python3").args(["-m", "venv"]).arg(&partial))?;
    let requirements = partial.join(MADE_FROM);
    let write = |text| fs::write(&requirements, text);
    write(REQUIREMENTS).with_context(|| format!("writing {}", requirements.display()))?;
    text_of(
        Command::new(partial.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "-r"])
            .arg(&requirements),
    )?;
    // Python finds its environment by where it lies, so that the name may come last.
    fs::rename(&partial, folder).with_context(|| format!("naming {}", folder.display()))
}

/// The environment's `site-packages`.
fn packages(folder: &Path) -> anyhow::Result<PathBuf> {
    let lib = folder.join("lib");
    let versions = fs::read_dir(&lib).with_context(|| format!("reading {}", lib.display()))?;
    let packages = versions.flatten().map(|v| v.path().join("site-packages"));
    packages
        .into_iter()
        .find(|p| p.join("ziglang").is_dir())
        .with_context(|| format!("{}: expected ziglang, found none", lib.display()))
}

/// Is the program's own version the pinned one?
fn check(program: &Path, argument: &str, package: &str) -> anyhow::Result<()> {
    let expected = pinned(package)?;
    let said = text_of(Command::new(program).arg(argument))?;
    let found = said.split_whitespace().last().unwrap_or_default();
    ensure!(
        found == expected,
        "{}: expected version {expected}, found {found}: remove its environment to install it again",
        program.display()
    );
    Ok(())
}

fn pinned(package: &str) -> anyhow::Result<&'static str> {
    let version = |line: &'static str| {
        line.strip_prefix(package)?.strip_prefix("==")?.split_whitespace().next()
    };
    REQUIREMENTS
        .lines()
        .find_map(version)
        .with_context(|| format!("cross/requirements.txt: expected {package}==, found none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_by_version_and_hash() {
        assert!(pinned("ziglang").is_ok() && pinned("cargo-zigbuild").is_ok());
        assert!(pinned("zig").is_err());
        let lines = REQUIREMENTS.lines().filter(|l| !l.starts_with('#'));
        assert!(lines.into_iter().all(|l| l.contains("==") || l.contains("--hash=sha256:")));
    }

    #[test]
    fn a_tool_of_another_version_is_refused_by_name() {
        let error = check(Path::new("/bin/echo"), "9.9.9", "ziglang").expect_err("refused");
        assert!(error.to_string().contains("expected version 0."), "{error}");
        assert!(error.to_string().contains("found 9.9.9"), "{error}");
    }
}
