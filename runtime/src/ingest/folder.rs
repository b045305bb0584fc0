//! The second door: a watched folder, for a unit without a modality that sends, and for archives.
//!
//! A file that has come to rest goes the way of a received object: spool, structural gate, store,
//! each synced, and only then is it removed. One that cannot be taken moves to `refused/` beside
//! its reason. Names of files may say who somebody is, so no log repeats them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::block_in_place;

use super::association::keep;
use super::command::Command;
use super::facts::{self, FactsError, FileStart, preface};
use super::{Receiver, Refused, syntax};
use crate::config::Inbox;
use crate::pulse::Pulse;

/// Folder for files that are not taken.
const REFUSED: &str = "refused";

/// Ending of the text that says why.
const REASON: &str = "reason.txt";

/// Stands in the file meta group as the application entity that a file came from.
const SOURCE: &str = "FOLDER";

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 16;

/// A file as it was last seen, and since when.
struct Rest {
    bytes: u64,
    changed: Option<SystemTime>,
    since: Instant,
}

/// Looks into the folder until `stop` turns true.
pub async fn watch(
    inbox: Inbox,
    receiver: Arc<Receiver>,
    pulse: Pulse,
    mut stop: watch::Receiver<bool>,
) {
    let mut resting: HashMap<PathBuf, Rest> = HashMap::new();
    loop {
        pulse.promise(inbox.wall);
        if let Err(error) = block_in_place(|| scan(&inbox, &receiver, &mut resting)) {
            tracing::warn!(%error, "the watched folder cannot be read");
        }
        pulse.promise(inbox.every);
        tokio::select! {
            () = tokio::time::sleep(inbox.every) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Takes every file that has come to rest, at most `files` of them.
fn scan(
    inbox: &Inbox,
    receiver: &Receiver,
    resting: &mut HashMap<PathBuf, Rest>,
) -> io::Result<()> {
    let now = receiver.clock.monotonic();
    let mut there: HashMap<PathBuf, Rest> = HashMap::new();
    for entry in fs::read_dir(&inbox.folder)?.flatten() {
        // A name with a dot in front is how well-behaved writers hide what is not complete.
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let Ok(meta) = entry.metadata() else { continue };
        if hidden || !meta.is_file() || there.len() == inbox.files {
            continue;
        }
        let (bytes, changed) = (meta.len(), meta.modified().ok());
        let same = |rest: &Rest| rest.bytes == bytes && rest.changed == changed;
        let since = resting.get(&entry.path()).filter(|r| same(r)).map_or(now, |rest| rest.since);
        there.insert(entry.path(), Rest { bytes, changed, since });
    }
    for (file, rest) in &there {
        if now.duration_since(rest.since) >= inbox.rest {
            dispose(file, take(file, receiver), receiver);
        }
    }
    *resting = there;
    Ok(())
}

/// What becomes of a file after it was looked at.
fn dispose(file: &Path, taken: Result<(), Refused>, receiver: &Receiver) {
    let done = match taken {
        Ok(()) => fs::remove_file(file),
        // Not the file's fault: it stays, and is looked at again.
        Err(refused @ (Refused::OutOfResources(_) | Refused::Failed(_))) => {
            return tracing::warn!(reason = %refused, "a file of the watched folder has to wait");
        }
        Err(refused @ Refused::NotDurable(_)) => {
            (receiver.distrust)();
            return tracing::error!(reason = %refused, "a file of the watched folder has to wait");
        }
        Err(refused @ (Refused::Mismatch(_) | Refused::Unrecognized | Refused::Malformed(_))) => {
            tracing::warn!(reason = %refused, "a file of the watched folder is not taken");
            refuse(file, &refused.to_string())
        }
    };
    if let Err(error) = done {
        tracing::error!(error = %error.kind(), "a file of the watched folder cannot be moved away: it is looked at again");
    }
}

/// Moves a file aside and writes the reason beside it.
fn refuse(file: &Path, reason: &str) -> io::Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
    let refused = folder.join(REFUSED);
    fs::create_dir_all(&refused)?;
    let to = refused.join(name);
    fs::write(to.with_added_extension(REASON), format!("{reason}\n"))?;
    fs::rename(file, to)
}

/// Copies a file into the spool and hands it over; when this is well, it is durable.
fn take(file: &Path, receiver: &Receiver) -> Result<(), Refused> {
    (receiver.admit)()?;
    let malformed = |e: &FactsError| match e {
        // The error of our own disk, or of theirs: in both cases the file can be tried again.
        FactsError::Io { source, .. } => Refused::Failed(source.kind().to_string()),
        FactsError::Structure(_) | FactsError::Missing(_) | FactsError::Meta(_) => {
            Refused::Malformed(e.to_string())
        }
    };
    let FileStart { transfer_syntax, data_set: start, .. } =
        facts::meta_of(file).map_err(|e| malformed(&e))?;
    if syntax::of(transfer_syntax.as_str()).is_none() {
        return Err(Refused::Malformed(format!(
            "expected a transfer syntax that is read, found {}",
            transfer_syntax.as_str()
        )));
    }
    let (limits, most) = (&receiver.limits, receiver.inflated_max);
    let facts = facts::facts_in(file, start, transfer_syntax.as_str(), limits, most);
    let facts = facts.map_err(|e| malformed(&e))?;
    let class = facts.sop_class.as_str();
    if !receiver.scp.sop_classes.iter().any(|wanted| wanted.uid() == class) {
        return Err(Refused::Malformed(format!("expected a configured SOP class, found {class}")));
    }
    let failed = |text: String| Refused::Failed(text);
    let preface = preface(&facts.sop_class, &facts.sop_instance, transfer_syntax.as_str(), SOURCE);
    let mut writing = receiver.spool.begin().map_err(|e| failed(e.to_string()))?;
    writing.preface(&preface.map_err(failed)?).map_err(|e| failed(e.to_string()))?;
    let bytes_max = receiver.scp.max_object.as_u64();
    let mut data_set = data_set(file, start).map_err(|e| failed(e.kind().to_string()))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = data_set.read(&mut piece).map_err(|e| failed(e.kind().to_string()))?;
        if read == 0 {
            break;
        }
        if writing.bytes() + read as u64 > bytes_max {
            return Err(Refused::Malformed(format!(
                "expected at most {bytes_max} bytes, found more"
            )));
        }
        writing.push(&piece[..read]).map_err(|e| failed(e.to_string()))?;
    }
    let announced = Command::of_store(facts.sop_class, facts.sop_instance);
    keep(writing, &announced, transfer_syntax.as_str(), false, receiver).map(|_| ())
}

/// The file from its data set on; a link is not followed, and a pipe is not waited for.
fn data_set(file: &Path, start: u64) -> io::Result<File> {
    let flags = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits());
    let flags = flags.unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}
