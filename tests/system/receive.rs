//! One radiograph from the socket to the broker, with DCMTK as sender and mosquitto as broker.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clearfilm::id::Uid;
use clearfilm::phantom::{Encoding, Photometric};

use crate::peers::{
    Broker, Seen, Site, Subscriber, count, phantom, published, radiographs, temporary,
};
use crate::schemas::wrong;

/// Every message is of its schema, envelope and payload.
#[track_caller]
fn valid(seen: &[Seen]) {
    for message in seen {
        let none: [String; 0] = [];
        assert_eq!(wrong("envelope", &message.envelope), none, "{}", message.topic);
        assert_eq!(wrong(message.kind(), &message.envelope["payload"]), none, "{}", message.topic);
    }
}

/// What one exam was told of, by kind; states in their order.
fn of_exam(seen: &[Seen], exam: &str) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in seen.iter().filter(|s| s.exam() == Some(exam)) {
        let text = match message.kind() {
            "state" => message.envelope["payload"]["state"].as_str().expect("a state").to_owned(),
            _ => message.id().to_owned(),
        };
        told.entry(message.kind().to_owned()).or_default().push(text);
    }
    told
}

/// The uncompressed files among the re-wrapped radiographs, by what their table says.
fn uncompressed() -> Vec<PathBuf> {
    let Some(data) = radiographs("sending real radiographs with storescu") else {
        return Vec::new();
    };
    let folder = data.join("dicom-wrapped");
    let table = fs::read_to_string(folder.join("index.csv")).expect("the table");
    // DCMTK turns big endian into little endian as it sends.
    let native = ["1.2.840.10008.1.2,", "1.2.840.10008.1.2.1,", "1.2.840.10008.1.2.2,"];
    let rows = table
        .lines()
        .filter(|line| native.iter().any(|ts| format!("{line},").contains(&format!(",{ts}"))));
    rows.map(|line| folder.join(line.split(',').next().expect("a file name"))).collect()
}

#[test]
fn every_object_gives_one_sequence_of_valid_messages_and_a_second_send_changes_nothing() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = site.run();
    let folder = temporary();
    let large = Encoding {
        rows: 2500,
        columns: 2048,
        bits_stored: 12,
        photometric: Photometric::Monochrome2,
    };
    let (bytes, study) = phantom(1, &large);
    let drawn = folder.path().join("phantom.dcm");
    fs::write(&drawn, bytes).expect("written");
    let mut files = uncompressed();
    files.push(drawn);
    let mut seen = Vec::new();
    site.storescu(&files);
    subscriber.until("every exam published", &mut seen, |seen| published(seen) == files.len());
    site.storescu(&files);
    // A new object behind the second send: when it is through, so is everything before it.
    let (bytes, last) = phantom(2, &Encoding { rows: 300, columns: 250, ..large });
    let behind = folder.path().join("behind.dcm");
    fs::write(&behind, bytes).expect("written");
    site.storescu(&[behind]);
    subscriber
        .until("the last exam published", &mut seen, |seen| published(seen) == files.len() + 1);
    valid(&seen);
    let exams: Vec<&str> = {
        let mut exams: Vec<&str> = seen.iter().filter_map(Seen::exam).collect();
        exams.sort_unstable();
        exams.dedup();
        exams
    };
    assert_eq!(exams.len(), files.len() + 1);
    for study in [&study, &last] {
        assert!(
            exams.contains(&site.exam(study).as_str()),
            "the exam's key is the keyed hash of its study"
        );
    }
    for exam in exams {
        let told = of_exam(&seen, exam);
        assert_eq!(told["state"], ["received", "gated", "read", "published"], "{exam}");
        for kind in ["gate", "findings", "report"] {
            assert_eq!(told[kind].len(), 1, "{kind} of {exam}");
        }
    }
    late_subscriber_finds_the_retained(&broker, daemon, files.len() + 1);
}

/// After the daemon has ended, the broker still tells who comes late, and forgets within a day.
fn late_subscriber_finds_the_retained(
    broker: &Broker,
    daemon: crate::peers::Process,
    exams: usize,
) {
    daemon.terminate();
    crate::peers::wait_until("an expiry that counts down", || {
        let late = Subscriber::start(broker.port, &[]);
        let mut seen = Vec::new();
        late.until("the retained findings and status", &mut seen, |seen| {
            count(seen, "findings") == exams
                && count(seen, "report") == exams
                && count(seen, "status") == 1
        });
        valid(&seen);
        let status = seen.iter().find(|s| s.kind() == "status").expect("waited for");
        assert_eq!(status.envelope["payload"]["state"], "stopped");
        late.end();
        seen.iter()
            .filter(|s| s.kind() == "findings")
            .all(|s| s.expiry_s.is_some_and(|e| e < 86_400))
    });
}

#[test]
fn two_images_of_one_study_are_two_revisions_of_one_exam() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = site.run();
    let (first, study) = crate::peers::small(10);
    let (second, other) = crate::peers::small(11);
    // UIDs of phantoms have one length each up to padding: the second joins the first's study.
    let second = with_study(&second, &other, &study);
    let mut seen = Vec::new();
    for (sent, file) in [first, second].into_iter().enumerate() {
        let status = clearfilm::ingest::send::store(site.address(), "CLEARFILM", "TEST", &file);
        assert_eq!(status.expect("sent"), 0);
        subscriber.until("a revision", &mut seen, |seen| published(seen) == sent + 1);
    }
    valid(&seen);
    let findings: Vec<&Seen> = seen.iter().filter(|s| s.kind() == "findings").collect();
    let payload = |at: usize| &findings[at].envelope["payload"];
    assert_eq!(
        (payload(0)["revision"].as_u64(), payload(1)["revision"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(payload(1)["replaces"], findings[0].envelope["id"]);
    assert_eq!(payload(1)["images"].as_array().map(Vec::len), Some(2));
    daemon.terminate();
}

/// The file with one UID in place of another, both padded to the same length.
fn with_study(file: &[u8], from: &Uid, to: &Uid) -> Vec<u8> {
    let (from, to) = (from.as_str().as_bytes(), to.as_str().as_bytes());
    let at = file.windows(from.len()).position(|w| w == from).expect("the study's UID is there");
    let even = |n: usize| n + n % 2;
    let mut changed = file[..at - 2].to_vec();
    changed.extend(u16::try_from(even(to.len())).expect("short").to_le_bytes());
    changed.extend(to);
    changed.resize(at + even(to.len()), 0);
    changed.extend(&file[at + even(from.len())..]);
    changed
}
