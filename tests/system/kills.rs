//! A hundred kills, each at a step that was chosen: while an object is received, decoded,
//! committed, published. `strace` attaches to the threads that take the step, and kills there.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clearfilm::id::Uid;
use clearfilm::ingest::send;

use crate::children::{run_mortal, signal, spare};
use crate::faults::{Ends, findings, load};
use crate::peers::{Broker, Process, Seen, Site, Subscriber, binary, small, wait_until};

/// Kills of each step.
const ROUNDS: u64 = 25;

/// Tries in a process of its own before an image is set aside (`storage.trials`): half of the kills
/// hit the reader, and may all hit it at one image. What the default does with an object that keeps
/// ending the daemon, the test below shows.
const TRIALS: &str = "100";

/// Steps of the way of an image: the threads that take it, the system calls that it consists of,
/// and how many of these are told apart.
const STEPS: [(&str, &str, &str, u64); 4] = [
    // The file, its folder and the store's file are synced, by whichever thread serves the socket.
    ("receive", "edge", "fsync", 3),
    // The file is read, written to the child and its answer read.
    ("decode", "reader-1", "read,write", 6),
    // The attempt, and then the reading, are synced by the reader.
    ("commit", "reader-1", "fsync", 2),
    // Packets to the broker, while nobody sends images.
    ("publish", "edge", "sendto,write,writev", 8),
];

/// The threads of a process whose name begins so.
fn threads(of: &Process, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", of.0.id())).expect("it runs").flatten();
    let named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))
    };
    tasks.filter(named).map(|task| task.file_name().to_string_lossy().into_owned()).collect()
}

/// Attaches to threads and kills the process at the nth of these system calls that one of them
/// makes. Ready when this returns.
fn kill_at(daemon: &Process, name: &str, calls: &str, nth: u64) -> Process {
    let attached = |tracer: &Process| {
        let tracer = tracer.0.id().to_string();
        threads(daemon, name).iter().all(|thread| {
            let status =
                fs::read_to_string(format!("/proc/{}/task/{thread}/status", daemon.0.id()));
            status.is_ok_and(|s| s.lines().any(|l| l == format!("TracerPid:\t{tracer}")))
        })
    };
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
    command.arg(format!("inject={calls}:signal=KILL:when={nth}")).stderr(Stdio::null());
    if name == "edge" {
        // A thread that waits for the disk gives its sockets to another one, also to a new one.
        command.arg("-f");
    }
    for thread in threads(daemon, name) {
        command.args(["-p", &thread]);
    }
    let tracer = Process(command.spawn().expect("strace is installed"));
    wait_until("strace to be attached", || attached(&tracer));
    tracer
}

fn ended(daemon: &mut Process) -> bool {
    daemon.0.try_wait().is_ok_and(|status| status.is_some())
}

/// One daemon, killed at a step; gives the studies that it acknowledged before.
fn killed_at(
    site: &Site,
    broker: &mut Broker,
    step: usize,
    round: u64,
    seed: &AtomicU64,
) -> Vec<Uid> {
    let (what, thread, calls, kinds) = STEPS[step];
    let publishing = what == "publish";
    if publishing {
        // What is to be published waits until strace is there.
        broker.stop();
    }
    let mut daemon = site.run_by(Command::new(binary()).env("CLEARFILM__STORAGE__TRIALS", TRIALS));
    wait_until("the reader's spare child", || spare(&daemon) > 0);
    let ledger = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let acknowledged = || ledger.lock().expect("no panic").len();
    std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        if publishing {
            let sending = scope.spawn(|| load(site, seed, &stop, &ledger));
            wait_until("objects to tell of", || acknowledged() >= 2);
            stop.store(true, Ordering::SeqCst);
            sending.join().expect("it only sends");
            stop.store(false, Ordering::SeqCst);
            wait_until("their readings", || site.ask(&["status", "--json"])["inbox"]["depth"] == 0);
        }
        let tracer = kill_at(&daemon, thread, calls, 1 + round % kinds);
        if publishing {
            broker.again();
        } else {
            scope.spawn(|| load(site, seed, &stop, &ledger));
        }
        wait_until(&format!("the kill at {what} {round}"), || ended(&mut daemon));
        drop(tracer);
    });
    ledger.into_inner().expect("no panic")
}

