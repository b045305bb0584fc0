//! Untrusted bytes to a [`Frame`]: stored samples, grey parameters and acquisition facts.
//!
//! DICOM (PS3.10 files) and, for the workshop and the command line, PNG and JPEG; told apart by
//! content, never by name. No in-memory data set is built: after the structural gate of
//! [`crate::ingest::structure`] the few elements that a frame needs are picked out of the token
//! stream. What is refused says expected and found in our own words: no text of a header is
//! repeated, because it may name a patient.

pub mod child;
mod codecs;
pub(crate) mod deadline;
mod decoder;
mod dicom;
mod elements;
mod facts;
mod grey;
pub(crate) mod jail;
mod lossless;
mod picture;
mod pixels;
mod rle;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{self, DicomLimits};
use crate::id::Uid;
use crate::ingest::structure::StructureError;

pub use decoder::{Decoder, Program};
pub use grey::{Function, Grey, Lut, Modality, Voi, Window};
pub use picture::{Shades, write_png};

/// One decoded picture as it was stored, and how its grey values are meant.
#[derive(Clone, PartialEq)]
pub struct Frame {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Stored samples `[rows, columns]`, masked to `grey.bits_stored`; where they are signed in two's
    /// complement, extended to 16 bits. [`Self::samples`] has them as numbers.
    pub words: Vec<u16>,
    /// How stored samples become grey.
    pub grey: Grey,
    /// What the header says of the acquisition.
    pub facts: Facts,
}

impl Frame {
    /// Stored samples, row by row.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = i32> {
        let sign = if self.grey.signed { 1 << 15 } else { 0 };
        self.words.iter().map(move |&word| (i32::from(word) ^ sign) - sign)
    }
}

impl fmt::Debug for Frame {
    /// Its size only: pixels are too many and facts name the patient's exam.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} x {})", self.rows, self.columns)
    }
}

/// What the header says of the acquisition; a picture file says nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// View Position (0018,5101) or View Code Sequence (0054,0220).
    pub view: View,
    /// Body Part Examined (0018,0015) or Anatomic Region Sequence (0008,2218).
    pub body_part: Option<String>,
    /// Whole years, of Patient's Age (0010,1010) or of birth and study date.
    pub age_years: Option<u32>,
    /// Deviation Index (0018,1413) of the exposure.
    pub deviation_index: Option<f64>,
    /// Accession Number (0008,0050).
    pub accession: Option<String>,
    /// SOP Instance UID (0008,0018).
    pub sop_instance: Option<Uid>,
    /// SOP Class UID (0008,0016).
    pub sop_class: Option<Uid>,
    /// Series Instance UID (0020,000E).
    pub series: Option<Uid>,
    /// Study Instance UID (0020,000D).
    pub study: Option<Uid>,
    /// What kind of file it was.
    pub source: Source,
}

/// How the X-rays went through the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum View {
    /// From the back to the front.
    PA,
    /// From the front to the back.
    AP,
    /// From the side, left side at the detector; also a lateral view whose side is not told.
    LL,
    /// From the side, right side at the detector.
    RL,
    /// The header does not tell.
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
}

impl View {
    /// The view's name in configuration and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PA => "PA",
            Self::AP => "AP",
            Self::LL => "LL",
            Self::RL => "RL",
            Self::Unknown => "unknown",
        }
    }
}

/// What kind of file a frame came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Source {
    /// A DICOM object.
    #[default]
    Dicom,
    /// A PNG or JPEG file: grey as displayed, no header.
    Picture,
}

