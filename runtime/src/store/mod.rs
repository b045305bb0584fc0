//! The durable record: inbox, readings, exams and outbox, in one sled store.
//!
//! | tree | key | value |
//! | --- | --- | --- |
//! | `inbox` | instance id (16 bytes) | [`InboxRow`]: accepted, not read yet |
//! | `objects` | SOP Instance UID | ids and digests of what was accepted under it |
//! | `readings` | instance id | [`InstanceRecord`] |
//! | `exams` | exam key | [`ExamRow`] |
//! | `revisions` | exam key, revision (u32, big endian) | [`ExamRecord`] |
//! | `outbox` | sequence number (u64, big endian) | [`OutboxRow`] |
//! | `alarms` | name of the alarm | [`alarms::AlarmRecord`]: raised, not cleared yet |
//! | `meta` | `seq` | the last sequence number given out (u64, big endian) |
//!
//! Values are JSON with a version. sled's own `flush` does not survive a power cut on Linux (it
//! is `sync_file_range`): the one function that makes things durable also syncs the store's file.
//! Drawback of the layout: values above 128 KB would go to files that sled never syncs, so larger
//! ones are refused.

pub mod alarms;
mod durable;
mod error;
mod forget;
mod opening;
mod outbox;
pub mod record;
mod values;
mod withdraw;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sled::transaction::Transactional;
use sled::{IVec, Tree};

use crate::clock::Clock;
use crate::id::{Digest, ExamKey, InstanceId};
use crate::ingest::{Accepted, Instance};
use durable::Changes;
pub use error::StoreError;
pub use opening::Opened;
use record::{
    ExamRecord, ExamRow, InboxRow, InstanceRecord, OutboxRow, State, VALUE_VERSION, What,
};
use values::{append, failed, get, get_in, put_in, revision_key};

/// Largest value, bytes: what is so large that its page becomes a file of its own, sled never syncs
/// (`SEGMENT` in `opening`).
const VALUE_BYTES_MAX: usize = 75_000;

/// Key of the last sequence number in `meta`.
const SEQUENCE: &[u8] = b"seq";

/// What was accepted under one SOP Instance UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Object {
    instance: InstanceId,
    digest: Digest,
}

/// The store; one process at a time.
pub struct Store {
    db: sled::Db,
    /// sled's file, held open so that it can be synced.
    file: File,
    /// The folder where sled would put pages too large for its file.
    blobs: PathBuf,
    inbox: Tree,
    objects: Tree,
    readings: Tree,
    exams: Tree,
    revisions: Tree,
    outbox: Tree,
    alarms: Tree,
    meta: Tree,
    inbox_rows: AtomicUsize,
    outbox_rows: AtomicUsize,
    /// Counted once at the start: sled counts by reading everything.
    kept_readings: AtomicUsize,
    /// Sequence numbers up to this one are synced; nothing above it may leave the device.
    durable: AtomicU64,
    /// Held over a change, and over every sync: a sync in the middle of somebody else's change would
    /// make half of it durable, and a power cut then leaves what no killed process could.
    changing: Mutex<Changes>,
    /// How many changes are synced. Held while one syncs for all that wait for it.
    synced: Mutex<u64>,
    /// A sync failed: what the memory holds may never reach the disk.
    distrusted: AtomicBool,
}

/// Everything that follows from reading one instance, committed together.
#[derive(Debug)]
pub struct Commit<'a> {
    /// What became of the instance.
    pub record: &'a InstanceRecord,
    /// The exam's new revision, and how far the exam has come with it.
    pub revision: Option<(&'a ExamRecord, &'a ExamRow)>,
    /// Messages that follow from it, in their order.
    pub messages: Vec<OutboxRow>,
}

impl Store {
    /// Takes custody of an instance: inbox row, object and `received` message, synced.
    ///
    /// # Errors
    /// It could not be made durable; nothing of it is kept then, or all of it.
    pub fn accept(
        &self,
        instance: &Instance,
        exam: &ExamKey,
        clock: &dyn Clock,
    ) -> Result<Accepted, StoreError> {
        let changing = self.change()?;
        let trees = (&self.inbox, &self.objects, &self.exams, &self.outbox, &self.meta);
        let uid = instance.sop_instance.as_str().as_bytes();
        let time = clock.now();
        let sequence = trees.transaction(|(inbox, objects, exams, outbox, meta)| {
            let mut known: Vec<Object> = get_in(objects, "objects", uid)?.unwrap_or_default();
            if known.iter().any(|o| o.digest == instance.digest) {
                return Ok(None);
            }
            let conflict = !known.is_empty();
            known.push(Object { instance: instance.id, digest: instance.digest });
            put_in(objects, "objects", uid, &known)?;
            let mut row: ExamRow =
                get_in(exams, "exams", exam.as_str().as_bytes())?.unwrap_or_default();
            row.v = VALUE_VERSION;
            row.accepted += 1;
            row.instances.push(instance.id);
            put_in(exams, "exams", exam.as_str().as_bytes(), &row)?;
            let image = format!("i{}", row.accepted);
            let what = What::State {
                exam: exam.clone(),
                image: image.clone(),
                instance: instance.id,
                state: State::Received,
                reason: None,
            };
            let told = OutboxRow { v: VALUE_VERSION, what, time };
            let row = InboxRow {
                v: VALUE_VERSION,
                instance: instance.clone(),
                exam: exam.clone(),
                image,
                attempts: 0,
                conflict,
            };
            put_in(inbox, "inbox", instance.id.as_bytes(), &row)?;
            if instance.trial {
                return Ok(Some(0));
            }
            append(outbox, meta, &told).map(Some)
        });
        // Also a duplicate is answered only when the first is durable: it may be a moment old.
        match sequence.map_err(|e| failed("accepting an instance", e))? {
            None => {
                self.finish(changing, 0)?;
                Ok(Accepted::Duplicate)
            }
            Some(sequence) => {
                self.inbox_rows.fetch_add(1, Ordering::SeqCst);
                self.outbox_rows.fetch_add(usize::from(!instance.trial), Ordering::SeqCst);
                self.finish(changing, sequence)?;
                Ok(Accepted::New)
            }
        }
    }

