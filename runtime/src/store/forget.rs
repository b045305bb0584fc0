//! Forgetting: an exam that was erased on request, and records that have been kept long enough.
//!
//! sled appends: what was removed from a tree stays in its file until the place is used again. So
//! a store from which something was forgotten is written anew at the next start, and the old
//! files are deleted.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sled::transaction::Transactional;

use super::opening::sync_folder;
use super::record::{ExamRow, ExamTopic, InboxRow, InstanceRecord, OutboxRow, VALUE_VERSION, What};
use super::values::{append, failed, get, get_in, number, parse, put_in, revision_key};
use super::{Object, Store, StoreError};
use crate::id::{ExamKey, InstanceId, MessageId, Uid};

/// Key in `meta` of a store that has to be written anew.
const REWRITE: &[u8] = b"rewrite";

/// What is known of one instance of an exam.
struct Known {
    id: InstanceId,
    sop_instance: Uid,
    unread: bool,
}

impl Store {
    /// Erases an exam: every row of it, and every message of it that still waits. Where brokers
    /// may hold messages of it, `tell` queues one empty message a topic.
    ///
    /// Gives the instances that belonged to it; their files are the caller's.
    ///
    /// # Errors
    /// The store fails; nothing is erased then, or all of it.
    pub fn erase(
        &self,
        exam: &ExamKey,
        tell: Option<DateTime<Utc>>,
    ) -> Result<Vec<InstanceId>, StoreError> {
        let changing = self.change()?;
        let row: ExamRow = get(&self.exams, "exams", exam.as_str().as_bytes())?.unwrap_or_default();
        let known = self.known(&row.instances)?;
        let messages = self.messages_of(exam, &row.instances)?;
        let trees = (
            &self.inbox,
            &self.objects,
            &self.readings,
            &self.exams,
            &self.revisions,
            &self.outbox,
            &self.meta,
        );
        let erased =
            trees.transaction(|(inbox, objects, readings, exams, revisions, outbox, meta)| {
                for Known { id, sop_instance, .. } in &known {
                    inbox.remove(id.as_bytes())?;
                    readings.remove(id.as_bytes())?;
                    let uid = sop_instance.as_str().as_bytes();
                    let mut under: Vec<Object> =
                        get_in(objects, "objects", uid)?.unwrap_or_default();
                    under.retain(|object| object.instance != *id);
                    if under.is_empty() {
                        objects.remove(uid)?;
                    } else {
                        put_in(objects, "objects", uid, &under)?;
                    }
                }
                for revision in 1..=row.revision {
                    revisions.remove(revision_key(exam, revision))?;
                }
                exams.remove(exam.as_str().as_bytes())?;
                for sequence in &messages {
                    outbox.remove(&sequence.to_be_bytes())?;
                }
                let mut last = 0;
                for topic in ExamTopic::ALL.into_iter().filter(|_| tell.is_some()) {
                    let what = What::Erased { exam: exam.clone(), topic, id: MessageId::new() };
                    let time = tell.unwrap_or_default();
                    last = append(outbox, meta, &OutboxRow { v: VALUE_VERSION, what, time })?;
                }
                meta.insert(REWRITE, &[1])?;
                Ok(last)
            });
        let last = erased.map_err(|e| failed("erasing an exam", e))?;
        let unread = known.iter().filter(|k| k.unread).count();
        self.inbox_rows.fetch_sub(unread, Ordering::SeqCst);
        self.kept_readings.fetch_sub(known.len() - unread, Ordering::SeqCst);
        self.outbox_rows.fetch_sub(messages.len(), Ordering::SeqCst);
        self.outbox_rows.fetch_add(tell.map_or(0, |_| ExamTopic::ALL.len()), Ordering::SeqCst);
        self.finish(changing, last)?;
        Ok(row.instances)
    }

