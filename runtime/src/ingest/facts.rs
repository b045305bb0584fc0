//! What is read from an object before it is acknowledged: its structure and its UIDs, no more.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::FileMetaTableBuilder;

use super::Instance;
use super::structure::{self, StructureError};
use crate::config::DicomLimits;
use crate::id::{Digest, Hashing, InstanceId, Uid};

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) sop_class: Uid,
    pub(super) sop_instance: Uid,
    pub(super) study: Uid,
    pub(super) accession: Option<String>,
}

/// Why an object is not taken, in our own words: none of its text is repeated.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// It breaks a structural limit.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// An attribute that every image has is missing or malformed.
    #[error("expected {0}, found none that is valid")]
    Missing(&'static str),
    /// Its file meta group is not what we write.
    #[error("{}: expected a file meta group as this software writes it, found another", .0.display())]
    Meta(PathBuf),
    /// The file cannot be read.
    #[error("reading {}: {source}", file.display())]
    Io {
        /// Our file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Longest value that is taken from a header: 16 characters of an accession number in UTF-8, 64 of a UID.
const VALUE_BYTES_MAX: u64 = 64;

/// Checks the structure of the data set that begins at byte `start` of a file, and reads its UIDs.
pub(super) fn facts_in(
    file: &Path,
    start: u64,
    transfer_syntax: &str,
    limits: &DicomLimits,
) -> Result<Facts, FactsError> {
    let io = |source| FactsError::Io { file: file.into(), source };
    let mut found: Vec<(Tag, Range<u64>)> = Vec::new();
    let wanted = [
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::ACCESSION_NUMBER,
    ];
    let data_set = DataSet::open(file, start).map_err(io)?;
    structure::walk(BufReader::new(data_set), transfer_syntax, limits, |value| {
        if value.inside.is_none() && wanted.contains(&value.tag) {
            found.push((value.tag, value.bytes));
        }
    })?;
    let mut data_set = DataSet::open(file, start).map_err(io)?;
    let mut text = |tag| -> Result<Option<String>, FactsError> {
        let Some((_, bytes)) = found.iter().find(|(t, _)| *t == tag) else { return Ok(None) };
        if bytes.end - bytes.start > VALUE_BYTES_MAX {
            return Ok(None);
        }
        data_set.seek(SeekFrom::Start(bytes.start)).map_err(io)?;
        let mut value = Vec::new();
        (&mut data_set).take(bytes.end - bytes.start).read_to_end(&mut value).map_err(io)?;
        Ok(Some(String::from_utf8_lossy(&value).trim_matches(['\0', ' ']).to_owned()))
    };
    let mut uid =
        |tag, name| text(tag)?.and_then(|t| t.parse::<Uid>().ok()).ok_or(FactsError::Missing(name));
    Ok(Facts {
        sop_class: uid(tags::SOP_CLASS_UID, "a SOP Class UID (0008,0016)")?,
        sop_instance: uid(tags::SOP_INSTANCE_UID, "a SOP Instance UID (0008,0018)")?,
        study: uid(tags::STUDY_INSTANCE_UID, "a Study Instance UID (0020,000D)")?,
        accession: text(tags::ACCESSION_NUMBER)?.filter(|t| !t.is_empty()),
    })
}

/// The instance that lies in a complete file of the spool, for a store that has to be rebuilt.
///
/// # Errors
/// The file cannot be read or does not say who it is.
pub fn instance_in(
    file: &Path,
    id: InstanceId,
    limits: &DicomLimits,
) -> Result<Instance, FactsError> {
    let io = |source| FactsError::Io { file: file.into(), source };
    let mut reader = BufReader::new(File::open(file).map_err(io)?);
    reader.seek(SeekFrom::Start(PREAMBLE)).map_err(io)?;
    let meta = dicom_object::FileMetaTable::from_reader(&mut reader)
        .map_err(|_| FactsError::Meta(file.into()))?;
    let transfer_syntax: Uid =
        meta.transfer_syntax().parse().map_err(|_| FactsError::Meta(file.into()))?;
    let start = reader.stream_position().map_err(io)?;
    let facts = facts_in(file, start, transfer_syntax.as_str(), limits)?;
    let (digest, bytes) = digest_of(&mut reader).map_err(io)?;
    let received = id.made_at_s().and_then(|s| DateTime::from_timestamp(i64::try_from(s).ok()?, 0));
    Ok(Instance {
        id,
        sop_class: facts.sop_class,
        sop_instance: facts.sop_instance,
        study: facts.study,
        accession: facts.accession,
        transfer_syntax,
        digest,
        bytes,
        received: received.unwrap_or_default(),
    })
}

/// Bytes before the `DICM` of a file (PS3.10 7.1).
const PREAMBLE: u64 = 128;

fn digest_of(reader: &mut impl Read) -> io::Result<(Digest, u64)> {
    let (mut hashing, mut bytes, mut piece) = (Hashing::default(), 0, [0; 65_536]);
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok((hashing.finish(), bytes)),
            n => {
                hashing.update(&piece[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// What stands before a received data set: preamble, `DICM` and the file meta group (PS3.10 7.1).
pub(super) fn preface(
    class: &Uid,
    instance: &Uid,
    transfer_syntax: &str,
    sender: &str,
) -> Result<Vec<u8>, String> {
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(class.as_str())
        .media_storage_sop_instance_uid(instance.as_str())
        .transfer_syntax(transfer_syntax)
        .source_application_entity_title(sender)
        .build()
        .map_err(|e| format!("building the file meta group: {e}"))?;
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    meta.write(&mut bytes).map_err(|e| format!("writing the file meta group: {e}"))?;
    Ok(bytes)
}

/// The part of a file behind its meta group, as if it were a file of its own.
struct DataSet {
    file: File,
    start: u64,
}

impl DataSet {
    fn open(file: &Path, start: u64) -> io::Result<Self> {
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, start })
    }
}

impl Read for DataSet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for DataSet {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at + self.start),
            SeekFrom::End(_) | SeekFrom::Current(_) => to,
        };
        let at = self.file.seek(to)?;
        at.checked_sub(self.start).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }
}