#[test]
fn a_hundred_kills_at_every_step_lose_no_acknowledged_object_and_read_each_once() {
    let mut broker = Broker::start();
    let site = Site::new(broker.port, "");
    let away = ["-c", "-i", "away", "-x", "3600"];
    Subscriber::start_known(broker.port, &away);
    let (seed, mut ledger) = (AtomicU64::new(20_000), Vec::new());
    for step in 0..STEPS.len() {
        for round in 0..ROUNDS {
            ledger.extend(killed_at(&site, &mut broker, step, round, &seed));
        }
    }
    let owed: BTreeSet<String> = ledger.iter().map(|study| site.exam(study)).collect();
    let daemon = site.run_by(Command::new(binary()).env("CLEARFILM__STORAGE__TRIALS", TRIALS));
    wait_until("everything told", || {
        let status = site.ask(&["status", "--json"]);
        status["inbox"]["depth"] == 0 && status["outbox"]["depth"] == 0
    });
    daemon.terminate();
    let subscriber = Subscriber::start(broker.port, &away);
    let mut seen: Vec<Seen> = Vec::new();
    subscriber.until("the findings of every acknowledged object", &mut seen, |seen| {
        let told = findings(seen);
        owed.iter().all(|exam| told.contains_key(exam.as_str()))
    });
    for (exam, ids) in findings(&seen) {
        assert_eq!(ids.len(), 1, "one reading of {exam}");
    }
    let aside = |s: &&Seen| {
        ["quarantined", "failed"].contains(&s.envelope["payload"]["state"].as_str().unwrap_or(""))
    };
    let aside: Vec<String> =
        seen.iter().filter(aside).map(|s| s.envelope["payload"].to_string()).collect();
    assert_eq!(aside, [""; 0], "every image is a good one");
    eprintln!("{} kills, {} objects acknowledged", ROUNDS * STEPS.len() as u64, ledger.len());
}

#[test]
fn a_hundred_restarts_with_a_poisoned_object_set_it_aside_and_read_the_others() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let send = |seed: u64| {
        let status = send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0);
        assert_eq!(status.expect("sent"), 0);
    };
    // It is accepted while its child hangs, and the daemon dies of it from then on.
    let daemon = site.run();
    signal(spare(&daemon), "STOP");
    send(1);
    wait_until("an attempt", || site.ask(&["status", "--json"])["inbox"]["depth"] == 1);
    daemon.kill();
    let quarantine = || fs::read_dir(site.storage().join("quarantine")).expect("a folder").count();
    let mut ends = 0;
    for restart in 1..100 {
        if quarantine() == 0 {
            let mut daemon = run_mortal(&site);
            wait_until("an end, or the object set aside", || {
                ended(&mut daemon) || quarantine() == 1
            });
            ends += 1;
            if quarantine() == 1 {
                // `strace` holds back what would end it.
                daemon.end_child("-KILL");
            }
        } else {
            let daemon = site.run();
            if restart % 10 == 0 {
                send(restart);
            }
            daemon.kill();
        }
    }
    assert!((2..=10).contains(&ends), "set aside after {ends} starts");
    let daemon = site.run();
    let mut seen = Vec::new();
    let state = |seen: &[Seen], wanted: &str| {
        seen.iter().filter(|s| s.envelope["payload"]["state"] == wanted).count()
    };
    subscriber.until("all others read", &mut seen, |seen| state(seen, "published") >= 8);
    assert!(state(&seen, "failed") >= 1);
    assert_eq!(quarantine(), 1);
    daemon.terminate();
    subscriber.end();
}
