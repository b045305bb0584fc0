//! Does anything that leaves the unit say who somebody is? Every other test asks that of its logs
//! and messages too (see `peers`); here everything is looked at.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use clearfilm::ingest::send;

use crate::corpus;
use crate::operator::holds;
use crate::peers::{
    Broker, CANARIES, Seen, Site, Subscriber, binary, free_port, published, says_nobody, small,
    temporary, wait_until,
};

/// Good objects of their own studies.
const GOOD: u64 = 4;

fn metrics(port: u16) -> String {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("asked");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("answered");
    text
}

/// What may stand in the store (UIDs, accession numbers), and nowhere outside of it.
fn identifiers() -> Vec<String> {
    // The malformed ones': accession number and Series Instance UID.
    let mut identifiers = vec!["ACC-OF-NOBODY".to_owned(), "1.2.3.4.1".to_owned()];
    for seed in 0..GOOD {
        let (_, study) = small(seed);
        identifiers.push(study.as_str().to_owned());
        // The phantom's accession number, as it would stand in JSON.
        identifiers.push(format!("\"P{seed}\""));
    }
    identifiers
}

#[test]
fn nothing_that_leaves_the_unit_says_who_somebody_is_and_after_erasure_nothing_that_stays() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let folder = site.folder.path().join("inbox");
    fs::create_dir(&folder).expect("made");
    let (scratch, port) = (temporary(), free_port());
    let mut command = Command::new(binary());
    command
        .env("CLEARFILM__TELEMETRY__LOG", "trace")
        .env("CLEARFILM__TELEMETRY__METRICS", format!("127.0.0.1:{port}"))
        .env("CLEARFILM__INBOX__FOLDER", &folder)
        .env("TMPDIR", scratch.path())
        .current_dir(scratch.path());
    let daemon = site.run_by(&mut command);
    let subscriber = Subscriber::start(broker.port, &[]);
    for seed in 0..GOOD {
        let status = send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0);
        assert_eq!(status.expect("sent"), 0);
    }
    // Names that say who it is, over both doors, and what cannot be read.
    let named = ["CANARY^PATIENT.dcm", "CANARY^OTHER.txt"];
    fs::write(folder.join(named[0]), small(0).0).expect("written");
    fs::write(folder.join(named[1]), b"CANARY").expect("written");
    for case in corpus::cases().into_iter().filter(|case| case.file.len() < 100_000) {
        drop(send::store(site.address(), "CLEARFILM", "TEST", &case.file));
    }
    let mut seen: Vec<Seen> = Vec::new();
    subscriber.until("the good ones", &mut seen, |seen| published(seen) as u64 >= GOOD);
    wait_until("the folder taken, everything read or set aside, and told", || {
        let taken = named.iter().all(|name| !folder.join(name).exists());
        taken
            && site.ask(&["status", "--json"])["inbox"]["depth"] == 0
            && site.ask(&["outbox", "list", "--json"])["depth"] == 0
    });
    // The broker passes messages on in their order: whatever was told is before the last one.
    broker.publish("clearfilm/v1/last", "{}");
    subscriber.until("the last", &mut seen, |seen| seen.iter().any(|s| s.kind() == "last"));
    let log = fs::read_to_string(site.log()).expect("a log");
    assert!(log.contains("TRACE"), "everything is logged");
    let mut told = vec![
        ("the log", log),
        ("the metrics", metrics(port)),
        ("status", site.verb(&["status", "--json"]).1),
        ("the outbox", site.verb(&["outbox", "list", "--json"]).1),
    ];
    let message = |seen: &Seen| ("a message", format!("{}\n{}", seen.topic, seen.envelope));
    told.extend(seen.iter().map(message));
    for (what, text) in &told {
        says_nobody(what, text);
        for identifier in identifiers() {
            assert!(!text.contains(&identifier), "{what} says {identifier}");
        }
    }
    for canary in CANARIES {
        let store = site.storage().join("store");
        assert_eq!(holds(&store, canary), [""; 0], "the store needs no name");
        assert_eq!(holds(scratch.path(), canary), [""; 0], "no temporary file, no core");
        let named = holds(&site.storage(), canary)
            .into_iter()
            .filter(|path| path.rsplit('/').next().is_some_and(|name| name.contains(canary)));
        assert_eq!(named.count(), 0, "no file is named by {canary}");
    }
    let exams: BTreeSet<&str> = seen.iter().filter_map(Seen::exam).collect();
    for exam in exams {
        site.ask(&["exam", "erase", exam]);
    }
    daemon.terminate();
    // The store's file is written anew at the next start.
    site.run().terminate();
    for text in identifiers().iter().map(String::as_str).chain(CANARIES) {
        assert_eq!(holds(&site.storage(), text), [""; 0], "after erasure");
    }
    subscriber.end();
}
