//! What an operator sees and does: pages, metrics, the outbox, erasure, the watchdog.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::ingest::send;
use serde_json::{Value, json};

use crate::peers::{
    Broker, Process, Site, Subscriber, binary, free_port, published, small, wait_until,
};
use crate::schemas::wrong;

/// Status and body of a page.
fn get(port: u16, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("asked");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("answered");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// A unit with pages and metrics.
fn run(site: &Site, more: &[(&str, &str)]) -> (Process, u16, u16) {
    let (pages, metrics) = (free_port(), free_port());
    let mut command = Command::new(binary());
    command
        .env("CLEARFILM__HTTP__LISTEN", format!("127.0.0.1:{pages}"))
        .env("CLEARFILM__TELEMETRY__METRICS", format!("127.0.0.1:{metrics}"))
        .envs(more.iter().copied());
    (site.run_by(&mut command), pages, metrics)
}

fn send(site: &Site, seed: u64) -> u16 {
    send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0).expect("answered")
}

#[test]
fn whoever_holds_the_pages_open_does_so_for_a_while_only() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let limits = [("CLEARFILM__HTTP__CONNECTIONS", "2"), ("CLEARFILM__HTTP__TIMEOUT", "1s")];
    let (_daemon, pages, _) = run(&site, &limits);
    wait_until("a page", || get(pages, "/healthz").0 == 200);
    // Each takes a place and never ends its header; the last two wait for a place themselves.
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, pages)).expect("connected");
            socket.write_all(b"GET / HTTP/1.1\r\nX: ").expect("begun");
            socket
        })
        .collect();
    assert_eq!(get(pages, "/healthz").0, 200);
    for mut socket in slow {
        let mut rest = Vec::new();
        // Closed, by whatever means.
        assert!(socket.read_to_end(&mut rest).is_err() || rest.is_empty(), "{rest:?}");
    }
}

#[test]
fn pages_and_metrics_say_how_the_unit_is_doing() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let (daemon, pages, metrics) = run(&site, &[]);
    wait_until("readiness", || get(pages, "/readyz").0 == 200);
    assert_eq!(get(pages, "/healthz"), (200, json!({"ok": true, "stuck": []}).to_string()));
    assert_eq!(send(&site, 1), 0);
    let mut seen = Vec::new();
    subscriber.until("a published exam", &mut seen, |seen| published(seen) == 1);
    let (_, text) = get(metrics, "/metrics");
    for line in [
        "clearfilm_mqtt_connected 1",
        "clearfilm_exam_latency_seconds_count{to=\"gate\"} 1",
        "clearfilm_exam_latency_seconds_count{to=\"report\"} 1",
        "clearfilm_gate_checks_total{check=\"modality\",outcome=\"pass\"} 1",
        "clearfilm_dicom_instances_total{transfer_syntax=\"1.2.840.10008.1.2.1\",result=\"0000\"} 1",
        "clearfilm_dicom_associations_active 0",
        "clearfilm_selftest_success 1",
        "clearfilm_records 1",
    ] {
        assert!(text.lines().any(|l| l == line), "expected {line}, found\n{text}");
    }
    let about: Value = serde_json::from_str(&get(pages, "/api/v1/about").1).expect("JSON");
    assert_eq!(about["unit"], "north-dx-2");
    assert!(get(pages, "/api/v1/schemas/findings/1").1.contains("urn:clearfilm:schema:findings:1"));
    assert_eq!(get(pages, "/api/v1/schemas/findings/9").0, 404);
    let status = site.ask(&["status", "--json"]);
    assert_eq!(status["readings"], 1);
    let none: [String; 0] = [];
    assert_eq!(wrong("health", &status), none);
    daemon.terminate();
    assert_eq!(site.verb(&["status"]).0, Some(3), "no unit runs");
    subscriber.end();
}

#[test]
fn a_unit_without_room_or_engine_is_not_ready_and_raises_alarms_that_end() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    // More free space than any disk has; an engine whose library is not there.
    let short = [
        ("CLEARFILM__STORAGE__FREE_MIN", "900PB"),
        ("CLEARFILM__ENGINE__ORDER", "[\"cpu\"]"),
        ("CLEARFILM__ENGINE__LIBRARY", "/nowhere/libonnxruntime.so"),
    ];
    let (daemon, pages, _) = run(&site, &short);
    assert_eq!(send(&site, 1), 0xA700);
    wait_until("alarms", || {
        site.ask(&["status", "--json"])["alarms"].as_array().is_some_and(|a| a.len() == 2)
    });
    let (status, body) = get(pages, "/readyz");
    assert!(status == 503 && body.contains("low disk space"), "{body}");
    daemon.kill();
    let mut seen = Vec::new();
    // Retained: who comes late sees them too.
    let subscriber = Subscriber::start(broker.port, &[]);
    let text = |kind: &str, seen: &[crate::peers::Seen]| {
        let of_kind = seen.iter().filter(|s| s.topic.ends_with(&format!("/alarm/{kind}")));
        of_kind.map(|s| s.envelope["payload"]["text"].clone()).collect::<Vec<Value>>()
    };
    subscriber.until("both alarms", &mut seen, |seen| {
        ["disk-low", "selftest"].iter().all(|kind| text(kind, seen).len() == 1)
    });
    for alarm in seen.iter().filter(|s| s.topic.contains("/alarm/")) {
        let none: [String; 0] = [];
        assert_eq!(wrong("alarm", &alarm.envelope["payload"]), none);
    }
    let daemon = site.run();
    subscriber.until("their end", &mut seen, |seen| {
        ["disk-low", "selftest"].iter().all(|kind| text(kind, seen).last() == Some(&Value::Null))
    });
    assert_eq!(send(&site, 1), 0);
    daemon.terminate();
    subscriber.end();
}

