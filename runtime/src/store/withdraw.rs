//! What a release said that was rolled back, and what the update agent said last.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sled::transaction::Transactional;

use super::record::{
    ExamRecord, ExamRow, ExamTopic, OutboxRow, Reason, State, VALUE_VERSION, What,
};
use super::values::{append, failed, get_in, parse, put_in};
use super::{Store, StoreError};
use crate::id::{Digest, ExamKey, MessageId};

/// Key of what the update agent said last in `meta`.
const UPDATE: &[u8] = b"update";

/// Code of the reason that an exam is withdrawn.
const CODE: &str = "release-rolled-back";

impl Store {
    /// What the update agent said last, as it was kept.
    ///
    /// # Errors
    /// The store fails.
    pub fn told_update(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let said = self.meta.get(UPDATE);
        let said = said.map_err(|source| StoreError::Sled { action: "reading", source })?;
        Ok(said.map(|said| said.to_vec()))
    }

    /// Queues what the update agent says now, and keeps that it was.
    ///
    /// # Errors
    /// The store fails.
    pub fn tell_update(&self, said: &[u8], row: &OutboxRow) -> Result<(), StoreError> {
        let changing = self.change()?;
        let trees = (&self.outbox, &self.meta);
        let sequence = trees.transaction(|(outbox, meta)| {
            meta.insert(UPDATE, said)?;
            append(outbox, meta, row)
        });
        let sequence = sequence.map_err(|e| failed("keeping what the update agent says", e))?;
        self.outbox_rows.fetch_add(1, Ordering::SeqCst);
        self.finish(changing, sequence)
    }

    /// Withdraws every exam whose newest revision this release made: its state says so, and the
    /// broker forgets its findings and report. Gives how many.
    ///
    /// # Errors
    /// The store fails.
    pub fn withdraw(&self, release: Digest, time: DateTime<Utc>) -> Result<usize, StoreError> {
        let mut count = 0;
        for entry in &self.exams {
            let (key, value) =
                entry.map_err(|source| StoreError::Sled { action: "reading exams", source })?;
            let row: ExamRow = parse("exams", &value)?;
            let exam = std::str::from_utf8(&key).ok().and_then(|key| key.parse::<ExamKey>().ok());
            let Some(exam) = exam.filter(|_| row.revision > 0 && !row.withdrawn) else { continue };
            let record = self.revision(&exam, row.revision)?;
            if let Some(record) = record.filter(|r| r.by.software.release == Some(release)) {
                count += usize::from(self.withdraw_exam(&record, time)?);
            }
        }
        Ok(count)
    }

    fn withdraw_exam(&self, record: &ExamRecord, time: DateTime<Utc>) -> Result<bool, StoreError> {
        let changing = self.change()?;
        let exam = &record.exam;
        let image = record.images.last().map_or_else(String::new, |image| image.name.clone());
        let text = "the release that read it was rolled back: its findings do not count".into();
        let state = What::State {
            exam: exam.clone(),
            image,
            instance: record.instance,
            state: State::Withdrawn,
            reason: Some(Reason { code: CODE.into(), text }),
        };
        let forgotten = [ExamTopic::Findings, ExamTopic::Report].map(|topic| What::Erased {
            exam: exam.clone(),
            topic,
            id: MessageId::new(),
        });
        let messages: Vec<OutboxRow> = [state]
            .into_iter()
            .chain(forgotten)
            .map(|what| OutboxRow { v: VALUE_VERSION, what, time })
            .collect();
        let trees = (&self.exams, &self.outbox, &self.meta);
        let sequence = trees.transaction(|(exams, outbox, meta)| {
            let key = exam.as_str().as_bytes();
            let row: Option<ExamRow> = get_in(exams, "exams", key)?;
            // It was read anew meanwhile, or erased.
            let Some(row) = row.filter(|row| row.revision == record.revision) else {
                return Ok(None);
            };
            put_in(exams, "exams", key, &ExamRow { withdrawn: true, ..row })?;
            let mut last = 0;
            for message in &messages {
                last = append(outbox, meta, message)?;
            }
            Ok(Some(last))
        });
        let sequence = sequence.map_err(|e| failed("withdrawing an exam", e))?;
        let Some(sequence) = sequence else { return Ok(false) };
        self.outbox_rows.fetch_add(messages.len(), Ordering::SeqCst);
        self.finish(changing, sequence)?;
        Ok(true)
    }
}
