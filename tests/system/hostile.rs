//! Insults: malformed objects through real associations, and peers that are none.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use clearfilm::ingest::send;

use crate::corpus::{self, Case};
use crate::peers::{Broker, Process, Seen, Site, Subscriber, small, status, wait_until};

/// Associations with bad objects in an ordinary run; `CLEARFILM_TEST_ASSOCIATIONS` asks for more.
const ASSOCIATIONS: usize = 2_000;

/// Bad objects for each good one.
const BAD: usize = 10;

/// The most that the daemon's memory may grow over what honest objects need, KiB.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

fn descriptors(daemon: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.0.id())).expect("it runs").count()
}

fn is_state(seen: &Seen, states: &[&str]) -> bool {
    seen.kind() == "state"
        && seen.envelope["payload"]["state"].as_str().is_some_and(|s| states.contains(&s))
}

fn count(seen: &[Seen], states: &[&str]) -> usize {
    seen.iter().filter(|s| is_state(s, states)).count()
}

/// Sends good objects of their own studies and says how many were sent.
struct Good<'a> {
    site: &'a Site,
    sent: usize,
}

impl Good<'_> {
    fn send(&mut self) {
        self.sent += 1;
        let (file, _) = small(90_000 + self.sent as u64);
        let status = send::store(self.site.address(), "CLEARFILM", "TEST", &file);
        assert_eq!(status.expect("a good object is taken"), 0);
    }
}

#[test]
fn every_bad_object_gets_an_answer_and_the_next_good_one_is_read() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = site.run();
    let mut seen = Vec::new();
    let mut good = Good { site: &site, sent: 0 };
    good.send();
    subscriber.until("a first reading", &mut seen, |seen| count(seen, &["read"]) == 1);
    let base = status(&daemon, "VmHWM");
    let cases = corpus::cases();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut taken = 0;
    for batch in cases.chunks(BAD) {
        for Case { name, file } in batch {
            let answer = send::store(site.address(), "CLEARFILM", "TEST", file);
            assert!(!ended(&daemon), "the daemon ended at: {name}");
            taken += usize::from(answer.is_ok_and(|status| status == 0));
        }
        good.send();
        let read = good.sent;
        subscriber.until("the next good image", &mut seen, |seen| count(seen, &["read"]) >= read);
    }
    let grown = status(&daemon, "VmHWM") - base;
    eprintln!(
        "{} bad objects, {taken} taken and set aside or refused; memory grew by {grown} KiB",
        cases.len()
    );
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    // Whatever was taken ends in a state with a reason; what was sent again counts once.
    let received = count(&seen, &["received"]);
    let ends = ["read", "refused", "withheld", "quarantined", "failed"];
    subscriber.until("an end of each", &mut seen, |seen| count(seen, &ends) >= received);
    for state in seen.iter().filter(|s| is_state(s, &["refused", "quarantined"])) {
        assert!(state.envelope["payload"]["reason"]["code"].is_string(), "{state:?}");
    }
    only_our_names(&site);
    assert!(status(&daemon, "VmHWM") > 0);
    daemon.terminate();
    subscriber.end();
}

/// No file outside the storage, and in the spool none with a name that is not ours.
fn only_our_names(site: &Site) {
    for folder in ["spool", "quarantine"] {
        for entry in fs::read_dir(site.storage().join(folder)).expect("a folder").flatten() {
            let name = entry.file_name().into_string().expect("ASCII");
            let ours = name == "tmp" || name.strip_suffix(".dcm").is_some_and(|id| id.len() == 36);
            assert!(ours, "{folder}/{name}");
        }
    }
    let beside = fs::read_dir(site.folder.path()).expect("a folder").flatten().count();
    assert_eq!(beside, 3, "config.toml, log and storage");
}

fn ended(daemon: &Process) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", daemon.0.id())).map_or(true, |stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

