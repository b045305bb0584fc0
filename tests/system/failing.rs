//! A disk that fails under the daemon: syncs that return an error, and no room.

use std::process::{Command, Stdio};
use std::time::Duration;

use clearfilm::ingest::send;

use crate::peers::{Broker, Process, Seen, Site, Subscriber, small, wait_until};

/// Status of a C-STORE that could not be made durable.
const OUT_OF_RESOURCES: u16 = 0xA700;

/// Makes every sync of a running daemon fail; on one file where `path` names it.
fn failing_syncs(daemon: &Process, path: Option<&std::path::Path>) -> Option<Process> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:error=EIO", "-p", &daemon.0.id().to_string()]);
    if let Some(path) = path {
        command.arg("-P").arg(path);
    }
    let mut strace = Process(command.stderr(Stdio::null()).spawn().expect("strace is installed"));
    std::thread::sleep(Duration::from_millis(700));
    if strace.0.try_wait().is_ok_and(|ended| ended.is_some()) {
        eprintln!("!! SKIPPED: failing syncs: strace may not attach to a running process here");
        return None;
    }
    Some(strace)
}

fn states(seen: &[Seen], wanted: &str) -> usize {
    let is = |s: &&Seen| s.kind() == "state" && s.envelope["payload"]["state"] == wanted;
    seen.iter().filter(is).count()
}

/// A sync fails on an object's way in: it is not acknowledged, the daemon ends, and after a start on
/// a sound disk the object is taken and read once.
fn check(of_store: bool) {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let mut daemon = site.run();
    let db = site.storage().join("store/db");
    let Some(strace) = failing_syncs(&daemon, of_store.then_some(db.as_path())) else { return };
    let (file, _) = small(7);
    let store = || send::store(site.address(), "CLEARFILM", "TEST", &file);
    assert_eq!(store().expect("an answer"), OUT_OF_RESOURCES);
    wait_until("the end of the daemon", || daemon.0.try_wait().is_ok_and(|s| s.is_some()));
    let status = daemon.0.wait().expect("it ended");
    assert!(!status.success(), "a service manager must start it again: {status}");
    drop(strace);
    let daemon = site.run();
    assert_eq!(store().expect("an answer"), 0);
    let mut seen = Vec::new();
    subscriber.until("a reading", &mut seen, |seen| states(seen, "published") >= 1);
    std::thread::sleep(Duration::from_millis(500));
    subscriber.until("all that is there", &mut seen, |seen| !seen.is_empty());
    assert_eq!(states(&seen, "read"), 1, "read once");
    daemon.terminate();
    subscriber.end();
}

#[test]
fn an_object_whose_file_cannot_be_synced_is_not_acknowledged_and_the_daemon_starts_anew() {
    check(false);
}

#[test]
fn an_object_whose_row_cannot_be_synced_is_not_acknowledged_and_the_daemon_starts_anew() {
    check(true);
}