    /// Erases exams all of whose instances were accepted before a time, at most `most` of them;
    /// gives how many.
    ///
    /// # Errors
    /// The store fails.
    pub fn forget_before(&self, before_s: u64, most: usize) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        // Ids begin with the time, so the oldest stand first.
        for entry in self.readings.iter() {
            let (_, value) = entry
                .map_err(|source| StoreError::Sled { action: "reading old records", source })?;
            let record: InstanceRecord = parse("readings", &value)?;
            let old = |id: &InstanceId| id.made_at_s().is_some_and(|made| made < before_s);
            if forgotten == most || !old(&record.instance.id) {
                break;
            }
            let exam = self.exam(&record.exam)?;
            if exam.instances.iter().all(old) {
                self.erase(&record.exam, None)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn known(&self, instances: &[InstanceId]) -> Result<Vec<Known>, StoreError> {
        let mut known = Vec::new();
        for id in instances {
            let waiting: Option<InboxRow> = get(&self.inbox, "inbox", id.as_bytes())?;
            let read = self.record(*id)?;
            let (unread, instance) = match (waiting, read) {
                (Some(row), _) => (true, row.instance),
                (None, Some(record)) => (false, record.instance),
                (None, None) => continue,
            };
            known.push(Known { id: *id, sop_instance: instance.sop_instance, unread });
        }
        Ok(known)
    }

    /// Sequence numbers of the messages that speak of an exam.
    fn messages_of(
        &self,
        exam: &ExamKey,
        instances: &[InstanceId],
    ) -> Result<Vec<u64>, StoreError> {
        let mut sequences = Vec::new();
        for entry in &self.outbox {
            let (key, value) = entry
                .map_err(|source| StoreError::Sled { action: "reading the outbox", source })?;
            let row: OutboxRow = parse("outbox", &value)?;
            let of_gate =
                matches!(&row.what, What::Gate { instance } if instances.contains(instance));
            if of_gate || row.what.exam() == Some(exam) {
                sequences.push(number(&key));
            }
        }
        Ok(sequences)
    }

    /// Was something forgotten since the store was written?
    pub(super) fn to_be_rewritten(&self) -> Result<bool, StoreError> {
        let found = self.meta.contains_key(REWRITE);
        found.map_err(|source| StoreError::Sled { action: "reading", source })
    }

    /// Copies what is kept into a new, empty store.
    pub(super) fn copy_into(&self, new: &Self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Sled { action: "rewriting", source };
        for name in self.db.tree_names() {
            let (from, to) = (
                self.db.open_tree(&name).map_err(failed)?,
                new.db.open_tree(&name).map_err(failed)?,
            );
            for entry in &from {
                let (key, value) = entry.map_err(failed)?;
                to.insert(key, value).map_err(failed)?;
            }
        }
        new.meta.remove(REWRITE).map_err(failed)?;
        new.sync(self.last_sequence())
    }
}

/// Puts a copied store in the place of the one that it was copied from. Killed in between, the
/// next start finds the new one in its place, or the old one under its second name.
pub(super) fn replace(folder: &Path, new: &Path, old: &Path) -> Result<(), StoreError> {
    let io = |action, file: &Path| {
        let file = file.to_path_buf();
        move |source| StoreError::Io { action, file, source }
    };
    let parent = folder.parent().unwrap_or(folder);
    fs::rename(folder, old).map_err(io("moving away", folder))?;
    sync_folder(parent)?;
    fs::rename(new, folder).map_err(io("moving into place", new))?;
    sync_folder(parent)?;
    fs::remove_dir_all(old).map_err(io("removing", old))?;
    sync_folder(parent)
}

/// Cleans up after a replacement that was cut off.
pub(super) fn settle(folder: &Path, new: &Path, old: &Path) -> Result<(), StoreError> {
    let io = |action, file: &Path| {
        let file = file.to_path_buf();
        move |source| StoreError::Io { action, file, source }
    };
    if old.exists() && !folder.exists() {
        fs::rename(old, folder).map_err(io("moving back", old))?;
    }
    for rest in [new, old] {
        if rest.exists() {
            fs::remove_dir_all(rest).map_err(io("removing", rest))?;
        }
    }
    Ok(())
}
