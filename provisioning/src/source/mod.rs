//! Where a repository is read from: a folder, a USB stick's for instance, or a web server.
//!
//! Nothing that comes from here is trusted: what a file must hold is said by metadata that was
//! verified, and how long it may be by a limit.

mod folder;
mod web;

use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

pub use folder::Folder;
pub use web::{Web, WebSettings};

use crate::files::read_open;
use crate::role::DOCUMENT_MAX;

/// Where a repository is read from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder.
    Folder(Arc<Folder>),
    /// A web server.
    Web(Arc<Web>),
}

/// A file of a repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is none.
    #[error("{0}: expected a file, found none")]
    NotFound(String),
    /// It is longer than it may be.
    #[error("{file}: expected at most {limit} bytes, found more")]
    TooLong {
        /// Which.
        file: String,
        /// The limit.
        limit: u64,
    },
    /// It is no plain file, or lies behind a link.
    #[error("{0}: expected a plain file, found a link or a device")]
    NoFile(String),
    /// The web server said something else than the file.
    #[error("{file}: expected HTTP {expected}, found {found}")]
    Status {
        /// Which.
        file: String,
        /// What was expected.
        expected: u16,
        /// What was found.
        found: u16,
    },
    /// The disk or the network fails.
    #[error("reading {file}: {text}")]
    Failed {
        /// Which.
        file: String,
        /// Why.
        text: String,
    },
}

impl Source {
    /// A folder.
    ///
    /// # Errors
    /// No folder.
    pub fn folder(path: &std::path::Path) -> Result<Self, SourceError> {
        Folder::open_at(path).map(|folder| Self::Folder(Arc::new(folder)))
    }

    /// What a file holds from `offset` on, as it comes: some `length` bytes, which says how long a
    /// server may take.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn open(
        &self,
        file: &str,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        match self {
            Self::Folder(folder) => folder.open(file, offset),
            Self::Web(web) => web.open(file, offset, length),
        }
    }

    /// A whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let reader = self.open(file, 0, limit)?;
        let failed = |error: std::io::Error| SourceError::Failed {
            file: file.into(),
            text: error.to_string(),
        };
        // One byte more than allowed shows that there is more.
        let bytes = read_open(reader.take(limit + 1), limit + 1).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(SourceError::TooLong { file: file.into(), limit });
        }
        Ok(bytes)
    }
}

/// The address under which `tough` asks for metadata; its path is the file's.
pub(crate) const BASE: &str = "repository:///metadata/";

#[async_trait]
impl Transport for Source {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let (source, file) = (self.clone(), url.path().trim_start_matches('/').to_owned());
        let read = tokio::task::spawn_blocking(move || source.read(&file, DOCUMENT_MAX)).await;
        // An error is told by the stream: `tough` takes one that is told here for "there is no newer
        // root", whatever it says.
        let item = match read {
            Ok(Ok(bytes)) => Ok(Bytes::from(bytes)),
            Ok(Err(error @ SourceError::NotFound(_))) => {
                Err(TransportError::new_with_cause(TransportErrorKind::FileNotFound, url, error))
            }
            Ok(Err(error)) => {
                Err(TransportError::new_with_cause(TransportErrorKind::Other, url, error))
            }
            Err(error) => {
                Err(TransportError::new_with_cause(TransportErrorKind::Other, url, error))
            }
        };
        Ok(Box::pin(stream::iter([item])))
    }
}
