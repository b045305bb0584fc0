//! Nothing acknowledged is lost: killed daemons, a broker that goes away, subscribers that were away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::id::Uid;
use clearfilm::ingest::send;
use serde_json::Value;

use crate::peers::{Broker, Seen, Site, Subscriber, small, status, wait_until};

/// Ids of the findings messages by exam; duplicates on the wire share theirs.
pub(crate) fn findings(seen: &[Seen]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for message in seen.iter().filter(|s| s.kind() == "findings") {
        ids.entry(message.exam().expect("an exam message")).or_default().insert(message.id());
    }
    ids
}

/// Ends a load with its scope, also where the test fails, which otherwise would wait for it for ever.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends phantoms until told to stop; the ledger holds the studies that were acknowledged.
pub(crate) fn load(site: &Site, seed: &AtomicU64, stop: &AtomicBool, ledger: &Mutex<Vec<Uid>>) {
    while !stop.load(Ordering::SeqCst) {
        let (file, study) = small(seed.fetch_add(1, Ordering::SeqCst));
        // An error is the daemon's death: what it did not acknowledge it does not owe.
        if send::store(site.address(), "CLEARFILM", "LOAD", &file).is_ok_and(|status| status == 0) {
            ledger.lock().expect("the sender did not panic").push(study);
        }
    }
}

#[test]
fn twenty_kills_under_load_lose_no_acknowledged_object_and_read_each_once() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let (seed, ledger) = (AtomicU64::new(1000), Mutex::new(Vec::new()));
    for round in 0..20_u64 {
        let stop = AtomicBool::new(false);
        let acknowledged = || ledger.lock().expect("no panic").len();
        std::thread::scope(|scope| {
            let _ends = Ends(&stop);
            let daemon = site.run();
            let before = acknowledged();
            scope.spawn(|| load(&site, &seed, &stop, &ledger));
            // At least one object is in its hands; the moment then is as good as random: it
            // moves by 37 ms a round through receiving, reading and publishing.
            wait_until("an acknowledged object", || acknowledged() > before);
            let until = SystemClock.monotonic() + Duration::from_millis(37 * round);
            wait_until("the moment of the kill", || SystemClock.monotonic() >= until);
            daemon.kill();
        });
    }
    let ledger = ledger.into_inner().expect("no panic");
    let owed: BTreeSet<String> = ledger.iter().map(|study| site.exam(study)).collect();
    assert_eq!(owed.len(), ledger.len(), "every object is a study of its own");
    let daemon = site.run();
    let mut seen = Vec::new();
    subscriber.until("the findings of every acknowledged object", &mut seen, |seen| {
        let told = findings(seen);
        owed.iter().all(|exam| told.contains_key(exam.as_str()))
    });
    // Stopped cleanly it sends what is left: then the count is final.
    daemon.terminate();
    subscriber.until("the clean stop", &mut seen, |seen| {
        seen.iter().any(|s| s.kind() == "status" && s.envelope["payload"]["state"] == "stopped")
    });
    for (exam, ids) in findings(&seen) {
        assert_eq!(ids.len(), 1, "one reading of {exam}");
    }
    for message in seen.iter().filter(|s| s.kind() == "findings") {
        assert_eq!(
            message.envelope["payload"]["revision"],
            1,
            "one revision of {:?}",
            message.exam()
        );
    }
    eprintln!("{} objects acknowledged over 20 kills, {} messages seen", ledger.len(), seen.len());
}

/// How long the broker is away at least, seconds; images come all the while.
/// `CLEARFILM_TEST_OUTAGE_S` asks for more.
fn outage() -> Duration {
    let seconds = std::env::var("CLEARFILM_TEST_OUTAGE_S").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Time from one image to the next: five a second, more than a busy room makes in a minute.
const PACE: Duration = Duration::from_millis(200);

/// The most that the daemon's memory may grow over an outage of any length, KiB: the disk is the
/// queue. sled keeps up to 50 MiB whatever its cache is said to hold, and less than twice as much is
/// resident, because threads share it; 9,600 images that wait made it 78 MB.
const GROWTH_MAX_KIB: u64 = 96 * 1024;

/// Sends images at their pace until the outage is over; gives their exams.
fn send_during(site: &Site, outage: Duration) -> BTreeSet<String> {
    let begun = SystemClock.monotonic();
    let mut owed = BTreeSet::new();
    let mut seed = 5_000;
    while SystemClock.monotonic().duration_since(begun) < outage {
        let (file, study) = small(seed);
        let status = send::store(site.address(), "CLEARFILM", "TEST", &file).expect("sent");
        assert_eq!(status, 0);
        owed.insert(site.exam(&study));
        seed += 1;
        let next = PACE * u32::try_from(owed.len()).expect("few");
        std::thread::sleep(next.saturating_sub(SystemClock.monotonic().duration_since(begun)));
    }
    owed
}

#[track_caller]
fn check_outage(mqtt: &str) {
    let mut broker = Broker::start();
    let site = Site::new(broker.port, mqtt);
    // Makes itself known, and is away from then on.
    let away = ["-c", "-i", "away", "-x", "3600"];
    Subscriber::start_known(broker.port, &away);
    let daemon = site.run();
    // One image through all of it, so that what every image needs is there before.
    let (file, study) = small(4_999);
    assert_eq!(send::store(site.address(), "CLEARFILM", "TEST", &file).expect("sent"), 0);
    wait_until("a first reading", || site.ask(&["status", "--json"])["readings"] == 1);
    let memory = status(&daemon, "VmHWM");
    broker.stop();
    let mut owed = send_during(&site, outage());
    owed.insert(site.exam(&study));
    broker.again();
    let begun = SystemClock.monotonic();
    let depth = |status: &Value, of: &str| status[of]["depth"].as_u64();
    wait_until("an empty inbox and outbox", || {
        let status = site.ask(&["status", "--json"]);
        [depth(&status, "inbox"), depth(&status, "outbox")] == [Some(0), Some(0)]
    });
    let drained = SystemClock.monotonic().duration_since(begun);
    let grown = status(&daemon, "VmHWM") - memory;
    eprintln!("{} images, drained in {drained:?}, memory grew by {grown} KiB", owed.len());
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    daemon.terminate();
    let back = Subscriber::start(broker.port, &away);
    let mut seen = Vec::new();
    back.until("the findings of every image", &mut seen, |seen| findings(seen).len() >= owed.len());
    let told = findings(&seen);
    assert_eq!(told.keys().map(|k| (*k).to_owned()).collect::<BTreeSet<_>>(), owed);
    assert!(told.values().all(|ids| ids.len() == 1), "each once by id");
}

#[test]
fn an_outage_of_the_broker_loses_no_findings_for_a_subscriber_that_was_away_too() {
    check_outage("");
}

#[test]
fn an_outage_loses_nothing_where_nothing_is_retained_either() {
    check_outage("phi = \"accession\"");
}
