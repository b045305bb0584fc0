//! Why something could not be kept or found.

use std::path::PathBuf;

use super::VALUE_BYTES_MAX;
use super::record::VALUE_VERSION;

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// sled failed.
    #[error("store: {action}: {source}")]
    Sled {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sled::Error,
    },
    /// A file or folder beside sled failed.
    #[error("store: {action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A value is not what this version writes.
    #[error("store: {tree}: expected a value of version {VALUE_VERSION}, found {found}")]
    Value {
        /// In which tree.
        tree: &'static str,
        /// What stands there.
        found: String,
    },
    /// A value would go to a file that is never synced.
    #[error("store: {tree}: expected a value of at most {VALUE_BYTES_MAX} bytes, found {found}")]
    TooLarge {
        /// In which tree.
        tree: &'static str,
        /// Its length.
        found: usize,
    },
    /// A sync failed before.
    #[error("store: a sync failed before: nothing is kept until it is opened anew")]
    Distrusted,
    /// sled cannot open what lies there.
    #[error("store: opening {}: {text}", folder.display())]
    Broken {
        /// The store's folder.
        folder: PathBuf,
        /// What sled said.
        text: String,
    },
}
