//! The one function that makes things durable, and what its failure means.
//!
//! A sync that failed may be followed by one that succeeds although the bytes never reached the
//! disk: the kernel marks pages clean after it has told the error once. So after a failure nothing
//! that this process holds in memory is trusted again; the store is opened anew by the next one.

use std::sync::atomic::Ordering;

use super::{Store, StoreError};

impl Store {
    /// Flushes, then syncs sled's file; after it every message up to `sequence` may leave the
    /// device.
    pub(super) fn sync(&self, sequence: u64) -> Result<(), StoreError> {
        self.trusted()?;
        let synced = self.flush_and_sync();
        match synced {
            Ok(()) => {
                self.durable.fetch_max(sequence, Ordering::SeqCst);
            }
            Err(_) => self.distrusted.store(true, Ordering::SeqCst),
        }
        synced
    }

    fn flush_and_sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|source| StoreError::Sled { action: "flushing", source })?;
        self.file.sync_all().map_err(|source| StoreError::Io {
            action: "syncing",
            file: self.db_file(),
            source,
        })
    }

    /// May what the memory holds still be believed?
    ///
    /// # Errors
    /// A sync failed before: the process has to end and the store to be opened anew.
    pub fn trusted(&self) -> Result<(), StoreError> {
        if self.distrusted.load(Ordering::SeqCst) { Err(StoreError::Distrusted) } else { Ok(()) }
    }
}
