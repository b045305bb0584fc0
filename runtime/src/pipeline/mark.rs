//! Whether the service ended while it started an engine.
//!
//! An engine passes in a process of its own before the service starts it, and may still end the
//! service: other memory, other threads. The start is marked durably before it begins, and one that
//! has ended the service twice is not tried again for a day.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Ends of the service that may be a coincidence: an operator's kill, a power cut.
const ENDS_MAX: u32 = 2;

/// After so long an engine is tried again: what was wrong may have been repaired.
const AGAIN_AFTER: TimeDelta = TimeDelta::days(1);

/// A start that has begun.
pub(super) struct Mark {
    file: PathBuf,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Starts {
    /// Starts that were begun and neither succeeded nor failed.
    begun: u32,
    /// When the last one was.
    last: DateTime<Utc>,
}

impl Mark {
    /// Marks that this engine is being started.
    ///
    /// # Errors
    /// It ended the service before, or the mark cannot be written: a start that cannot be marked is
    /// not made.
    pub(super) fn begin(storage: &Path, engine: &str, now: DateTime<Utc>) -> Result<Self, String> {
        let file = storage.join(format!("starting-{engine}.json"));
        // One that cannot be read was torn by a power cut: it says as much as one start.
        let known = fs::read(&file)
            .ok()
            .map(|text| serde_json::from_slice(&text).unwrap_or(Starts { begun: 1, last: now }));
        let before = known.filter(|starts| now - starts.last < AGAIN_AFTER).map_or(0, |s| s.begun);
        if before >= ENDS_MAX {
            return Err(format!(
                "the service ended {before} times while it started this engine; it is tried again after a day, or when {} is removed",
                file.display()
            ));
        }
        let starts = Starts { begun: before + 1, last: now };
        written(&file, &starts).map_err(|e| format!("writing {}: {e}", file.display()))?;
        Ok(Self { file })
    }

    /// It was started, or failed in a way that did not end the service.
    pub(super) fn end(self) {
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(file = %self.file.display(), %error, "a mark stays");
        }
    }
}

fn written(file: &Path, starts: &Starts) -> io::Result<()> {
    let mut open = File::create(file)?;
    open.write_all(&serde_json::to_vec(starts)?)?;
    open.sync_all()?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_ended_the_service_twice_waits_for_a_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = |hours: i64| {
            let now = DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
            Mark::begin(folder.path(), "cuda", now)
        };
        drop(begin(0).expect("the first"));
        drop(begin(1).expect("the service ended once"));
        let error = begin(2).err().expect("it ended twice");
        assert!(error.contains("ended 2 times") && error.contains("starting-cuda.json"), "{error}");
        assert!(begin(20).is_err());
        begin(26).expect("after a day").end();
        assert!(!folder.path().join("starting-cuda.json").exists());
    }

    #[test]
    fn a_start_that_succeeded_or_failed_leaves_no_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..5 {
            let mark = Mark::begin(folder.path(), "cpu", DateTime::UNIX_EPOCH);
            mark.expect("nothing ended").end();
        }
        fs::write(folder.path().join("starting-cpu.json"), "{").expect("written");
        Mark::begin(folder.path(), "cpu", DateTime::UNIX_EPOCH).expect("torn once").end();
    }
}
