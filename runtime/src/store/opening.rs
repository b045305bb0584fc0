//! Opening the store: also one that sled cannot open any more, which is a normal case.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use super::record::VALUE_VERSION;
use super::values::number;
use super::{SEQUENCE, Store, StoreError, forget};
use crate::clock::Clock;
use crate::config;

/// Key in `meta` that every store has from its first sync on.
const MARK: &[u8] = b"version";

/// Folder of the store under the storage path.
const FOLDER: &str = "store";

/// Bytes of a segment of sled's file. A page of more than a quarter of it goes to a file of its own,
/// which sled never syncs: after a power cut the page is gone and the store cannot be read. A page
/// holds up to 16 values and 10 changes, each within `VALUE_BYTES_MAX`: 1.95 MB. Not more than that
/// takes, because sled keeps up to two segments in memory.
const SEGMENT: usize = 1 << 23;

/// Free bytes without which a store that cannot be opened is not called damaged: sled writes
/// whole segments, and a snapshot at its start.
const ROOM_MIN: u64 = 2 * SEGMENT as u64;

/// Free bytes under a folder; none where nobody can tell.
fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A store, and whether it had to be begun anew.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What lay there could not be opened and was set aside: the spool has to be read again.
    pub rebuilt: Option<StoreError>,
}

impl Store {
    /// Opens the store under the storage path; one that sled cannot open is set aside.
    ///
    /// # Errors
    /// No store can be opened, not even an empty one (a full disk, another process).
    pub fn open(config: &config::Storage, clock: &dyn Clock) -> Result<Opened, StoreError> {
        let folder = config.path.join(FOLDER);
        let beside = |ending: &str| config.path.join(format!("{FOLDER}.{ending}"));
        let (new, old) = (beside("new"), beside("old"));
        forget::settle(&folder, &new, &old)?;
        match rewritten(&folder, &new, &old, config) {
            Ok(store) => Ok(Opened { store, rebuilt: None }),
            // Another process holds it, or there is no room: setting it aside would lose it.
            Err(error @ StoreError::Io { .. }) => Err(error),
            // On a full disk sled fails in many ways; none of them says that the store is damaged.
            Err(error) if free_bytes(&config.path).is_none_or(|free| free < ROOM_MIN) => Err(error),
            Err(error) => {
                let now = clock.now();
                let aside = config.path.join(format!("{FOLDER}.broken-{}", now.timestamp()));
                fs::rename(&folder, &aside).map_err(|source| StoreError::Io {
                    action: "setting aside",
                    file: folder.clone(),
                    source,
                })?;
                let store = open(&folder, config)?;
                // Numbers that were given out before must not come again: milliseconds since 1970
                // are above any count of messages.
                let start = u64::try_from(now.timestamp_millis()).unwrap_or(0);
                let kept = store.meta.insert(SEQUENCE, &start.to_be_bytes());
                kept.map_err(|source| StoreError::Sled {
                    action: "starting the sequence",
                    source,
                })?;
                store.sync(start)?;
                Ok(Opened { store, rebuilt: Some(error) })
            }
        }
    }

    /// sled's own file.
    pub(super) fn db_file(&self) -> PathBuf {
        PathBuf::from(FOLDER).join("db")
    }
}

/// Opens the store; one from which something was forgotten is written anew first.
fn rewritten(
    folder: &Path,
    new: &Path,
    old: &Path,
    config: &config::Storage,
) -> Result<Store, StoreError> {
    let store = open(folder, config)?;
    if !store.to_be_rewritten()? {
        return Ok(store);
    }
    let needed = store.file.metadata().map_or(0, |m| m.len()) + ROOM_MIN;
    if free_bytes(&config.path).is_none_or(|free| free < needed) {
        tracing::warn!(
            needed,
            "no room to write the store anew: what was forgotten stays in its file"
        );
        return Ok(store);
    }
    let copy = open(new, config)?;
    store.copy_into(&copy)?;
    // sled holds its folder until the last handle is gone.
    drop((store, copy));
    forget::replace(folder, new, old)?;
    open(folder, config)
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|source| StoreError::Io {
        action: "syncing folder",
        file: folder.into(),
        source,
    })
}

fn open(folder: &Path, config: &config::Storage) -> Result<Store, StoreError> {
    let io = |action, file: &Path| {
        let file = file.to_path_buf();
        move |source| StoreError::Io { action, file, source }
    };
    fs::create_dir_all(folder).map_err(io("making folder", folder))?;
    let existed = folder.join("db").exists();
    let opening = sled::Config::new()
        .path(folder)
        .cache_capacity(config.cache.as_u64())
        .segment_size(SEGMENT)
        // Only `sync` decides when something is durable.
        .flush_every_ms(None);
    // sled panics on some damaged files.
    let db = match catch_unwind(AssertUnwindSafe(|| opening.open())) {
        Ok(Ok(db)) => db,
        Ok(Err(sled::Error::Io(source))) => return Err(io("opening", folder)(source)),
        Ok(Err(error)) => {
            return Err(StoreError::Broken { folder: folder.into(), text: error.to_string() });
        }
        Err(_) => {
            return Err(StoreError::Broken { folder: folder.into(), text: "sled panicked".into() });
        }
    };
    let file = folder.join("db");
    let file = File::open(&file).map_err(io("opening", &file))?;
    let tree = |name| {
        db.open_tree(name).map_err(|source| StoreError::Sled { action: "opening a tree", source })
    };
    let store = Store {
        file,
        blobs: folder.join("blobs"),
        inbox: tree("inbox")?,
        objects: tree("objects")?,
        readings: tree("readings")?,
        exams: tree("exams")?,
        revisions: tree("revisions")?,
        outbox: tree("outbox")?,
        alarms: tree("alarms")?,
        meta: tree("meta")?,
        inbox_rows: AtomicUsize::new(0),
        outbox_rows: AtomicUsize::new(0),
        kept_readings: AtomicUsize::new(0),
        durable: AtomicU64::new(0),
        changing: Mutex::default(),
        synced: Mutex::default(),
        distrusted: AtomicBool::new(false),
        db,
    };
    let read = |source| StoreError::Sled { action: "reading", source };
    // sled opens some damaged files as an empty store, without a word.
    if existed && !store.meta.contains_key(MARK).map_err(read)? {
        return Err(StoreError::Broken {
            folder: folder.into(),
            text: "its content is gone".into(),
        });
    }
    store.meta.insert(MARK, &VALUE_VERSION.to_be_bytes()).map_err(read)?;
    let last = store.meta.get(SEQUENCE).map_err(read)?.map_or(0, |bytes| number(&bytes));
    let store = Store {
        inbox_rows: AtomicUsize::new(store.inbox.len()),
        outbox_rows: AtomicUsize::new(store.outbox.len()),
        kept_readings: AtomicUsize::new(store.readings.len()),
        ..store
    };
    store.sync(last)?;
    // sled writes it once and never syncs it.
    let conf = folder.join("conf");
    File::open(&conf).and_then(|f| f.sync_all()).map_err(io("syncing", &conf))?;
    for folder in [folder, folder.parent().unwrap_or(folder)] {
        sync_folder(folder)?;
    }
    Ok(store)
}
