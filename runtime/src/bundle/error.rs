//! Why a bundle is refused: each error names the file, what was expected and what was found.

use std::io;

use crate::id::Digest;

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file or folder cannot be read.
    #[error("bundle: reading {file}: {source}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than the configuration allows.
    #[error("bundle: {file}: expected at most {limit} bytes, found {found}")]
    TooLarge {
        /// Which.
        file: String,
        /// `bundle.max_file`.
        limit: u64,
        /// Its size.
        found: u64,
    },
    /// A file is not there.
    #[error("bundle: {file}: expected a file that the manifest lists, found none")]
    Missing {
        /// Which.
        file: String,
    },
    /// A file is there that the manifest does not list, or lists one that no bundle has.
    #[error(
        "bundle: {file}: expected only the files of a bundle that manifest.toml lists, found this one"
    )]
    Unlisted {
        /// Which.
        file: String,
    },
    /// A file's bytes are not those that the manifest names.
    #[error("bundle: {file}: expected {expected}, found {found}")]
    Digest {
        /// Which.
        file: String,
        /// What the manifest says.
        expected: Digest,
        /// What the bytes give.
        found: Digest,
    },
    /// A file cannot be parsed, or has an unknown or missing key.
    #[error("bundle: {file}: {text}")]
    Syntax {
        /// Which.
        file: String,
        /// What the parser expected and found.
        text: String,
    },
    /// A tensor has another shape or type.
    #[error("bundle: {file}: tensor {tensor}: expected {expected}, found {found}")]
    Shape {
        /// Which file.
        file: String,
        /// Which tensor.
        tensor: String,
        /// Type and shape that the manifest asks for.
        expected: String,
        /// Type and shape in the file.
        found: String,
    },
    /// A value is out of its range, or does not fit another.
    #[error("bundle: {file}: expected {expected}, found {found}")]
    Value {
        /// Which file.
        file: String,
        /// What would be right.
        expected: String,
        /// What stands there.
        found: String,
    },
}
