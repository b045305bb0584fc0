//! Certificates replaced under load: nothing waits for a restart and nothing is lost.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use clearfilm::ingest::send;
use serde_json::json;

use super::Logged;
use super::broker::{AWAY, Secure, Side, good_broker, good_unit, ready};
use super::certificates::{Authority, HERE, Pair, Valid};
use super::senders::{Sender, all_published, dcmtk, section, succeeds};
use crate::faults::{Ends, findings, load};
use crate::peers::{Broker, Site, Subscriber, published, small, wait_until};

/// Is this the certificate that a sender is shown?
fn shows(site: &Site, sender: &Pair, certificate: &Pair) -> bool {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", site.port)])
        .arg("-cert")
        .arg(&sender.cert)
        .arg("-key")
        .arg(&sender.key)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let pem = fs::read_to_string(&certificate.cert).expect("a certificate");
    String::from_utf8_lossy(&output.stdout).contains(pem.trim())
}

#[test]
fn new_certificates_of_the_receiver_and_a_broken_one_under_load_fail_no_association() {
    let ours = Authority::new();
    let room = ours.issue("dxroom2", HERE, Valid::Now);
    let own = || ours.issue("north-dx-2", HERE, Valid::Now);
    let (unit, ca, broker) = (own(), ours.cert(), Broker::start());
    let site = Site::new(broker.port, &section("mutual", &unit, &ca));
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = Logged::start(&site);
    wait_until("an answer to C-ECHO", || succeeds(&mut dcmtk("echoscu", &site, Some(&room), &ca)));
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load_ends = Ends(&stop);
        scope.spawn(|| {
            let mut sender = Sender::new(&site);
            while !stop.load(Ordering::SeqCst) {
                sender.send(Some(&room), &ca);
                sent.store(sender.sent, Ordering::SeqCst);
            }
        });
        let further = |what: &str| {
            let before = sent.load(Ordering::SeqCst);
            // The second after it began after it.
            wait_until(what, || sent.load(Ordering::SeqCst) >= before + 2);
        };
        for _ in 0..3 {
            let new = own();
            new.replace(&unit);
            wait_until("the new certificate", || shows(&site, &room, &new));
            further("objects under the new certificate");
        }
        let before = daemon.said().len();
        fs::write(&unit.cert, "no certificate").expect("written");
        daemon.says(before, "the certificate before it stays in use");
        further("objects under the old certificate");
        let new = own();
        new.replace(&unit);
        wait_until("the new certificate", || shows(&site, &room, &new));
        drop(load_ends);
    });
    all_published(&subscriber, &mut Vec::new(), sent.load(Ordering::SeqCst));
    daemon.process.terminate();
}

#[test]
fn a_new_authority_on_both_sides_under_load_loses_no_message() {
    let (old, new) = (Authority::new(), Authority::new());
    let (unit, broker) = (good_unit(&old), good_broker(&old));
    let mut secure = Secure::start(&broker);
    let port = secure.broker.port;
    Subscriber::start_known(port, &AWAY);
    let site = secure.site(&unit);
    let daemon = ready(&site);
    let (seed, stop, ledger) = (AtomicU64::new(60_000), AtomicBool::new(false), Mutex::default());
    std::thread::scope(|scope| {
        let load_ends = Ends(&stop);
        scope.spawn(|| load(&site, &seed, &stop, &ledger));
        let further = |what: &str| {
            let acknowledged = || ledger.lock().expect("no panic").len();
            let before = acknowledged();
            wait_until(what, || acknowledged() > before + 2);
        };
        let watching = Subscriber::start(port, &[]);
        watching.until("findings under the old authority", &mut Vec::new(), |seen| {
            findings(seen).len() >= 2
        });
        watching.end();
        good_unit(&new).replace(&unit);
        further("objects with new files at the unit");
        secure.broker.stop();
        good_broker(&new).replace(&broker);
        further("objects without a broker");
        secure.broker.again();
        let watching = Subscriber::start(port, &["-R"]);
        watching.until("findings under the new authority", &mut Vec::new(), |seen| {
            findings(seen).len() >= 2
        });
        drop(load_ends);
    });
    let ledger = ledger.into_inner().expect("no panic");
    let owed: BTreeSet<String> = ledger.iter().map(|study| site.exam(study)).collect();
    let (back, mut seen) = (Subscriber::start(port, &AWAY), Vec::new());
    back.until("the findings of every acknowledged object", &mut seen, |seen| {
        let told = findings(seen);
        owed.iter().all(|exam| told.contains_key(exam.as_str()))
    });
    for (exam, ids) in findings(&seen) {
        assert_eq!(ids.len(), 1, "one reading of {exam}");
    }
    daemon.process.terminate();
}

#[test]
fn a_healthy_connection_takes_up_new_certificates_and_one_that_has_ended_is_an_alarm() {
    let ours = Authority::new();
    let unit = good_unit(&ours);
    let secure = Secure::start(&good_broker(&ours));
    let site = secure.site(&unit);
    let daemon = ready(&site);
    let (subscriber, mut seen) = (Subscriber::start(secure.broker.port, &[]), Vec::new());
    let mut sent = 0;
    let mut send = || {
        let status = send::store(site.address(), "CLEARFILM", "TEST", &small(sent as u64).0);
        assert_eq!(status.expect("sent"), 0);
        sent += 1;
        sent
    };
    let exams = send();
    subscriber.until("a first exam", &mut seen, |seen| published(seen) == exams);
    let before = daemon.said().len();
    good_unit(&ours).replace(&unit);
    daemon.says(before, "its certificates were replaced");
    let exams = send();
    subscriber.until("an exam under new files", &mut seen, |seen| published(seen) == exams);
    let alarms = || site.ask(&["status", "--json"])["alarms"].clone();
    assert_eq!(alarms(), json!([]));
    Side::new(ours.issue("north-dx-2", HERE, Valid::Past), &ours).replace(&unit);
    wait_until("an alarm", || alarms()[0]["type"] == "certificate");
    let exams = send();
    good_unit(&ours).replace(&unit);
    subscriber.until("an exam that waited", &mut seen, |seen| published(seen) == exams);
    wait_until("the end of the alarm", || alarms() == json!([]));
    daemon.process.terminate();
    subscriber.end();
}
