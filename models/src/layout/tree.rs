//! Which files lie below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::LayoutError;

/// Endings of picture files, lower case.
pub(super) const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "dcm"];

/// Folders in folders at most. The deepest collection known (MIMIC-CXR) has four; a loop of links
/// must end.
const DEPTH_MAX: usize = 16;

/// Paths of all picture files below `root`, with `/`, sorted.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn pictures(root: &Path) -> Result<Vec<String>, LayoutError> {
    let is_picture = |path: &Path| {
        path.extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| PICTURES.contains(&ending.to_lowercase().as_str()))
    };
    files(root, is_picture)
}

/// Paths of all files below `root` that are wanted, with `/`, sorted. What is no UTF-8 cannot be
/// named in a table and is passed over.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn files(
    root: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<String>, LayoutError> {
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, usize)> = vec![(root.into(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let io = |source| LayoutError::Io { file: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            // Links are followed: collections are often assembled from them.
            if path.is_dir() {
                if depth < DEPTH_MAX {
                    open.push((path, depth + 1));
                }
            } else if wanted(&path)
                && let Some(below) = path.strip_prefix(root).ok().and_then(Path::to_str)
            {
                found.push(below.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}