/// Why bytes are no frame. The codes of [`DecodeError::code`] only grow.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file cannot be read.
    #[error("reading {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither DICOM nor PNG nor JPEG.
    #[error("expected a DICOM, PNG or JPEG file, found another kind of content")]
    NotAnImage,
    /// More than a limit of the configuration allows.
    #[error("{what}: expected at most {expected}, found {found}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        expected: u64,
        /// What was found; where it could not be counted, the limit plus one.
        found: u64,
    },
    /// The data set is malformed or breaks a structural limit.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// A transfer syntax that is not decoded.
    #[error("transfer syntax: expected one that is decoded (docs/dicom.md), found {found}")]
    Syntax {
        /// The UID.
        found: String,
    },
    /// An attribute that pixels cannot be read without has another value than it can have.
    #[error("{name}: expected {expected}, found {found}")]
    Attribute {
        /// Its name in the standard.
        name: &'static str,
        /// What it can be.
        expected: String,
        /// What it is: a number or a description, never a text of the header.
        found: String,
    },
    /// A colour picture.
    #[error("expected one grey sample a pixel, found colour of {samples} samples a pixel")]
    Colour {
        /// Samples per Pixel (0028,0002).
        samples: u16,
    },
    /// Several pictures in one object.
    #[error("expected 1 frame, found {found}")]
    MultiFrame {
        /// Number of Frames (0028,0008).
        found: f64,
    },
    /// No Pixel Data (7FE0,0010).
    #[error("expected Pixel Data (7FE0,0010), found none")]
    PixelsMissing,
    /// Less Pixel Data than rows and columns need.
    #[error("Pixel Data (7FE0,0010): expected {expected} bytes, found {found}")]
    PixelsShort {
        /// What rows, columns and bits need, bytes.
        expected: usize,
        /// What is there, bytes.
        found: usize,
    },
    /// The bytes contradict themselves.
    #[error("decoding {what}: {text}")]
    Corrupt {
        /// What was decoded.
        what: &'static str,
        /// Expected and found, without any text of the header.
        text: String,
    },
    /// A decode child refused the object: any of the above, in its words.
    #[error("{text}")]
    Refused {
        /// The reason code.
        code: String,
        /// Expected and found.
        text: String,
    },
    /// A decode child took too long.
    #[error("decoding: expected an answer within {expected:?}, found none")]
    TimedOut {
        /// The limit.
        expected: Duration,
    },
    /// A decode child wanted more memory than it may have.
    #[error("decoding: expected at most {expected} bytes of memory, found a wish for more")]
    Memory {
        /// The limit.
        expected: u64,
    },
    /// A decode child was killed from outside, twice.
    #[error("decoding: expected an answer, found the process killed twice")]
    Killed,
    /// A decode child broke.
    #[error("decoding: expected an answer, found the process ended by {status}")]
    Crashed {
        /// How it ended.
        status: String,
    },
    /// No decode child can be started.
    #[error("starting a decode process: {0}")]
    Child(std::io::Error),
}

impl DecodeError {
    /// Is it the appliance that failed, not the object? Then it is worth another attempt.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Child(_))
    }

    /// The reason code that messages and quarantine carry.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Io { .. } | Self::Child(_) => "decode-io",
            Self::NotAnImage => "decode-not-an-image",
            Self::TooLarge { .. } => "decode-too-large",
            Self::Structure(_) => "decode-structure",
            Self::Syntax { .. } => "decode-syntax-unsupported",
            Self::Attribute { .. } => "decode-attribute",
            Self::Colour { .. } => "decode-colour",
            Self::MultiFrame { .. } => "decode-multi-frame",
            Self::PixelsMissing => "decode-pixels-missing",
            Self::PixelsShort { .. } => "decode-pixels-short",
            Self::Corrupt { .. } => "decode-corrupt",
            Self::Refused { code, .. } => code,
            Self::TimedOut { .. } => "decode-timeout",
            Self::Memory { .. } => "decode-memory",
            Self::Killed => "decode-killed",
            Self::Crashed { .. } => "decode-crash",
        }
    }
}

/// Reads and decodes one file.
///
/// # Errors
/// The file cannot be read, or see [`decode`].
pub fn decode_file(
    path: &Path,
    limits: &config::Decode,
    structure: &DicomLimits,
) -> Result<Frame, DecodeError> {
    decode(&bytes_of(path, limits)?, limits, structure)
}

/// A file's bytes, no more than one beyond the limit.
fn bytes_of(path: &Path, limits: &config::Decode) -> Result<Vec<u8>, DecodeError> {
    let io = |source| DecodeError::Io { path: path.display().to_string(), source };
    let most = limits.inflated.as_u64();
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|f| f.take(most + 1).read_to_end(&mut bytes)).map_err(io)?;
    Ok(bytes)
}

/// Decodes one object.
///
/// # Errors
/// Anything that is no single grey picture within the limits; the code says which kind.
pub fn decode(
    bytes: &[u8],
    limits: &config::Decode,
    structure: &DicomLimits,
) -> Result<Frame, DecodeError> {
    let most = limits.inflated.as_u64();
    let found = bytes.len() as u64;
    if found > most {
        return Err(DecodeError::TooLarge { what: "bytes", expected: most, found });
    }
    if let Some(file) = crate::ingest::meta::behind_prefix(bytes) {
        return dicom::decode(file, limits, structure);
    }
    match picture::format(bytes) {
        Some(format) => picture::decode(bytes, format, limits),
        None => Err(DecodeError::NotAnImage),
    }
}

/// Is a picture of `rows` x `columns` within the limit?
fn within(rows: u64, columns: u64, limits: &config::Decode) -> Result<(), DecodeError> {
    let found = rows.saturating_mul(columns);
    if found > limits.pixels {
        return Err(DecodeError::TooLarge {
            what: "rows x columns",
            expected: limits.pixels,
            found,
        });
    }
    Ok(())
}
