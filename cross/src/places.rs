//! Folders of this machine that compilers see, and the names under which binaries know them: the
//! same sources give the same bytes wherever they lie.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::checkout::Checkout;
use crate::rustc::Rustc;
use crate::tools::Tools;

/// What a folder is called in binaries, the more special ones later: the last that fits counts.
#[derive(Debug)]
pub(crate) struct Places {
    renamed: Vec<(PathBuf, String)>,
    /// Folders that no binary may name.
    hidden: Vec<String>,
}

/// Shorter ones (such as the home folder of a user without any) stand in binaries by chance.
const HIDDEN_MIN: usize = 4;

impl Places {
    /// `registries` are the folders with the crates' sources.
    pub(crate) fn of(
        checkout: &Checkout,
        tools: &Tools,
        rustc: &Rustc,
        registries: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let mut renamed = vec![
            (checkout.root.clone(), "/clearfilm".to_owned()),
            (checkout.target(), "/clearfilm/target".to_owned()),
        ];
        renamed.extend(registries.iter().map(|r| (r.clone(), "/cargo".to_owned())));
        // With its sources beside it, the compiler names these instead of what it shipped with.
        renamed.push((rustc.sysroot.join("lib/rustlib/src/rust"), rustc.shown_as()));
        renamed.push((tools.zig_library(), "/zig".to_owned()));
        let mut hidden = Vec::new();
        for place in renamed.iter().map(|(place, _)| place.clone()).chain(home()) {
            // Flags of C compilers are one text with spaces between them.
            let plain = place.to_str().filter(|p| !p.contains(char::is_whitespace));
            let place = plain.with_context(|| {
                format!("expected a path of text without spaces, found {}", place.display())
            })?;
            if place.len() >= HIDDEN_MIN {
                hidden.push(format!("{}/", place.trim_end_matches('/')));
            }
        }
        Ok(Self { renamed, hidden })
    }

    /// The same, and one more folder.
    pub(crate) fn with(mut self, folder: &Path, name: &str) -> Self {
        self.renamed.push((folder.into(), name.into()));
        self
    }

    /// For rustc.
    pub(crate) fn rustflags(&self) -> Vec<String> {
        let flag =
            |(from, to): &(PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        self.renamed.iter().map(flag).collect()
    }

    /// For C and C++.
    pub(crate) fn cflags(&self) -> String {
        let flag =
            |(from, to): &(PathBuf, String)| format!("-ffile-prefix-map={}={to}", from.display());
        self.renamed.iter().map(flag).collect::<Vec<_>>().join(" ")
    }

    /// What no binary may hold.
    pub(crate) fn hidden(&self) -> &[String] {
        &self.hidden
    }
}

/// The user's own folder.
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(Into::into)
}
