//! What a broker acknowledged and then lost: with receipts on, nothing that a consumer needs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use clearfilm::ingest::send;
use serde_json::Value;

use crate::peers::{Broker, Process, Site, binary, small, wait_until};

/// How often the broker is killed.
const KILLS: u64 = 20;

/// `clearfilm watch`, which keeps what it prints and confirms it.
fn consumer(site: &Site, name: &str, into: &Path) -> Process {
    let out = File::options().create(true).append(true).open(into).expect("opened");
    let config = site.folder.path().join("config.toml");
    let child = Command::new(binary())
        .args(["watch", "--json", "--receipts-as", name, "--config"])
        .arg(config)
        .stdout(out)
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("it starts"))
}

/// Exams of which a consumer has findings and report.
fn complete(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut had: [BTreeSet<String>; 2] = Default::default();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let topic = line["topic"].as_str().unwrap_or_default();
        if let Some((exam, kind)) = topic.rsplit_once('/') {
            match kind {
                "findings" => had[0].insert(exam.to_owned()),
                "report" => had[1].insert(exam.to_owned()),
                _ => false,
            };
        }
    }
    had[0].intersection(&had[1]).count()
}

fn send(site: &Site, seed: u64) {
    let status = send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0);
    assert_eq!(status.expect("sent"), 0);
}

#[test]
fn a_broker_that_is_killed_twenty_times_loses_nothing_that_consumers_confirm() {
    let mut broker = Broker::start();
    let site = Site::new(broker.port, "receipts = [\"ris\", \"wall\"]\nreceipt_wait = \"2s\"\n");
    let daemon = site.run();
    let (ris, wall) = (site.folder.path().join("ris.json"), site.folder.path().join("wall.json"));
    let one = consumer(&site, "ris", &ris);
    // The other one is away while everything happens.
    for kill in 0..KILLS {
        send(&site, 2 * kill);
        send(&site, 2 * kill + 1);
        // Killed at another moment each time: while it takes the first messages, or later.
        wait_until("readings", || {
            site.ask(&["status", "--json"])["readings"].as_u64() > Some(kill)
        });
        broker.kill();
        broker.again();
    }
    let exams = usize::try_from(2 * KILLS).expect("small");
    wait_until("everything at the one who stayed", || complete(&ris) == exams);
    // The one that is away holds every exam's findings and report back.
    let waiting = || site.ask(&["outbox", "list", "--json", "--limit", "1000"]);
    let held = |rows: &Value| {
        let rows = rows["rows"].as_array().expect("rows").clone();
        rows.iter().filter(|r| r["kind"] == "findings" || r["kind"] == "report").count()
    };
    assert_eq!(held(&waiting()), 2 * exams);
    let two = consumer(&site, "wall", &wall);
    wait_until("everything at the one who was away", || complete(&wall) == exams);
    wait_until("an empty outbox", || waiting()["depth"] == 0);
    drop((one, two));
    daemon.terminate();
}

#[test]
fn a_restart_asks_for_receipts_again_and_a_stranger_s_does_not_count() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "receipts = [\"ris\"]\nreceipt_wait = \"2s\"\n");
    let daemon = site.run();
    let (ris, other) = (site.folder.path().join("ris.json"), site.folder.path().join("other.json"));
    let stranger = consumer(&site, "somebody", &other);
    send(&site, 1);
    wait_until("the stranger has it", || complete(&other) == 1);
    daemon.kill();
    let daemon = site.run();
    let kinds = || {
        let rows = site.ask(&["outbox", "list", "--json"])["rows"].clone();
        let kinds = rows
            .as_array()
            .expect("rows")
            .iter()
            .map(|r| r["kind"].to_string())
            .collect::<BTreeSet<_>>();
        kinds.contains("\"findings\"") && kinds.contains("\"report\"")
    };
    assert!(kinds(), "still waits for ris");
    let known = consumer(&site, "ris", &ris);
    wait_until("an empty outbox", || site.ask(&["outbox", "list", "--json"])["depth"] == 0);
    drop((stranger, known));
    daemon.terminate();
}