#[test]
fn other_bytes_under_one_uid_raise_an_alarm_until_an_operator_clears_it() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let (file, _) = small(1);
    let mut other = file.clone();
    let last = other.len() - 2;
    other[last] ^= 1;
    for file in [&file, &file, &other] {
        let status = send::store(site.address(), "CLEARFILM", "TEST", file);
        assert_eq!(status.expect("answered"), 0, "both are kept");
    }
    let alarms = || site.ask(&["status", "--json"])["alarms"].clone();
    wait_until("an alarm", || alarms()[0]["type"] == "uid-conflict");
    wait_until("two readings, not three", || site.ask(&["status", "--json"])["readings"] == 2);
    assert_eq!(site.ask(&["alarm", "clear", "uid-conflict"]), json!({"cleared": "uid-conflict"}));
    assert_eq!(alarms(), json!([]));
    assert_eq!(site.verb(&["alarm", "clear", "weather"]).0, Some(1));
    daemon.terminate();
}

/// Is a text anywhere under a folder, in a name or in a file?
pub(crate) fn holds(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = path.display().to_string();
        if entry.file_name().to_string_lossy().contains(text) {
            found.push(name.clone());
        }
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(holds(&path, text));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn an_erased_exam_is_gone_from_spool_store_outbox_and_broker() {
    let mut broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let subscriber = Subscriber::start(broker.port, &[]);
    let mut seen = Vec::new();
    let (_, study) = small(1);
    for seed in [1, 2] {
        assert_eq!(send(&site, seed), 0);
    }
    subscriber.until("two exams", &mut seen, |seen| published(seen) == 2);
    subscriber.end();
    let exam = site.exam(&study);
    assert!(!holds(&site.storage(), study.as_str()).is_empty(), "it is kept");
    // A message of it waits for a broker that is away.
    broker.stop();
    let erased = site.ask(&["exam", "erase", &exam]);
    assert_eq!(erased["images"], 1);
    assert_eq!(site.verb(&["exam", "erase", &exam]).0, Some(1), "there is nothing left of it");
    assert_eq!(site.verb(&["exam", "erase", "what"]).0, Some(2), "no key");
    broker.again();
    wait_until("an empty outbox", || site.ask(&["outbox", "list", "--json"])["depth"] == 0);
    // What the broker holds now: the other exam, and nothing of the erased one.
    let late = Subscriber::start(broker.port, &[]);
    let mut held = Vec::new();
    late.until("what is retained", &mut held, |held| held.iter().any(|s| s.kind() == "report"));
    late.end();
    assert!(held.iter().all(|s| s.exam() != Some(&exam)), "{exam} is retained");
    daemon.terminate();
    // The store's file is written anew at the next start.
    let daemon = site.run();
    assert_eq!(site.ask(&["status", "--json"])["readings"], 1);
    daemon.terminate();
    assert_eq!(holds(&site.storage(), study.as_str()), [""; 0]);
    assert_eq!(holds(&site.storage(), &exam), [""; 0]);
    let (_, other) = small(2);
    assert!(!holds(&site.storage(), other.as_str()).is_empty(), "the other one stays");
}

#[test]
fn records_and_images_are_kept_as_long_as_configured() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    assert_eq!(send(&site, 1), 0);
    wait_until("a reading", || site.ask(&["status", "--json"])["readings"] == 1);
    daemon.terminate();
    // Looked for at the start, and then from time to time; ids tell seconds.
    let received = SystemClock.now().timestamp();
    wait_until("another second", || SystemClock.now().timestamp() > received);
    let none =
        [("CLEARFILM__STORAGE__KEEP_IMAGES", "0s"), ("CLEARFILM__STORAGE__KEEP_RECORDS", "0s")];
    let (daemon, ..) = run(&site, &none);
    wait_until("an image and a record forgotten", || {
        let spool = fs::read_dir(site.storage().join("spool")).expect("a folder").count();
        let kept = site.ask(&["status", "--json"])["readings"] == 0;
        // Beside `tmp`.
        spool == 1 && kept
    });
    daemon.terminate();
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_and_fed_until_a_loop_is_stuck() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let address = site.folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&address).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let mut command = Command::new(binary());
    command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "1000000");
    let daemon = site.run_by(&mut command);
    let next = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    };
    let mut told = vec![next(), next(), next()];
    assert!(
        told.contains(&"READY=1".to_owned()) && told.contains(&"WATCHDOG=1".to_owned()),
        "{told:?}"
    );
    daemon.terminate();
    manager.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    let mut bytes = [0; 256];
    while let Ok(length) = manager.recv(&mut bytes) {
        told.push(String::from_utf8_lossy(&bytes[..length]).trim().to_owned());
    }
    assert_eq!(told.last().map(String::as_str), Some("STOPPING=1"), "{told:?}");
}