#[test]
fn thousands_of_bad_associations_end_no_process_and_leak_nothing() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let asked = std::env::var("CLEARFILM_TEST_ASSOCIATIONS").ok();
    let most = asked.map_or(ASSOCIATIONS, |n| n.parse().expect("a number"));
    // The largest cases cost transfer time and nothing else; they have their turn in the other test.
    let cases: Vec<Case> = corpus::cases().into_iter().filter(|c| c.file.len() < 100_000).collect();
    let mut good = Good { site: &site, sent: 0 };
    good.send();
    let (memory, files) = (status(&daemon, "VmHWM"), descriptors(&daemon));
    for (at, case) in cases.iter().cycle().take(most).enumerate() {
        drop(send::store(site.address(), "CLEARFILM", "TEST", &case.file));
        if at % BAD == 0 {
            good.send();
        }
    }
    wait_until("as few open files as before", || descriptors(&daemon) <= files + 4);
    let grown = status(&daemon, "VmHWM") - memory;
    eprintln!("{most} bad associations, {} good ones; memory grew by {grown} KiB", good.sent);
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    daemon.terminate();
}

/// What a peer says that is none: a name, the bytes, and whether the connection stays open after.
fn strangers() -> Vec<(&'static str, Vec<u8>)> {
    let associate =
        |length: u32, body: &[u8]| [&[1, 0], length.to_be_bytes().as_slice(), body].concat();
    vec![
        ("nothing", Vec::new()),
        ("half a header", vec![1, 0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: clearfilm\r\n\r\n".to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("an A-ASSOCIATE-RQ of 4 GB", associate(u32::MAX, &[0, 1])),
        ("an A-ASSOCIATE-RQ of nothing", associate(0, &[])),
        ("an A-ASSOCIATE-RQ of zeros", associate(512, &[0; 512])),
        ("an A-ASSOCIATE-RQ of ones", associate(512, &[0xff; 512])),
        ("an unknown PDU", vec![0x77, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
        ("data before any association", vec![4, 0, 0, 0, 0, 8, 0, 0, 0, 4, 1, 3, 0, 0]),
        ("an abort", vec![7, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
        ("a release", vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
    ]
}

#[test]
fn peers_that_are_none_hold_a_place_only_until_the_timer_ends() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let mut good = Good { site: &site, sent: 0 };
    good.send();
    let (memory, files) = (status(&daemon, "VmHWM"), descriptors(&daemon));
    let connect = || TcpStream::connect(site.address()).expect("a connection");
    for (name, bytes) in strangers() {
        let mut stranger = connect();
        // Some are cut off while they speak.
        drop(stranger.write_all(&bytes));
        good.send();
        stranger.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        // The timer (`dicom.scp.artim`) or the answer to nonsense closes it.
        let mut rest = Vec::new();
        let closed = stranger.read_to_end(&mut rest);
        let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(closed.as_ref().map_or_else(reset, |_| true), "{name}: {closed:?}");
    }
    // More that say nothing than there are places: an honest one is told to come back, and can.
    let (file, _) = small(1);
    let honest = || send::store(site.address(), "CLEARFILM", "TEST", &file);
    // On a busy machine the first mute ones may have run out of time before the honest one comes.
    let mut mute: Vec<TcpStream> = Vec::new();
    let turned_away = (0..3).any(|_| {
        mute = (0..40).map(|_| connect()).collect();
        honest().is_err()
    });
    assert!(turned_away, "no place is left");
    drop(mute);
    wait_until("a free place", || honest().is_ok_and(|status| status == 0));
    // One byte a second is silence too: a whole PDU has `idle_timeout`, the first `artim`.
    let mut slow = connect();
    let begun = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(200));
        slow.write_all(&[1]).is_ok()
    });
    let alive = begun.take(100).take_while(|written| *written).count();
    assert!(alive < 100, "a peer of five bytes a second is cut off");
    drop(slow.shutdown(Shutdown::Both));
    wait_until("as few open files as before", || descriptors(&daemon) <= files + 4);
    assert!(status(&daemon, "VmHWM") - memory < GROWTH_MAX_KIB);
    daemon.terminate();
}
