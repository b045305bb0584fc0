//! Who wrote what a device runs, and under which terms: each crate that is linked in, and the
//! text of each licence that lies in its sources, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::crates::Crate;

/// How names of files with terms or notices begin, in lower case.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// Endings of sources, which may be named after licences too.
const SOURCES: [&str; 9] = ["rs", "c", "h", "cpp", "hpp", "py", "sh", "json", "toml"];

/// C libraries lie some folders deep in the crates that bind them.
const DEPTH_MAX: usize = 3;

/// Longest text that is a licence: openjpeg's and charls's have some kB.
const TEXT_MAX: u64 = 1 << 18;

/// The file `copyright`: a function of the crates and of `more`, which are names and folders of
/// what the compilers link in.
pub(crate) fn copyright(
    ours: &str,
    linked: &[Crate],
    more: &[(&str, PathBuf)],
) -> anyhow::Result<String> {
    let mut out = String::from(
        "Clearfilm is under the Apache License, version 2.0, which stands at the end of this part.\n\
         Its programs hold the packages that are listed after it, each under its own terms, and\n\
         Rust's standard library, which is under Apache-2.0 or MIT, as the user chooses.\n\n",
    );
    writeln!(out, "{}\n", ours.trim_end())?;
    // By text, so that what a hundred packages share stands here once.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked.iter().filter(|package| !package.is_ours()) {
        let name = format!("{} {}", package.name, package.version);
        let found = texts_in(&package.folder()?)?;
        let terms = package.license.as_deref().unwrap_or("see its text");
        write!(out, "{name}: {terms}")?;
        if !package.authors.is_empty() {
            write!(out, "; by {}", package.authors.join(", "))?;
        }
        if let Some(repository) = &package.repository {
            write!(out, "; {repository}")?;
        }
        let none = if found.is_empty() { "; its sources hold no text of the licence" } else { "" };
        writeln!(out, "{none}")?;
        for text in found {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (name, folder) in more {
        writeln!(out, "{name}: see its text")?;
        for text in texts_in(folder)? {
            texts.entry(text).or_default().insert((*name).to_owned());
        }
    }
    // By who uses it, which is an order that a reader can use.
    let mut texts: Vec<(BTreeSet<String>, String)> =
        texts.into_iter().map(|(text, users)| (users, text)).collect();
    texts.sort();
    for (users, text) in texts {
        let users: Vec<String> = users.into_iter().collect();
        writeln!(out, "\n{}\n{}:\n\n{text}", "-".repeat(80), users.join(", "))?;
    }
    Ok(out)
}

/// The texts of licences and notices below a folder, in the order of their paths.
fn texts_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    walk(folder, DEPTH_MAX, &mut files)?;
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        texts.push(text.trim().to_owned());
    }
    texts.dedup();
    Ok(texts)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let what = || format!("reading {}", folder.display());
    for entry in folder.read_dir().with_context(what)? {
        let entry = entry.with_context(what)?;
        let kind = entry.file_type().with_context(what)?;
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, files)?;
        } else if kind.is_file()
            && is_licence(&path)
            && entry.metadata().with_context(what)?.len() <= TEXT_MAX
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Does a file's name say that it holds terms?
fn is_licence(path: &Path) -> bool {
    let lower = |part: Option<&std::ffi::OsStr>| {
        part.map(|p| p.to_string_lossy().to_lowercase()).unwrap_or_default()
    };
    let (name, ending) = (lower(path.file_name()), lower(path.extension()));
    NAMES.iter().any(|n| name.starts_with(n)) && !SOURCES.contains(&ending.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: bool) {
        assert_eq!(is_licence(Path::new(name)), expected, "{name}");
    }

    #[test]
    fn a_licence_is_told_by_its_name() {
        check("LICENSE", true);
        check("LICENSE-APACHE", true);
        check("license.md", true);
        check("COPYING.LESSER", true);
        check("NOTICE.txt", true);
        check("src/license.rs", false);
        check("README.md", false);
    }

    #[test]
    fn a_text_that_two_share_stands_once_and_names_both() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        for folder in &folders {
            let deep = folder.path().join("vendor");
            fs::create_dir(&deep).expect("made");
            fs::write(deep.join("COPYING"), "Do as you like.\r\n").expect("written");
        }
        let [first, second] = folders.each_ref().map(|f| f.path().to_owned());
        let text = copyright("Ours.", &[], &[("one", first), ("two", second)]).expect("made");
        assert_eq!(text.matches("Do as you like.").count(), 1, "{text}");
        assert!(text.contains("\none, two:\n\nDo as you like.\n"), "{text}");
        assert!(text.contains("Ours."), "{text}");
    }
}
