//! Values and keys of the trees: JSON in, JSON out, and never one that sled would not sync.

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
    let bytes = json(value);
    if bytes.len() > VALUE_BYTES_MAX {
        let error = StoreError::TooLarge { tree: name, found: bytes.len() };
        return Err(ConflictableTransactionError::Abort(error));
    }
    tree.insert(key, bytes)?;
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records hold only plain values")
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
    serde_json::from_slice(bytes).map_err(|e| StoreError::Value {
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
