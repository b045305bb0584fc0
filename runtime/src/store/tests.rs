//! What is kept is kept whole, once, and in order.

use chrono::{TimeZone, Utc};

use super::record::{Outcome, Reason};
use super::*;
use crate::clock::StoppedClock;
use crate::config;
use crate::id::SiteSecret;

struct Kept {
    folder: tempfile::TempDir,
    clock: StoppedClock,
}

impl Kept {
    fn new() -> Self {
        let noon = Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).single().expect("a time");
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            clock: StoppedClock::at(noon),
        }
    }

    fn open(&self) -> Store {
        let opened = self.opened();
        assert!(opened.rebuilt.is_none(), "{:?}", opened.rebuilt);
        opened.store
    }

    fn opened(&self) -> Opened {
        let config =
            config::Storage { path: self.folder.path().into(), ..config::Storage::default() };
        Store::open(&config, &self.clock).expect("opened")
    }

    /// Hands over an object of study 1.2.3 with this SOP Instance UID and these bytes.
    fn accept(&self, store: &Store, sop_instance: &str, bytes: &[u8]) -> (Instance, Accepted) {
        let uid = |text: &str| text.parse().expect("a UID");
        let instance = Instance {
            id: InstanceId::new(),
            sop_class: uid("1.2.840.10008.5.1.4.1.1.1.1"),
            sop_instance: uid(sop_instance),
            study: uid("1.2.3"),
            accession: None,
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            digest: Digest::of(bytes),
            bytes: bytes.len() as u64,
            received: self.clock.now(),
            trial: false,
        };
        let accepted = store.accept(&instance, &exam(), &self.clock).expect("accepted");
        (instance, accepted)
    }

    /// Commits that an instance cannot be read, with one message.
    fn finish(&self, store: &Store, row: &InboxRow) {
        let reason =
            Reason { code: "decode-corrupt".into(), text: "expected an image, found none".into() };
        let record = InstanceRecord {
            v: VALUE_VERSION,
            instance: row.instance.clone(),
            exam: row.exam.clone(),
            image: row.image.clone(),
            outcome: Outcome::Quarantined(reason.clone()),
            by: None,
            time: self.clock.now(),
        };
        let what = What::State {
            exam: row.exam.clone(),
            image: row.image.clone(),
            instance: row.instance.id,
            state: State::Quarantined,
            reason: Some(reason),
        };
        let messages = vec![OutboxRow { v: VALUE_VERSION, what, time: self.clock.now() }];
        store.commit(&Commit { record: &record, revision: None, messages }).expect("committed");
    }
}

fn exam() -> ExamKey {
    ExamKey::of_study(&SiteSecret::from_bytes([7; 32]), &"1.2.3".parse().expect("a UID"))
}

fn sequences(store: &Store) -> Vec<u64> {
    store.outbox_after(0, 100).expect("read").into_iter().map(|(sequence, _)| sequence).collect()
}

#[test]
fn the_same_bytes_twice_are_one_instance_and_other_bytes_are_another() {
    let kept = Kept::new();
    let store = kept.open();
    let (first, accepted) = kept.accept(&store, "1.2.3.4", b"one");
    assert_eq!(accepted, Accepted::New);
    assert_eq!(kept.accept(&store, "1.2.3.4", b"one").1, Accepted::Duplicate);
    let (other, accepted) = kept.accept(&store, "1.2.3.4", b"two");
    assert_eq!(accepted, Accepted::New);
    assert_eq!(store.waiting(10).expect("read"), [first.id, other.id]);
    assert!(!store.begin(first.id).expect("begun").expect("there").conflict);
    let other = store.begin(other.id).expect("begun").expect("there");
    assert!(other.conflict);
    assert_eq!(other.image, "i2");
}

#[test]
fn what_was_accepted_and_counted_is_there_after_a_restart() {
    let kept = Kept::new();
    let store = kept.open();
    let (instance, _) = kept.accept(&store, "1.2.3.4", b"one");
    assert_eq!(store.begin(instance.id).expect("begun").expect("there").attempts, 1);
    drop(store);
    let store = kept.open();
    assert_eq!((store.inbox_rows(), store.outbox_rows(), sequences(&store)), (1, 1, vec![1]));
    assert_eq!(store.begin(instance.id).expect("begun").expect("there").attempts, 2);
    assert_eq!(kept.accept(&store, "1.2.3.4", b"one").1, Accepted::Duplicate);
}

#[test]
fn a_commit_moves_an_instance_from_the_inbox_to_the_readings_with_its_message() {
    let kept = Kept::new();
    let store = kept.open();
    let (instance, _) = kept.accept(&store, "1.2.3.4", b"one");
    let row = store.begin(instance.id).expect("begun").expect("there");
    kept.finish(&store, &row);
    assert!(store.waiting(10).expect("read").is_empty());
    assert!(store.record(instance.id).expect("read").is_some());
    assert!(store.begin(instance.id).expect("read").is_none());
    assert_eq!((store.inbox_rows(), sequences(&store)), (0, vec![1, 2]));
}

