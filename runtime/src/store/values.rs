//! Values and keys of the trees: JSON in, JSON out, and never one that sled would not sync.
//!
//! Large values are deflated. sled keeps what was written in memory until each of its 256 queues
//! has seen 64 accesses, whatever its cache is said to hold: a reading has 33 kB of JSON and 6 kB
//! deflated, and so a busy day stays in memory a sixth as large.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::Tree;
use sled::transaction::{
    ConflictableTransactionError, ConflictableTransactionResult, TransactionError,
    TransactionalTree,
};

use super::record::OutboxRow;
use super::{SEQUENCE, StoreError, VALUE_BYTES_MAX};
use crate::id::ExamKey;

/// Gives a message the next sequence number and queues it.
pub(super) fn append(
    outbox: &TransactionalTree,
    meta: &TransactionalTree,
    row: &OutboxRow,
) -> ConflictableTransactionResult<u64, StoreError> {
    let sequence = meta.get(SEQUENCE)?.map_or(0, |bytes| number(&bytes)) + 1;
    meta.insert(SEQUENCE, &sequence.to_be_bytes())?;
    put_in(outbox, "outbox", &sequence.to_be_bytes(), row)?;
    Ok(sequence)
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

pub(super) fn revision_key(exam: &ExamKey, revision: u32) -> Vec<u8> {
    [exam.as_str().as_bytes(), &revision.to_be_bytes()].concat()
}

pub(super) fn put_in<T: Serialize>(
    tree: &TransactionalTree,
    name: &'static str,
    key: &[u8],
    value: &T,
) -> ConflictableTransactionResult<(), StoreError> {
    let json = json(value);
    let written = json.len();
    let bytes = packed(json);
    if bytes.len() > VALUE_BYTES_MAX || written > INFLATED_MAX {
        let error = StoreError::TooLarge { tree: name, found: bytes.len() };
        return Err(ConflictableTransactionError::Abort(error));
    }
    tree.insert(key, bytes)?;
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records hold only plain values")
}

/// First byte of a deflated value; JSON never begins with it.
const DEFLATED: u8 = 1;

/// Values from this length on are deflated, bytes: a row of inbox or outbox has less, and gains little.
const DEFLATED_FROM: usize = 2_000;

/// Longest value before it is deflated, bytes: ten times as much as may be stored.
const INFLATED_MAX: usize = 10 * VALUE_BYTES_MAX;

fn packed(json: Vec<u8>) -> Vec<u8> {
    if json.len() < DEFLATED_FROM {
        return json;
    }
    let mut deflated = ZlibEncoder::new(vec![DEFLATED], Compression::fast());
    let written = deflated.write_all(&json).and_then(|()| deflated.finish());
    written.expect("memory takes whatever is written to it")
}

fn unpacked<'a>(tree: &'static str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, StoreError> {
    let Some(deflated) = bytes.strip_prefix(&[DEFLATED]) else { return Ok(Cow::Borrowed(bytes)) };
    let mut json = Vec::new();
    let read = ZlibDecoder::new(deflated).take(INFLATED_MAX as u64).read_to_end(&mut json);
    read.map_err(|e| StoreError::Value { tree, found: format!("a damaged one: {}", e.kind()) })?;
    Ok(Cow::Owned(json))
}

pub(super) fn get_in<T: DeserializeOwned>(
    tree: &TransactionalTree,
    name: &'static str,
    key: &[u8],
) -> ConflictableTransactionResult<Option<T>, StoreError> {
    let value = tree.get(key)?;
    value.map(|v| parse(name, &v)).transpose().map_err(ConflictableTransactionError::Abort)
}

pub(super) fn get<T: DeserializeOwned>(
    tree: &Tree,
    name: &'static str,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    let value = tree.get(key).map_err(|source| StoreError::Sled { action: "reading", source })?;
    value.map(|v| parse(name, &v)).transpose()
}

pub(super) fn parse<T: DeserializeOwned>(
    tree: &'static str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    // The parser's text may quote the value: only its kind is told.
    serde_json::from_slice(&unpacked(tree, bytes)?).map_err(|e| StoreError::Value {
        tree,
        found: format!("{:?} at column {}", e.classify(), e.column()),
    })
}

pub(super) fn failed(action: &'static str, error: TransactionError<StoreError>) -> StoreError {
    match error {
        TransactionError::Abort(error) => error,
        TransactionError::Storage(source) => StoreError::Sled { action, source },
    }
}
