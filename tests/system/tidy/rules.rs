//! Rules about files and documents.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use clearfilm_tests::File;

/// Lines of a source that is still read at once.
const SOURCE_LINES_MAX: usize = 400;

/// Lines of a decision: one page.
const DECISION_LINES_MAX: usize = 60;

/// What may lie at the top level, beside names that begin with a dot.
const TOP_LEVEL: [&str; 16] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "cross",
    "deny.toml",
    "docs",
    "models",
    "provisioning",
    "runtime",
    "rustfmt.toml",
    "tests",
];

/// Kinds of files that could be a picture of somebody.
const PICTURES: [&str; 10] =
    ["png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "webp", "jp2", "jls"];

/// Where pictures that were drawn in code may lie, to be compared with.
const GOLDEN: &str = "tests/golden/";

/// PS3.10 7.1: a DICOM file begins with 128 bytes and these four.
const DICOM_PREFIX: &[u8] = b"DICM";

/// Sources without a header that says what they are.
pub(super) fn headers(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let text = file.text();
        let script = text.starts_with("#!");
        let mut lines = text.lines().skip(usize::from(script)).filter(|l| !l.trim().is_empty());
        let first = lines.next().unwrap_or_default();
        let (expected, fits) = if file.is("rs") {
            ("//!", first.starts_with("//!"))
        } else if file.is("py") {
            ("a docstring or a comment", first.starts_with("\"\"\"") || first.starts_with('#'))
        } else if file.is("sh") || script {
            ("a comment", first.starts_with('#'))
        } else {
            continue;
        };
        if !fits {
            wrong.push(format!(
                "{}: expected {expected} as the first line, found {first:?}",
                file.path
            ));
        }
    }
    wrong
}

/// Sources that are too long.
pub(super) fn sizes(files: &[File]) -> Vec<String> {
    let sources = files.iter().filter(|f| f.is("rs") || f.is("py"));
    let long = sources
        .map(|f| (f, f.text().lines().count()))
        .filter(|(_, lines)| *lines > SOURCE_LINES_MAX);
    long.map(|(f, lines)| {
        format!("{}: expected at most {SOURCE_LINES_MAX} lines, found {lines}", f.path)
    })
    .collect()
}

/// Entries of the top level that do not belong there.
pub(super) fn top_level(files: &[File]) -> Vec<String> {
    let entries: BTreeSet<&str> = files.iter().filter_map(|f| f.path.split('/').next()).collect();
    let belongs = |e: &&str| e.starts_with('.') || TOP_LEVEL.contains(e);
    entries
        .into_iter()
        .filter(|e| !belongs(e))
        .map(|e| format!("{e}: does not belong at the top level"))
        .collect()
}

/// Pictures and DICOM objects.
pub(super) fn forbidden(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        if PICTURES.iter().any(|p| file.is(p)) && !file.path.starts_with(GOLDEN) {
            wrong.push(format!("{}: a picture outside {GOLDEN}", file.path));
        }
        if file.is("dcm") || file.bytes.get(128..132) == Some(DICOM_PREFIX) {
            wrong.push(format!("{}: a DICOM object", file.path));
        }
    }
    wrong
}

/// Differences between the code map of `ARCHITECTURE.md` and the declared modules.
pub(super) fn code_map(order: &[String], architecture: &str) -> Vec<String> {
    let section = architecture.lines().skip_while(|l| *l != "## Code map").skip(1);
    let rows = section.take_while(|l| !l.starts_with("## "));
    let listed: Vec<&str> = rows.filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    if listed == order {
        return Vec::new();
    }
    let missing = order.iter().filter(|m| !listed.contains(&m.as_str()));
    let missing = missing
        .map(|m| format!("ARCHITECTURE.md: expected module {m} in the code map, found none"));
    let extra = listed.iter().filter(|l| !order.iter().any(|m| m == *l));
    let extra = extra
        .map(|l| format!("ARCHITECTURE.md: the code map lists {l}, which lib.rs does not declare"));
    let mut wrong: Vec<String> = missing.chain(extra).collect();
    if wrong.is_empty() {
        wrong.push(format!(
            "ARCHITECTURE.md: expected the code map in lib.rs's order {order:?}, found {listed:?}"
        ));
    }
    wrong
}

/// Relative links of documents that lead nowhere or out of the workspace.
pub(super) fn links(files: &[File]) -> Vec<String> {
    let known: BTreeSet<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let leads = |target: &str| {
        known.contains(target) || known.iter().any(|k| k.starts_with(&format!("{target}/")))
    };
    let mut wrong = Vec::new();
    for file in files.iter().filter(|f| f.is("md")) {
        for (line, link) in relative_links(&file.text()) {
            let place = format!("{}:{line}", file.path);
            match resolved(&file.path, &link) {
                Some(target) if leads(&target) => {}
                Some(target) => {
                    wrong.push(format!("{place}: expected {target}, found no such file"))
                }
                None => wrong.push(format!("{place}: {link} leads out of the workspace")),
            }
        }
    }
    wrong
}

/// Links `](target)` outside code blocks, without anchors, and without those that name a scheme.
fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (line, text) in text.lines().enumerate() {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in text.split("](").skip(1) {
            let target = part.split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                links.push((line + 1, target.to_owned()));
            }
        }
    }
    links
}

/// A link's target as a path from the root; none where it leaves the workspace.
fn resolved(document: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for component in Path::new(link).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Decisions that are too long, misnamed, out of sequence or without one of their four parts.
pub(super) fn decisions(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    let decisions = files.iter().filter_map(|f| Some((f, f.path.strip_prefix("docs/decisions/")?)));
    for (expected, (file, name)) in (1..).zip(decisions) {
        let mut say = |text: String| wrong.push(format!("{}: {text}", file.path));
        if !name.starts_with(&format!("{expected:04}-")) || !file.is("md") {
            say(format!("expected a name like {expected:04}-some-words.md"));
        }
        let text = file.text();
        let lines = text.lines().count();
        if lines > DECISION_LINES_MAX {
            say(format!("expected at most {DECISION_LINES_MAX} lines, found {lines}"));
        }
        for part in ["## Context", "## Decision", "## Consequences", "## Rejected"] {
            if !text.lines().any(|l| l == part) {
                say(format!("expected a part {part:?}, found none"));
            }
        }
    }
    wrong
}
