//! What is read from an object before it is acknowledged: its structure and its UIDs, no more.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::FileMetaTableBuilder;

use super::structure::{self, StructureError};
use super::{Instance, TRIAL_AE, meta, syntax};
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
    /// It does not begin as a DICOM file does (PS3.10 7.1).
    #[error("file meta group: {0}")]
    Meta(&'static str),
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
///
/// A deflated one is inflated in memory, to `inflated_max` bytes at most.
pub(super) fn facts_in(
    file: &Path,
    start: u64,
    transfer_syntax: &str,
    limits: &DicomLimits,
    inflated_max: u64,
) -> Result<Facts, FactsError> {
    let io = |source| FactsError::Io { file: file.into(), source };
    let mut data_set = DataSet::open(file, start).map_err(io)?;
    if syntax::of(transfer_syntax).is_some_and(|syntax| syntax.deflated) {
        let mut deflated = Vec::new();
        (&mut data_set).take(inflated_max).read_to_end(&mut deflated).map_err(io)?;
        let inflated = structure::inflate(&deflated, inflated_max)?;
        return facts_of(Cursor::new(inflated), transfer_syntax, limits, file);
    }
    facts_of(BufReader::new(data_set), transfer_syntax, limits, file)
}

fn facts_of(
    mut data_set: impl Read + Seek,
    transfer_syntax: &str,
    limits: &DicomLimits,
    file: &Path,
) -> Result<Facts, FactsError> {
    let io = |source| FactsError::Io { file: file.into(), source };
    let mut found: Vec<(Tag, Range<u64>)> = Vec::new();
    let wanted = [
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::ACCESSION_NUMBER,
    ];
    structure::walk(&mut data_set, transfer_syntax, limits, |value| {
        if value.inside.is_none() && wanted.contains(&value.tag) {
            found.push((value.tag, value.bytes));
        }
    })?;
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

/// Transfer syntax of a DICOM file, and the byte at which its data set begins.
pub(super) fn meta_of(file: &Path) -> Result<FileStart, FactsError> {
    let io = |source| FactsError::Io { file: file.into(), source };
    let mut begin = Vec::new();
    File::open(file).map_err(io)?.take(META_BYTES_MAX).read_to_end(&mut begin).map_err(io)?;
    let group = meta::behind_prefix(&begin).ok_or(FactsError::Meta(PREFIX))?;
    let meta = meta::split(group).map_err(FactsError::Meta)?;
    Ok(FileStart {
        transfer_syntax: meta.transfer_syntax.parse().map_err(|_| FactsError::Meta(NO_UID))?,
        trial: meta.source == Some(TRIAL_AE),
        data_set: (begin.len() - meta.data_set.len()) as u64,
    })
}

/// What the beginning of a file says.
pub(super) struct FileStart {
    pub(super) transfer_syntax: Uid,
    /// Was it sent by [`TRIAL_AE`]?
    pub(super) trial: bool,
    /// Where the data set begins.
    pub(super) data_set: u64,
}

/// What is said of a file that does not begin as one.
const PREFIX: &str = "expected preamble and prefix DICM, found something else";
const NO_UID: &str = "expected a Transfer Syntax UID (0002,0010), found text that is none";

/// Longest beginning that a file meta group is looked for in: ours have some 300 bytes, those with
/// private information (0002,0102) some kilobytes.
const META_BYTES_MAX: u64 = 64 * 1024;

/// The instance that lies in a complete file of the spool, for a store that has to be rebuilt.
///
/// # Errors
/// The file cannot be read or does not say who it is.
pub fn instance_in(
    file: &Path,
    id: InstanceId,
    limits: &DicomLimits,
    inflated_max: u64,
) -> Result<Instance, FactsError> {
    let io = |source| FactsError::Io { file: file.into(), source };
    let FileStart { transfer_syntax, trial, data_set: start } = meta_of(file)?;
    let facts = facts_in(file, start, transfer_syntax.as_str(), limits, inflated_max)?;
    let mut data_set = DataSet::open(file, start).map_err(io)?;
    let (digest, bytes) = digest_of(&mut data_set).map_err(io)?;
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
        trial,
    })
}

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