#[test]
fn a_delivered_message_leaves_once_and_its_successor_comes_once() {
    let kept = Kept::new();
    let store = kept.open();
    kept.accept(&store, "1.2.3.4", b"one");
    let (_, next) = store.outbox_after(0, 1).expect("read").remove(0);
    assert!(store.queued(1).expect("read"));
    store.delivered(1, Some(&next)).expect("removed");
    assert!(!store.queued(1).expect("read"));
    store.delivered(1, Some(&next)).expect("removed before");
    assert_eq!((sequences(&store), store.outbox_rows()), (vec![2], 1));
}

#[test]
fn sequence_numbers_never_come_again_even_from_a_store_that_was_lost() {
    let kept = Kept::new();
    let store = kept.open();
    kept.accept(&store, "1.2.3.4", b"one");
    drop(store);
    let db = kept.folder.path().join("store/db");
    let length = std::fs::metadata(&db).expect("there").len();
    std::fs::write(&db, vec![0xA5; usize::try_from(length).expect("small")]).expect("damaged");
    std::fs::write(kept.folder.path().join("store/conf"), b"damaged").expect("damaged");
    let opened = kept.opened();
    assert!(opened.rebuilt.is_some(), "a damaged store is told");
    assert_eq!(kept.accept(&opened.store, "1.2.3.4", b"one").1, Accepted::New);
    assert!(sequences(&opened.store)[0] > 1_000_000_000_000);
    let aside = std::fs::read_dir(kept.folder.path()).expect("read").flatten();
    assert!(
        aside.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("store.broken-"))
    );
}

/// A message of the device with this text.
fn about(text: String, clock: &StoppedClock) -> OutboxRow {
    let what = What::Device {
        channel: super::record::DeviceChannel::About,
        id: crate::id::MessageId::new(),
        payload: serde_json::Value::String(text),
    };
    OutboxRow { v: VALUE_VERSION, what, time: clock.now() }
}

#[test]
fn a_value_that_sled_would_not_sync_is_refused() {
    let kept = Kept::new();
    let store = kept.open();
    // Digests cannot be deflated to less than half of their digits.
    let digits: String = (0..4_000_u32).map(|n| Digest::of(&n.to_be_bytes()).to_string()).collect();
    for text in [digits, "x".repeat(20 * VALUE_BYTES_MAX)] {
        let refused = store.enqueue(&about(text, &kept.clock));
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
    }
    assert!(sequences(&store).is_empty());
}

#[test]
fn a_large_value_is_stored_small_and_comes_back_whole_and_a_damaged_one_is_told() {
    let kept = Kept::new();
    let store = kept.open();
    let row = about("one feature after the other ".repeat(3_000), &kept.clock);
    let sequence = store.enqueue(&row).expect("queued");
    let key = sequence.to_be_bytes();
    let stored = store.outbox.get(key).expect("read").expect("there");
    assert!(stored.len() < 2_000, "{} bytes", stored.len());
    assert_eq!(store.message(sequence).expect("read"), Some(row));
    let mut damaged = stored.to_vec();
    damaged.truncate(stored.len() / 2);
    store.outbox.insert(key, damaged).expect("damaged");
    assert!(matches!(store.message(sequence), Err(StoreError::Value { tree: "outbox", .. })));
}

#[test]
fn an_erased_exam_leaves_no_record_and_only_its_farewell_and_the_store_is_written_anew() {
    let kept = Kept::new();
    let store = kept.open();
    let (read, _) = kept.accept(&store, "1.2.3.4", b"one");
    let row = store.begin(read.id).expect("begun").expect("there");
    kept.finish(&store, &row);
    let (unread, _) = kept.accept(&store, "1.2.3.5", b"two");
    let begun = store.begin(unread.id).expect("begun").expect("there");
    let erased = store.erase(&exam(), Some(kept.clock.now())).expect("erased");
    assert_eq!(erased, [read.id, unread.id]);
    assert!(store.record(read.id).expect("read").is_none());
    assert_eq!((store.inbox_rows(), store.readings()), (0, 0));
    // A reading that was in the making is not committed.
    kept.finish(&store, &begun);
    assert!(store.record(unread.id).expect("read").is_none());
    let farewell = |row: &OutboxRow| matches!(row.what, What::Erased { .. });
    let waiting = store.outbox_after(0, 100).expect("read");
    assert!(waiting.len() == 4 && waiting.iter().all(|(_, row)| farewell(row)), "{waiting:?}");
    // What is known under its UIDs is gone: the same object is a new one.
    assert_eq!(kept.accept(&store, "1.2.3.4", b"one").1, Accepted::New);
    let last = store.last_sequence();
    drop(store);
    let store = kept.open();
    assert!(!store.to_be_rewritten().expect("read"));
    assert_eq!((store.last_sequence(), store.inbox_rows()), (last, 1));
    assert!(!kept.folder.path().join("store.old").exists());
}