    /// Begins an attempt to read an instance; the count is durable before the attempt.
    ///
    /// # Errors
    /// The store fails. None where the instance is no longer in the inbox.
    pub fn begin(&self, id: InstanceId) -> Result<Option<InboxRow>, StoreError> {
        let changing = self.change()?;
        let row = self.inbox.transaction(|inbox| {
            let Some(mut row) = get_in::<InboxRow>(inbox, "inbox", id.as_bytes())? else {
                return Ok(None);
            };
            row.attempts += 1;
            put_in(inbox, "inbox", id.as_bytes(), &row)?;
            Ok(Some(row))
        });
        let row = row.map_err(|e| failed("beginning an attempt", e))?;
        self.finish(changing, 0)?;
        Ok(row)
    }

    /// Commits a reading, its exam's revision, its messages and the end of its inbox row in one
    /// transaction, and syncs. An instance that is no longer in the inbox was erased: nothing is
    /// committed.
    ///
    /// # Errors
    /// Nothing of it is kept.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<(), StoreError> {
        let changing = self.change()?;
        let trees =
            (&self.inbox, &self.readings, &self.exams, &self.revisions, &self.outbox, &self.meta);
        let id = commit.record.instance.id;
        let sequence = trees.transaction(|(inbox, readings, exams, revisions, outbox, meta)| {
            if inbox.remove(id.as_bytes())?.is_none() {
                return Ok(None);
            }
            put_in(readings, "readings", id.as_bytes(), commit.record)?;
            if let Some((record, row)) = commit.revision {
                // Another image of the exam may have been accepted since: its count stays.
                let ExamRow { accepted, instances, .. } =
                    get_in(exams, "exams", record.exam.as_str().as_bytes())?.unwrap_or_default();
                let row = ExamRow { accepted, instances, ..row.clone() };
                put_in(exams, "exams", record.exam.as_str().as_bytes(), &row)?;
                put_in(
                    revisions,
                    "revisions",
                    &revision_key(&record.exam, record.revision),
                    record,
                )?;
            }
            let mut last = 0;
            for message in &commit.messages {
                last = append(outbox, meta, message)?;
            }
            Ok(Some(last))
        });
        let sequence = sequence.map_err(|e| failed("committing a reading", e))?;
        // Its exam was erased while it was read.
        let Some(sequence) = sequence else { return Ok(()) };
        self.inbox_rows.fetch_sub(1, Ordering::SeqCst);
        self.kept_readings.fetch_add(1, Ordering::SeqCst);
        self.outbox_rows.fetch_add(commit.messages.len(), Ordering::SeqCst);
        self.finish(changing, sequence)
    }

    /// Ids of accepted instances that were not read yet, oldest first, at most `count`.
    ///
    /// # Errors
    /// The store fails.
    pub fn waiting(&self, count: usize) -> Result<Vec<InstanceId>, StoreError> {
        let keys = self.inbox.iter().keys().take(count);
        let keys: Result<Vec<IVec>, _> = keys.collect();
        let keys =
            keys.map_err(|source| StoreError::Sled { action: "reading the inbox", source })?;
        Ok(keys
            .iter()
            .filter_map(|k| k.as_ref().try_into().ok())
            .map(InstanceId::from_bytes)
            .collect())
    }

    /// Attempts to read an instance so far; 0 where it is no longer in the inbox.
    ///
    /// # Errors
    /// The store fails.
    pub fn attempts(&self, id: InstanceId) -> Result<u32, StoreError> {
        let row: Option<InboxRow> = get(&self.inbox, "inbox", id.as_bytes())?;
        Ok(row.map_or(0, |row| row.attempts))
    }

    /// Is this instance known, read or not?
    ///
    /// # Errors
    /// The store fails.
    pub fn knows(&self, id: InstanceId) -> Result<bool, StoreError> {
        let known = |tree: &Tree| {
            tree.contains_key(id.as_bytes())
                .map_err(|source| StoreError::Sled { action: "looking up an instance", source })
        };
        Ok(known(&self.inbox)? || known(&self.readings)?)
    }

    /// What became of an instance.
    ///
    /// # Errors
    /// The store fails.
    pub fn record(&self, id: InstanceId) -> Result<Option<InstanceRecord>, StoreError> {
        get(&self.readings, "readings", id.as_bytes())
    }

    /// How far an exam has come.
    ///
    /// # Errors
    /// The store fails.
    pub fn exam(&self, exam: &ExamKey) -> Result<ExamRow, StoreError> {
        Ok(get(&self.exams, "exams", exam.as_str().as_bytes())?.unwrap_or_default())
    }

    /// One revision of an exam.
    ///
    /// # Errors
    /// The store fails.
    pub fn revision(
        &self,
        exam: &ExamKey,
        revision: u32,
    ) -> Result<Option<ExamRecord>, StoreError> {
        get(&self.revisions, "revisions", &revision_key(exam, revision))
    }

    /// Instances accepted and not read yet.
    #[must_use]
    pub fn inbox_rows(&self) -> usize {
        self.inbox_rows.load(Ordering::SeqCst)
    }

    /// Readings kept.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.kept_readings.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
