//! What cargo knows of the packages that a device is built from.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde::Deserialize;

use crate::checkout::Checkout;
use crate::output::{bytes_of, text_of};
use crate::target::Target;

/// The packages whose programs a device has.
pub(crate) const PACKAGES: [&str; 2] = ["clearfilm", "clearfilm-fleet"];

/// Features of a device: both engines and every codec; no embedded broker.
pub(crate) const FEATURES: &str = "clearfilm/tract,clearfilm/ort,clearfilm/jpeg-ls";

/// A package, of ours or of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX.
    pub(crate) license: Option<String>,
    pub(crate) authors: Vec<String>,
    pub(crate) repository: Option<String>,
    manifest_path: PathBuf,
    /// None for our own.
    source: Option<String>,
}

impl Crate {
    /// Where its sources lie.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self.manifest_path.parent();
        Ok(folder.with_context(|| format!("finding the folder of {}", self.name))?.into())
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.source.is_none()
    }
}

/// Every package that the workspace needs on a target, fetched where it was not there yet.
pub(crate) fn all(checkout: &Checkout, target: Target) -> anyhow::Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Crate>,
    }
    let bytes = bytes_of(
        Command::new("cargo")
            .args(["metadata", "--locked", "--format-version", "1"])
            .args(["--filter-platform", target.triple()])
            .current_dir(&checkout.root),
    )?;
    let metadata: Metadata = serde_json::from_slice(&bytes).context("reading cargo metadata")?;
    Ok(metadata.packages)
}

/// Folders in which cargo keeps the sources of crates, sorted.
pub(crate) fn registries(crates: &[Crate]) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = BTreeSet::new();
    for package in crates.iter().filter(|c| !c.is_ours()) {
        folders.extend(package.folder()?.parent().map(PathBuf::from));
    }
    Ok(folders.into_iter().collect())
}

/// Those of `crates` whose code is in a device's programs, by name and version.
pub(crate) fn linked(
    checkout: &Checkout,
    target: Target,
    crates: &[Crate],
) -> anyhow::Result<Vec<Crate>> {
    let listed = text_of(
        Command::new("cargo")
            .args(["tree", "--locked", "--target", target.triple()])
            .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
            .args(["--no-default-features", "--features", FEATURES])
            // What a macro or a build script needs stays on the machine that builds.
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
            .current_dir(&checkout.root),
    )?;
    let mut linked: Vec<Crate> = Vec::new();
    for line in listed.lines().filter(|line| !line.is_empty()) {
        // `name v1.2.3`, and for our own its folder.
        let mut words = line.split_whitespace();
        let (name, version) = (words.next(), words.next().and_then(|v| v.strip_prefix('v')));
        let of_line =
            |c: &&Crate| Some(c.name.as_str()) == name && Some(c.version.as_str()) == version;
        let found = crates.iter().find(of_line);
        linked.push(
            found.with_context(|| format!("cargo tree: {line}: not in cargo metadata"))?.clone(),
        );
    }
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    linked.dedup();
    Ok(linked)
}
