//! Where a bundle's bytes come from: a folder, or the demo bundle inside the binary.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use super::{BundleError, Files};

macro_rules! embed {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bundles/demo/", $file)) as &[u8])),*]
    };
}

/// The demo bundle that every binary holds. It is not MedCLIP and not for clinical use.
#[must_use]
pub fn embedded_demo() -> Files {
    embed![
        "manifest.toml",
        "encoder.onnx",
        "head.safetensors",
        "sae.safetensors",
        "ood.safetensors",
        "features.json",
        "findings.json",
        "report.json",
        "golden/golden.safetensors",
        "card.md",
    ]
    .into_iter()
    .map(|(file, bytes)| (file.to_owned(), Cow::Borrowed(bytes)))
    .collect()
}

/// Deepest folder inside a bundle; the format has one level (`golden/`).
const DEPTH_MAX: usize = 2;

/// Every file under `folder`, by its path inside it, each at most `max_file` bytes.
///
/// # Errors
/// A file that cannot be read, is too large, or is neither file nor folder.
pub fn files_in(folder: &Path, max_file: u64) -> Result<Files, BundleError> {
    let mut files = Files::new();
    walk(folder, "", DEPTH_MAX, max_file, &mut files)?;
    Ok(files)
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    max_file: u64,
    files: &mut Files,
) -> Result<(), BundleError> {
    let read_error = |name: &str| {
        let file = if name.is_empty() { folder.display().to_string() } else { name.to_owned() };
        move |source| BundleError::Read { file, source }
    };
    for entry in fs::read_dir(folder).map_err(read_error(prefix))? {
        let entry = entry.map_err(read_error(prefix))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // Links are not followed: what the manifest hashes must be what lies in the folder.
        let kind = entry.file_type().map_err(read_error(&name))?;
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), &format!("{name}/"), depth - 1, max_file, files)?;
        } else if kind.is_file() {
            let found = entry.metadata().map_err(read_error(&name))?.len();
            if found > max_file {
                return Err(BundleError::TooLarge { file: name, limit: max_file, found });
            }
            let bytes = fs::read(entry.path()).map_err(read_error(&name))?;
            files.insert(name, Cow::Owned(bytes));
        } else {
            return Err(BundleError::Unlisted { file: name });
        }
    }
    Ok(())
}
