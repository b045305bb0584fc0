//! Brokers that deny, stall, speak nonsense, hang up or throw out: nothing is lost, and one
//! message that is not taken holds up no other.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::ingest::send;

use crate::fake::{
    NOT_AUTHORIZED, PACKET_TOO_LARGE, QUOTA_EXCEEDED, Reaction, SUCCESS, Seen, WELCOME, broker,
};
use crate::peers::{Process, Site, binary, small, wait_until};

/// Sends objects of their own studies.
fn send(site: &Site, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let (file, _) = small(seed);
        let status = send::store(site.address(), "CLEARFILM", "TEST", &file);
        assert_eq!(status.expect("sent"), 0, "phantom {seed}");
    }
}

fn start(port: u16, more: &str) -> (Site, Process) {
    let site = Site::new(port, &format!("denied_retry_max = \"1s\"\n{more}"));
    let daemon = site.run();
    (site, daemon)
}

/// Texts of an alarm in the order in which the broker took them; an empty one clears it.
fn alarms(seen: &Seen, kind: &str) -> Vec<String> {
    let taken = seen.taken();
    let of_kind = taken.iter().filter(|p| p.topic.ends_with(&format!("/alarm/{kind}")));
    of_kind
        .map(|p| p.envelope()["payload"]["text"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_denied_message_stays_holds_up_no_other_and_is_told_of_until_it_is_taken() {
    let allowed = Arc::new(AtomicBool::new(false));
    let allows = allowed.clone();
    let (port, seen) = broker(
        |_| WELCOME.to_vec(),
        move |message| match message.kind() {
            "gate" if !allows.load(Ordering::SeqCst) => Reaction::Answer(NOT_AUTHORIZED),
            _ => Reaction::Answer(SUCCESS),
        },
    );
    let (site, daemon) = start(port, "");
    send(&site, 0..3);
    // Everything but the gate messages arrives, and the alarm with it.
    seen.wait_published(3);
    wait_until("an alarm", || alarms(&seen, "broker-denied").len() == 1);
    assert!(alarms(&seen, "broker-denied")[0].contains("NotAuthorized"));
    assert!(seen.taken().iter().all(|p| p.kind() != "gate"));
    assert_eq!(seen.connections(), 1, "the connection is kept");
    allowed.store(true, Ordering::SeqCst);
    let gates = || seen.taken().iter().filter(|p| p.kind() == "gate").count();
    wait_until("the gate messages", || gates() == 3);
    wait_until("the end of the alarm", || alarms(&seen, "broker-denied").len() == 2);
    assert_eq!(alarms(&seen, "broker-denied")[1], "");
    daemon.terminate();
}

#[test]
fn a_message_too_large_for_the_broker_stays_and_the_others_go_on() {
    // As mosquitto's message_size_limit does: reason code 0x95, which the client library does not
    // know and answers by ending the connection.
    let (port, seen) = broker(
        |_| WELCOME.to_vec(),
        |message| match message.kind() {
            "findings" => Reaction::Answer(PACKET_TOO_LARGE),
            _ => Reaction::Answer(SUCCESS),
        },
    );
    let (site, daemon) = start(port, "");
    send(&site, 0..2);
    seen.wait_published(2);
    wait_until("an alarm", || !alarms(&seen, "broker-denied").is_empty());
    let waiting = site.ask(&["outbox", "list", "--json"]);
    assert_eq!(waiting["depth"], 2, "{waiting}");
    assert!(
        waiting["rows"].as_array().is_some_and(|rows| rows.iter().all(|r| r["kind"] == "findings"))
    );
    daemon.terminate();
    // Said in the greeting (Maximum Packet Size, 0x27) it is not even sent.
    let limit = [0x20, 8, 0, 0, 5, 0x27, 0, 0, 0x0c, 0x00];
    let (port, seen) = broker(move |_| limit.to_vec(), |_| Reaction::Answer(SUCCESS));
    let (site, daemon) = start(port, "");
    send(&site, 0..1);
    wait_until("an alarm", || !alarms(&seen, "broker-denied").is_empty());
    assert!(seen.taken().iter().all(|p| p.body.len() < 0xc00));
    assert_eq!(seen.connections(), 1);
    daemon.terminate();
}

#[test]
fn a_broker_that_has_enough_for_now_gets_everything_later() {
    let left = Arc::new(AtomicUsize::new(5));
    let (port, seen) = broker(
        |_| WELCOME.to_vec(),
        move |_| {
            let full = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            Reaction::Answer(if full.is_ok() { QUOTA_EXCEEDED } else { SUCCESS })
        },
    );
    let (site, daemon) = start(port, "");
    send(&site, 0..3);
    seen.wait_published(3);
    wait_until("the end of the alarm", || {
        alarms(&seen, "broker-denied").last().is_some_and(String::is_empty)
    });
    daemon.terminate();
}

#[test]
fn a_connection_that_is_refused_is_told_of_and_tried_again() {
    // CONNACK: not authorized; then welcome.
    let refused = [0x20, 3, 0, NOT_AUTHORIZED, 0];
    let (port, seen) = broker(
        move |number| if number < 3 { refused.to_vec() } else { WELCOME.to_vec() },
        |_| Reaction::Answer(SUCCESS),
    );
    let (site, daemon) = start(port, "");
    send(&site, 0..2);
    seen.wait_published(2);
    wait_until("an alarm and its end", || alarms(&seen, "broker-denied").len() == 2);
    assert!(alarms(&seen, "broker-denied")[0].contains("NotAuthorized"));
    daemon.terminate();
}

#[test]
fn a_broker_that_never_acknowledges_is_left_and_tried_again() {
    let (port, seen) = broker(
        |_| WELCOME.to_vec(),
        |message| {
            if message.connection < 2 { Reaction::Silence } else { Reaction::Answer(SUCCESS) }
        },
    );
    let (site, daemon) = start(port, "ack_timeout = \"1s\"\n");
    send(&site, 0..3);
    seen.wait_published(3);
    assert!(seen.connections() >= 3);
    daemon.terminate();
}

#[test]
fn a_broker_that_speaks_nonsense_harms_nothing() {
    let nonsense = |number: usize| match number {
        0 => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        1 => vec![0xff; 64],
        2 => vec![0x20, 0xff, 0xff, 0xff, 0x7f],
        3 => Vec::new(),
        _ => WELCOME.to_vec(),
    };
    let (port, seen) = broker(nonsense, |message| match message.connection {
        // An acknowledgement of nothing; a PUBLISH cut off; bytes that are no packet.
        4 => Reaction::Say(vec![0x40, 3, 0x7f, 0xff, 0]),
        5 => Reaction::Say(vec![0x30, 0x7f, 0, 200]),
        6 => Reaction::Say(vec![0xf0, 0x80, 0x80, 0x80, 0x80, 0x80]),
        7 => Reaction::HangUp,
        _ => Reaction::Answer(SUCCESS),
    });
    let (site, daemon) = start(port, "ack_timeout = \"1s\"\n");
    send(&site, 0..3);
    seen.wait_published(3);
    daemon.terminate();
}

#[test]
fn a_unit_that_is_thrown_out_comes_back_without_haste_and_says_so() {
    // DISCONNECT: session taken over, at the first message of each of the first connections.
    let (port, seen) = broker(
        |_| WELCOME.to_vec(),
        |message| {
            if message.connection < 6 {
                Reaction::Say(vec![0xe0, 2, 0x8e, 0])
            } else {
                Reaction::Answer(SUCCESS)
            }
        },
    );
    let begun = SystemClock.monotonic();
    let (site, daemon) = start(port, "");
    send(&site, 0..1);
    seen.wait_published(1);
    // Five waits of 0.1 s doubled up to 1 s, each with at least half of it.
    let took = SystemClock.monotonic().duration_since(begun);
    assert!(took > Duration::from_millis(1_200), "{took:?}: a storm");
    assert!(alarms(&seen, "session-taken").iter().any(|text| text.contains("client id")));
    daemon.terminate();
}

#[test]
fn what_a_broker_allows_is_kept_to() {
    // CONNACK with Receive Maximum 1 (0x21) and Server Keep Alive 1 s (0x13).
    let strict = [0x20, 9, 0, 0, 6, 0x21, 0, 1, 0x13, 0, 1];
    let open: Arc<Mutex<Vec<usize>>> = Arc::default();
    let opened = open.clone();
    let (port, seen) = broker(
        move |_| strict.to_vec(),
        move |message| {
            opened.lock().expect("no panic holds it").push(message.connection);
            // Slow: a second message on the wire would be there when this one is answered.
            std::thread::sleep(Duration::from_millis(20));
            Reaction::Answer(SUCCESS)
        },
    );
    let (site, daemon) = start(port, "");
    send(&site, 0..3);
    seen.wait_published(3);
    wait_until("pings as often as the broker wants them", || seen.pings() >= 3);
    assert_eq!(seen.connections(), 1, "nothing was too much for the broker");
    daemon.terminate();
}

/// Enough for a hundred broken connections, with seven messages an exam and at most four of them
/// a connection.
const EXAMS: u64 = 80;

#[test]
fn a_connection_that_is_dropped_a_hundred_times_loses_nothing() {
    let count = Arc::new(AtomicUsize::new(0));
    let (port, seen) = broker(
        |_| WELCOME.to_vec(),
        move |message| {
            // At every fifth message, a hundred times.
            let at = count.fetch_add(1, Ordering::SeqCst);
            if message.connection < 100 && at.is_multiple_of(5) {
                Reaction::HangUp
            } else {
                Reaction::Answer(SUCCESS)
            }
        },
    );
    let site = Site::new(port, "retry_first = \"10ms\"\n");
    // As hasty as can be: what counts here is how often.
    let daemon = site.run_by(Command::new(binary()).env("CLEARFILM__MQTT__RETRY_MAX", "20ms"));
    send(&site, 0..EXAMS);
    seen.wait_published(usize::try_from(EXAMS).expect("small"));
    assert!(seen.connections() > 100, "{} connections", seen.connections());
    let ids: std::collections::BTreeSet<String> = seen
        .taken()
        .iter()
        .filter(|p| p.kind() == "findings")
        .map(|p| p.envelope()["id"].to_string())
        .collect();
    assert_eq!(ids.len() as u64, EXAMS, "one findings message an exam, however often it came");
    daemon.terminate();
}
