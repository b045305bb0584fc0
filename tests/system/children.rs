//! Processes of their own: what a decode child cannot do, what its death does, and what becomes of
//! an object at which the daemon itself was ended.

use std::fs;
use std::process::Command;
use std::time::Duration;

use clearfilm::config::{self, DicomLimits};
use clearfilm::decode::{DecodeError, Decoder, Program};
use clearfilm::ingest::send;
use clearfilm::phantom::{Encoding, Photometric};

use crate::peers::{
    Broker, Process, Seen, Site, Subscriber, binary, phantom, small, temporary, wait_until,
};

/// 5 million pixels of 12 bits.
const LARGE: Encoding =
    Encoding { rows: 2500, columns: 2048, bits_stored: 12, photometric: Photometric::Monochrome2 };

fn real_child() -> Program {
    Program { path: binary().into(), arguments: vec!["decode-child".into()] }
}

/// A child that is a shell script.
fn script(text: &str) -> Program {
    Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), text.into()] }
}

const OBJECT: &str = "object.dcm";

/// A folder with the object.
fn object() -> tempfile::TempDir {
    let folder = temporary();
    fs::write(folder.path().join(OBJECT), phantom(1, &LARGE).0).expect("written");
    folder
}

/// What a child makes of an object of 5 million pixels.
fn decoded(program: Program, limits: &config::Decode) -> Result<(usize, usize), DecodeError> {
    let folder = object();
    let file = folder.path().join(OBJECT);
    let mut decoder = Decoder::new(program, limits, &DicomLimits::default());
    decoder.decode_file(&file).map(|frame| (frame.rows, frame.columns))
}

#[test]
fn a_decode_child_gives_the_frame_or_the_reason_why_it_died() {
    let limits = config::Decode { wall: Duration::from_secs(2), ..config::Decode::default() };
    assert_eq!(decoded(real_child(), &limits).expect("decodes"), (2500, 2048));
    let little = config::Decode { memory: bytesize::ByteSize::mib(66), ..limits.clone() };
    let cases = [
        (real_child(), &little, "decode-memory"),
        (script("kill -9 $$"), &limits, "decode-killed"),
        (script("exec sleep 60"), &limits, "decode-timeout"),
        (script("exec sleep 60 <&- >&- 2>&-"), &limits, "decode-killed"),
        (script("kill -SEGV $$"), &limits, "decode-crash"),
        (script("cat >/dev/null; echo nonsense"), &limits, "decode-crash"),
    ];
    for (program, limits, code) in cases {
        let shown = format!("{program:?}");
        let error = decoded(program, limits).expect_err(&shown);
        assert_eq!(error.code(), code, "{shown}: {error}");
    }
}

/// The children of a process that run a verb.
fn children(of: u32, verb: &str) -> Vec<u32> {
    let listed = |pid: &u32| {
        let of_pid = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&of_pid("stat")).into_owned();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        let line = of_pid("cmdline");
        parent == Some(of) && line.split(|b| *b == 0).nth(1) == Some(verb.as_bytes())
    };
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(listed).collect()
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{name} {pid}");
}

/// The one spare decode child, once it waits.
pub(crate) fn spare(daemon: &Process) -> u32 {
    let mut found = Vec::new();
    wait_until("a spare decode child", || {
        found = children(daemon.0.id(), "decode-child");
        found.len() == 1
    });
    found[0]
}

fn state_of(seen: &[Seen], wanted: &str) -> bool {
    seen.iter().any(|s| s.kind() == "state" && s.envelope["payload"]["state"] == wanted)
}

#[test]
fn a_decode_child_has_no_files_no_network_and_no_processes() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let child = spare(&daemon);
    let status = || fs::read_to_string(format!("/proc/{child}/status")).expect("a status");
    wait_until("a filter of system calls", || status().contains("Seccomp:\t2"));
    let limits = fs::read_to_string(format!("/proc/{child}/limits")).expect("limits");
    for (name, value) in
        [("Max core file size", "0"), ("Max file size", "0"), ("Max address space", "1073741824")]
    {
        let line = limits.lines().find(|l| l.starts_with(name)).expect("a limit");
        assert_eq!(line[name.len()..].split_whitespace().next(), Some(value), "{line}");
    }
    let environment = fs::read(format!("/proc/{child}/environ")).expect("an environment");
    assert!(environment.is_empty(), "a child inherits nothing");
}

#[test]
fn a_child_that_hangs_or_is_killed_harms_no_other_image() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "[decode]\nwall = \"2s\"\n");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = site.run();
    let send = |seed| {
        let (file, _) = small(seed);
        assert_eq!(send::store(site.address(), "CLEARFILM", "TEST", &file).expect("sent"), 0);
    };
    let mut seen = Vec::new();
    // Hanging: it is killed after decode.wall, its object set aside, the next one read.
    signal(spare(&daemon), "STOP");
    send(1);
    subscriber.until("the object that hangs", &mut seen, |seen| state_of(seen, "quarantined"));
    let code = seen
        .iter()
        .find_map(|s| s.envelope["payload"]["reason"]["code"].as_str().map(str::to_owned));
    assert_eq!(code.as_deref(), Some("decode-timeout"));
    send(2);
    subscriber.until("the next image", &mut seen, |seen| state_of(seen, "read"));
    // Killed from outside, once: the object gets another child and is read.
    let child = spare(&daemon);
    signal(child, "STOP");
    send(3);
    std::thread::sleep(Duration::from_millis(500));
    signal(child, "KILL");
    let read = |seen: &[Seen]| {
        seen.iter()
            .filter(|s| s.kind() == "state" && s.envelope["payload"]["state"] == "read")
            .count()
    };
    subscriber.until("the image whose child was killed", &mut seen, |seen| read(seen) == 2);
    daemon.terminate();
    subscriber.end();
}

/// The daemon run by `strace`, which kills it when it ends its decode child: after an attempt was
/// counted and before its reading is committed.
pub(crate) fn run_mortal(site: &Site) -> Process {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=kill", "-e"]);
    command.arg("inject=kill:signal=KILL").arg(binary());
    command.arg("run").arg("--config").arg(site.folder.path().join("config.toml"));
    Process(command.spawn().expect("strace is installed"))
}

fn run_until_the_child_ends(site: &Site) {
    let mut process = run_mortal(site);
    wait_until("the end of the daemon", || process.0.try_wait().is_ok_and(|s| s.is_some()));
}

#[test]
fn an_object_at_which_the_daemon_ended_twice_is_read_apart_and_after_ten_times_set_aside() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    // Accepted, and one attempt that hangs until the daemon is killed.
    let accept = |seed| {
        let daemon = site.run();
        signal(spare(&daemon), "STOP");
        assert_eq!(
            send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0).expect("sent"),
            0
        );
        std::thread::sleep(Duration::from_millis(300));
        daemon.kill();
    };
    let mut seen = Vec::new();
    let subscriber = Subscriber::start(broker.port, &[]);
    // The second attempt is made in the daemon, the third by a process of its own.
    accept(1);
    for _ in 0..2 {
        run_until_the_child_ends(&site);
    }
    let daemon = site.run();
    subscriber.until("a reading", &mut seen, |seen| state_of(seen, "read"));
    daemon.kill();
    accept(2);
    // Ten attempts (storage.attempts and storage.trials), one of them made in `accept`.
    for _ in 0..9 {
        run_until_the_child_ends(&site);
    }
    let daemon = site.run();
    subscriber.until("an object set aside", &mut seen, |seen| state_of(seen, "failed"));
    daemon.terminate();
    subscriber.end();
}
