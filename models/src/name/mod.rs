//! What features are called: names and descriptions from pictures and reports, and how far each
//! holds on images that had no part in it.
//!
//! A name is worth what it tells of images that nobody named by it, above what another feature's
//! name tells of them. Who names and who judges are servers of the user's choice; what cannot be
//! had from them is a counted failure, never a zero.

pub mod server;
pub mod chat;
pub mod reply;
mod wire;
pub mod show;
pub mod client;
pub mod prompts;
pub mod score;
pub mod plan;
pub mod choose;
pub mod medsae;
pub mod held_out;
pub mod vocabulary;
pub mod naming;
pub mod describe;

use std::io;
use std::path::PathBuf;

use crate::dictionary::DictionaryError;
use crate::embed::EmbedError;
use crate::files::FileError;
use crate::layout::LayoutError;
use reply::Failure;

/// What a run tells whoever shows it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// In words.
    Say(&'a str),
    /// So many requests follow, unless their replies are kept already.
    Asks(usize),
    /// One of them is answered, or failed.
    Answered,
}

/// Hears what a run tells, from any of its threads.
pub type Tell<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// Why a run ended early. What was answered until then is kept.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A picture's file or its decoder.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The dictionary cannot be read.
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
    /// Reports or codes cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A folder of vectors cannot be read.
    #[error(transparent)]
    Vectors(Box<dyn std::error::Error + Send + Sync>),
    /// A picture that has an embedding cannot be shown.
    #[error("picture {image}: expected what its embedding was made of, found: {found}")]
    Picture {
        /// Which.
        image: String,
        /// Why.
        found: String,
    },
    /// No key.
    #[error("environment variable {0}: expected the server's key, found none")]
    Key(String),
    /// A request cannot be formed.
    #[error("forming a request: {0}")]
    Forming(serde_json::Error),
    /// A thread cannot be started.
    #[error("starting a thread: {0}")]
    Thread(io::Error),
    /// The limit on requests.
    #[error(
        "expected at most {expected} requests (requests_max), found need of more than {found}; replies are kept: run again to go on"
    )]
    Requests {
        /// The limit.
        expected: u64,
        /// Sent.
        found: u64,
    },
    /// The limit on cost.
    #[error(
        "expected a cost of at most {expected} (cost_max), found {found:.4} spent; replies are kept: run again to go on"
    )]
    Cost {
        /// The limit.
        expected: f64,
        /// Spent.
        found: f64,
    },
    /// The server is away.
    #[error(
        "expected an answer, found {count} failures in a row, the last of kind {last:?}; replies are kept: run again to go on"
    )]
    Away {
        /// Attempts.
        count: u64,
        /// How the last one failed.
        last: Failure,
    },
    /// A plan or file that does not fit.
    #[error("{what}: expected {expected}, found {found}")]
    Unfit {
        /// What does not fit.
        what: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A tensor file.
    #[error("reading {}: {source}", file.display())]
    Tensors {
        /// Which.
        file: PathBuf,
        /// Why.
        source: safetensors::SafeTensorError,
    },
}

/// Something that does not fit.
pub(crate) fn unfit(
    what: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> NameError {
    NameError::Unfit { what: what.into(), expected: expected.into(), found: found.into() }
}
