//! The one function that makes things durable, and what its failure means.
//!
//! A sync that failed may be followed by one that succeeds although the bytes never reached the
//! disk: the kernel marks pages clean after it has told the error once. So after a failure nothing
//! that this process holds in memory is trusted again; the store is opened anew by the next one.

use std::fs::{self, File};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError};

/// What was changed so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// How many changes were made.
    made: u64,
    /// The last sequence number that one of them gave out.
    sequence: u64,
}

impl Store {
    /// Begins a change; nobody else changes anything until it is made.
    pub(super) fn change(&self) -> Result<MutexGuard<'_, Changes>, StoreError> {
        self.trusted()?;
        Ok(lock(&self.changing))
    }

    /// Ends a change; when this returns, it is synced, and every message up to `sequence` may leave
    /// the device. Those who end a change while another syncs share the next sync.
    pub(super) fn finish(
        &self,
        mut changing: MutexGuard<'_, Changes>,
        sequence: u64,
    ) -> Result<(), StoreError> {
        changing.made += 1;
        changing.sequence = changing.sequence.max(sequence);
        let mine = changing.made;
        drop(changing);
        let mut synced = lock(&self.synced);
        if *synced >= mine {
            return Ok(());
        }
        let changes = self.change()?;
        if let Err(error) = self.flush_and_sync() {
            self.distrusted.store(true, Ordering::SeqCst);
            return Err(error);
        }
        self.durable.fetch_max(changes.sequence, Ordering::SeqCst);
        *synced = changes.made;
        Ok(())
    }

    /// Syncs what was changed outside of [`Self::change`], before anybody else has the store.
    pub(super) fn sync(&self, sequence: u64) -> Result<(), StoreError> {
        self.finish(self.change()?, sequence)
    }

    fn flush_and_sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|source| StoreError::Sled { action: "flushing", source })?;
        self.sync_blobs().and_then(|()| self.file.sync_all()).map_err(|source| StoreError::Io {
            action: "syncing",
            file: self.db_file(),
            source,
        })
    }

    /// Syncs pages that sled put into files of their own. There are none (see `SEGMENT`), but what
    /// a store is made of must not depend on that.
    fn sync_blobs(&self) -> io::Result<()> {
        let mut any = false;
        for blob in fs::read_dir(&self.blobs)? {
            match File::open(blob?.path()) {
                Ok(file) => file.sync_all()?,
                // sled removes what it needs no more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            any = true;
        }
        if any { File::open(&self.blobs)?.sync_all() } else { Ok(()) }
    }

    /// May what the memory holds still be believed?
    ///
    /// # Errors
    /// A sync failed before: the process has to end and the store to be opened anew.
    pub fn trusted(&self) -> Result<(), StoreError> {
        if self.distrusted.load(Ordering::SeqCst) { Err(StoreError::Distrusted) } else { Ok(()) }
    }
}

/// A panic in a change says nothing about the lock itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
