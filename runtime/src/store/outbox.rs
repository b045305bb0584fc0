//! The outbox: messages that wait for the broker, in the order of their sequence numbers.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sled::transaction::Transactional;

use super::record::OutboxRow;
use super::values::{append, failed, get, number, parse};
use super::{Store, StoreError};

impl Store {
    /// Appends one message and syncs; gives its sequence number.
    ///
    /// # Errors
    /// The store fails.
    pub fn enqueue(&self, row: &OutboxRow) -> Result<u64, StoreError> {
        let changing = self.change()?;
        let sequence =
            (&self.outbox, &self.meta).transaction(|(outbox, meta)| append(outbox, meta, row));
        let sequence = sequence.map_err(|e| failed("queueing a message", e))?;
        self.outbox_rows.fetch_add(1, Ordering::SeqCst);
        self.finish(changing, sequence)?;
        Ok(sequence)
    }

    /// Removes a message that the broker acknowledged and appends `next`, where one follows.
    ///
    /// Without `next` nothing is synced: a lost removal sends the same message, with the same id,
    /// once more.
    ///
    /// # Errors
    /// The store fails.
    pub fn delivered(&self, sequence: u64, next: Option<&OutboxRow>) -> Result<(), StoreError> {
        let changing = self.change()?;
        let appended = (&self.outbox, &self.meta).transaction(|(outbox, meta)| {
            let removed = outbox.remove(&sequence.to_be_bytes())?.is_some();
            let appended =
                next.filter(|_| removed).map(|next| append(outbox, meta, next)).transpose()?;
            Ok((removed, appended))
        });
        let (removed, appended) = appended.map_err(|e| failed("removing a message", e))?;
        self.outbox_rows.fetch_sub(usize::from(removed), Ordering::SeqCst);
        match appended {
            None => Ok(()),
            Some(appended) => {
                self.outbox_rows.fetch_add(1, Ordering::SeqCst);
                self.finish(changing, appended)
            }
        }
    }

    /// Durable messages after a sequence number, oldest first, at most `count`.
    ///
    /// One that this version does not understand stays where it is and holds nobody up: a newer
    /// version wrote it and was rolled back.
    ///
    /// # Errors
    /// The store fails.
    pub fn outbox_after(
        &self,
        sequence: u64,
        count: usize,
    ) -> Result<Vec<(u64, OutboxRow)>, StoreError> {
        let from = (sequence + 1).to_be_bytes();
        let durable = self.durable.load(Ordering::SeqCst);
        let mut rows = Vec::new();
        for entry in self.outbox.range(from..) {
            let (key, value) = entry
                .map_err(|source| StoreError::Sled { action: "reading the outbox", source })?;
            let sequence = number(&key);
            if sequence > durable || rows.len() == count {
                break;
            }
            match parse("outbox", &value) {
                Ok(row) => rows.push((sequence, row)),
                Err(error) => tracing::debug!(sequence, %error, "a message that is not understood"),
            }
        }
        Ok(rows)
    }

    /// When the oldest message that waits for the broker came about.
    ///
    /// # Errors
    /// The store fails.
    pub fn oldest_message(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.outbox_after(0, 1)?.first().map(|(_, row)| row.time))
    }

    /// Does this message still wait for the broker?
    ///
    /// # Errors
    /// The store fails.
    pub fn queued(&self, sequence: u64) -> Result<bool, StoreError> {
        let found = self.outbox.contains_key(sequence.to_be_bytes());
        found.map_err(|source| StoreError::Sled { action: "reading the outbox", source })
    }

    /// One message, where it still waits.
    ///
    /// # Errors
    /// The store fails or holds what this version does not write.
    pub fn message(&self, sequence: u64) -> Result<Option<OutboxRow>, StoreError> {
        get(&self.outbox, "outbox", &sequence.to_be_bytes())
    }

    /// Sequence number of the oldest message that waits for the broker.
    ///
    /// # Errors
    /// The store fails.
    pub fn oldest_sequence(&self) -> Result<Option<u64>, StoreError> {
        let first = self.outbox.first();
        let first =
            first.map_err(|source| StoreError::Sled { action: "reading the outbox", source })?;
        Ok(first.map(|(key, _)| number(&key)))
    }

    /// The last sequence number that was made durable.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Messages that wait for the broker.
    #[must_use]
    pub fn outbox_rows(&self) -> usize {
        self.outbox_rows.load(Ordering::SeqCst)
    }
}
