//! Where things lie in an embeddings folder, and what can go wrong in it.

use std::fs;
use std::path::{Path, PathBuf};

use clearfilm::encode::{EncodeError, Engine};
use clearfilm::id::Digest;
use safetensors::SafeTensorError;

use crate::files::{FileError, io};
use crate::table::TableError;

/// What can go wrong. What is wrong with a picture is no error: the picture is refused.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of ours is not what it should be.
    #[error("reading {}: {source}", file.display())]
    Json {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A shard is no safetensors file.
    #[error("shard {}: {source}", file.display())]
    Tensors {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// The table cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The folder belongs to another plan.
    #[error("{}: expected the same plan, found another in:\n{differences}", file.display())]
    Other {
        /// The plan.
        file: PathBuf,
        /// One line each: key, planned, asked for.
        differences: String,
    },
    /// The list of pictures is not the one that was planned.
    #[error("{}: expected {expected}, found {found}", file.display())]
    Changed {
        /// Which file.
        file: PathBuf,
        /// As planned.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// Another bundle or engine than planned: its bits would differ.
    #[error("{what}: expected {expected} as planned, found {found}")]
    Unfit {
        /// Bundle or engine.
        what: &'static str,
        /// As planned.
        expected: String,
        /// As it is here.
        found: String,
    },
    /// No shard has this number.
    #[error("shard: expected a number below {count}, found {found}")]
    Index {
        /// Shards there are.
        count: usize,
        /// What was asked for.
        found: usize,
    },
    /// The engine fails.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The appliance's side of decoding fails.
    #[error("picture {image}: {source}")]
    Decode {
        /// Which picture.
        image: String,
        /// Why.
        source: clearfilm::decode::DecodeError,
    },
    /// Shards are missing or damaged.
    #[error("{}: expected {count} valid shards, found these missing or damaged: {missing}", folder.display())]
    Unfinished {
        /// Where.
        folder: PathBuf,
        /// Shards there are.
        count: usize,
        /// Their numbers.
        missing: String,
    },
    /// More pictures were refused than may be.
    #[error("expected at most a share of {expected} of the pictures refused, found {found}")]
    TooManyRefused {
        /// The limit.
        expected: f64,
        /// What it is.
        found: f64,
    },
    /// The collection's folder is gone.
    #[error("expected the collection at {}, found no folder", .0.display())]
    Root(PathBuf),
}

impl EmbedError {
    /// Another engine than planned.
    pub(super) fn engine(expected: &Engine, found: &Engine) -> Self {
        let text = |e: &Engine| {
            let library = e.library.as_deref().unwrap_or("built in");
            format!("{} {} {} ({library})", e.backend, e.provider, e.precision)
        };
        Self::Unfit { what: "engine", expected: text(expected), found: text(found) }
    }
}

/// An embeddings folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where it lies.
    pub path: PathBuf,
}

impl Folder {
    /// The folder at this path, which need not be there yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// What decides the bytes.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// One picture a line.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.path.join("images.jsonl")
    }

    /// Where the shards lie.
    #[must_use]
    pub fn shards(&self) -> PathBuf {
        self.path.join("shards")
    }

    /// A shard's tensors.
    #[must_use]
    pub fn shard(&self, index: usize) -> PathBuf {
        self.shards().join(format!("{index:06}.safetensors"))
    }

    /// The record that makes a shard valid.
    #[must_use]
    pub fn done(&self, index: usize) -> PathBuf {
        self.shards().join(format!("{index:06}.done"))
    }

    /// One row a vector.
    #[must_use]
    pub fn rows(&self) -> PathBuf {
        self.path.join("rows.parquet")
    }

    /// One line for each picture that was refused.
    #[must_use]
    pub fn refused(&self) -> PathBuf {
        self.path.join("refused.csv")
    }

    /// What the folder holds; written last.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.json")
    }
}

/// Makes a folder, and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), EmbedError> {
    Ok(fs::create_dir_all(path).map_err(io("making", path))?)
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, EmbedError> {
    Ok(fs::read(file).map_err(io("reading", file))?)
}

/// The bytes of a JSON file, with a newline at the end.
pub(super) fn json<T: serde::Serialize>(file: &Path, value: &T) -> Result<Vec<u8>, EmbedError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| EmbedError::Json { file: file.into(), source })?;
    Ok(format!("{text}\n").into_bytes())
}
