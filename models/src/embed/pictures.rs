//! Pictures as the encoder sees them, by path below a collection's root.
//!
//! A picture is decoded in a child process, as on the device: whatever it does to a codec, it is
//! refused and the next one is read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clearfilm::bundle::Fit;
use clearfilm::decode::{DecodeError, Decoder, Program};
use clearfilm::id::Digest;
use clearfilm::preprocess::{self, Picture};
use serde::{Deserialize, Serialize};

use super::{EmbedError, Plan};
use crate::files::io;

/// A picture that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Its path below the root.
    pub image: String,
    /// Reason code, as on the device (`docs/dicom.md`), or `decode-missing`.
    pub code: String,
    /// Expected and found.
    pub text: String,
}

/// Reads pictures, one after the other.
pub struct Pictures {
    /// The collection's root.
    root: PathBuf,
    decoder: Decoder,
    /// Largest file that is read, bytes.
    file_max: u64,
}

impl Pictures {
    /// Below `root`, within the limits of a plan; `program` is what decodes.
    #[must_use]
    pub fn new(root: &Path, plan: &Plan, program: Program) -> Self {
        let decoder = Decoder::new(program, &plan.decode, &plan.structure);
        Self { root: root.into(), decoder, file_max: plan.decode.inflated.as_u64() }
    }

    /// The picture `[rows, columns]` that is fitted to `size`, and the digest of its file; or why
    /// there is none.
    ///
    /// # Errors
    /// The disk or the machine fail. A picture that cannot be read is refused, not an error.
    pub fn read(
        &mut self,
        image: &str,
        fit: Fit,
        size: [usize; 2],
    ) -> Result<Result<(Picture, Digest), Refused>, EmbedError> {
        let refuse = |code: &str, text: String| {
            Ok(Err(Refused { image: image.to_owned(), code: code.into(), text }))
        };
        let path = self.root.join(image);
        let length = fs::metadata(&path).map(|about| about.len());
        let bytes = match length.and_then(|length| {
            // What is too large is not read: the decoder would refuse it anyway.
            if length > self.file_max {
                Ok((length, Vec::new()))
            } else {
                Ok((length, fs::read(&path)?))
            }
        }) {
            Ok((length, _)) if length > self.file_max => {
                let expected = self.file_max;
                let error = DecodeError::TooLarge { what: "bytes", expected, found: length };
                return refuse(error.code(), error.to_string());
            }
            Ok((_, bytes)) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return refuse("decode-missing", "expected a file, found none".into());
            }
            Err(source) => return Err(io("reading", &path)(source).into()),
        };
        match self.decoder.decode(&bytes) {
            Ok(frame) => {
                let picture = preprocess::render(&frame);
                Ok(Ok((preprocess::fit(&picture, fit, size), Digest::of(&bytes))))
            }
            Err(source) if source.is_ours() => {
                Err(EmbedError::Decode { image: image.to_owned(), source })
            }
            Err(error) => refuse(error.code(), error.to_string()),
        }
    }
}
