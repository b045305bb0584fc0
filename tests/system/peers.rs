//! The appliance and its real peers, started over loopback and waited for by event, never by time.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::id::{ExamKey, SiteSecret, Uid};
use clearfilm::ingest::send;
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};
use serde_json::Value;

pub(crate) use crate::mosquitto::{Broker, Seen, Subscriber, count, published};

/// Longest wait for an event: far more than ten times what a reading takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Pause between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The binary that these tests were built with.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let folder = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
    let binary = folder.join("clearfilm");
    assert!(
        binary.is_file(),
        "expected {}, found none: run `cargo test --workspace`",
        binary.display()
    );
    binary
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("bound").port()
}

/// Looks until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = SystemClock.monotonic();
    while !condition() {
        let waited = SystemClock.monotonic().duration_since(begun);
        assert!(waited < DEADLINE, "expected {what} within {DEADLINE:?}, found nothing");
        std::thread::sleep(LOOK);
    }
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// `SIGTERM`, and the end.
    pub(crate) fn terminate(mut self) {
        self.signal("-TERM");
        self.0.wait().expect("it ends");
    }

    /// `SIGKILL`, and the end.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }

    /// A signal to the process that this one started (`strace` holds back its own), and the end.
    pub(crate) fn end_child(mut self, signal: &str) {
        let status = Command::new("pkill").args([signal, "-P", &self.0.id().to_string()]).status();
        assert!(status.expect("pkill is there").success(), "it has a child");
        self.0.wait().expect("it ends");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(status.expect("kill is there").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A number of `/proc/<pid>/status`: KiB, where it is memory.
pub(crate) fn status(daemon: &Process, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).expect("it runs");
    let line = text.lines().find(|l| l.starts_with(name)).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// What stands for patients in the objects of these tests: the drawn ones' names and ids, and the
/// malformed ones'. None of it may be in a log, a topic or a message.
pub(crate) const CANARIES: [&str; 4] = ["PHANTOM^", "PHANTOM-", "CANARY", "19010203"];

/// A text that must not say who somebody is.
#[track_caller]
pub(crate) fn says_nobody(what: &str, text: &str) {
    for canary in CANARIES {
        let found = text.lines().find(|line| line.contains(canary));
        assert_eq!(found, None, "{what} says {canary}");
    }
}

/// Lines of a log that are shown when a test fails.
const LOG_TAIL: usize = 30;

/// A folder with the configuration and the storage of one appliance.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Site {
    /// `more` is added to the configuration's `[mqtt]` section.
    pub(crate) fn new(broker: u16, more: &str) -> Self {
        let site = Self { folder: temporary(), port: free_port() };
        let storage = site.folder.path().join("storage");
        let text = format!(
            "[unit]\nsite = \"north\"\nname = \"north-dx-2\"\n\
             [dicom.scp]\nlisten = \"127.0.0.1:{}\"\nunknown_peers = \"accept\"\nsop_classes = [\"CR\", \"DX\", \"DX-processing\", \"SC\"]\nassociations_per_minute = 1000000\nartim = \"5s\"\n\
             [engine]\norder = [\"tract\"]\n\
             [storage]\npath = {:?}\nfree_min = \"1MiB\"\n\
             [bundle]\nunvalidated = true\n\
             [http]\nlisten = \"\"\n\
             [telemetry]\nlog = \"warn\"\nmetrics = \"\"\n\
             [mqtt]\nurl = \"mqtt://127.0.0.1:{broker}\"\nretry_max = \"1s\"\n{more}\n",
            site.port, storage
        );
        fs::write(site.folder.path().join("config.toml"), text).expect("written");
        site
    }

    /// What its daemons wrote to standard error.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// `clearfilm run`, once it answers a C-ECHO.
    pub(crate) fn run(&self) -> Process {
        self.run_by(&mut Command::new(binary()))
    }

    /// `clearfilm run` by a command that the binary's arguments are added to; not yet ready.
    pub(crate) fn start_by(&self, command: &mut Command) -> Process {
        let config = self.folder.path().join("config.toml");
        let log = fs::File::options().create(true).append(true).open(self.log());
        command.arg("run").arg("--config").arg(config).stderr(log.expect("opened"));
        Process(command.spawn().expect("it starts"))
    }

    /// The same, once it answers a C-ECHO.
    pub(crate) fn run_by(&self, command: &mut Command) -> Process {
        let process = self.start_by(command);
        wait_until("an answer to C-ECHO", || {
            send::echo(self.address(), "CLEARFILM", "TEST").is_ok_and(|s| s == 0)
        });
        process
    }

    /// What a verb of the binary prints about the running unit, JSON.
    #[track_caller]
    pub(crate) fn ask(&self, verb: &[&str]) -> Value {
        let (status, text) = self.verb(verb);
        let answer = serde_json::from_str(&text);
        assert!(answer.is_ok(), "{verb:?}: expected JSON, found {status:?} {text}");
        answer.expect("it is JSON")
    }

    /// Exit status and output of a verb of the binary.
    pub(crate) fn verb(&self, verb: &[&str]) -> (Option<i32>, String) {
        let config = self.folder.path().join("config.toml");
        let output = Command::new(binary()).args(verb).arg("--config").arg(config).output();
        let output = output.expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Sends a file by DCMTK's `storescu`.
    pub(crate) fn storescu(&self, files: &[PathBuf]) {
        let status = Command::new("storescu")
            .args(["-aec", "CLEARFILM", "-aet", "TEST", "-xe", "127.0.0.1", &self.port.to_string()])
            .args(files)
            .status();
        assert!(status.expect("storescu is installed").success(), "storescu failed on {files:?}");
    }

    /// The exam key that this site gives a study.
    pub(crate) fn exam(&self, study: &Uid) -> String {
        let hex =
            fs::read_to_string(self.storage().join("site.key")).expect("the site has a secret");
        let digits = hex.trim().as_bytes();
        let byte = |at: usize| {
            u8::from_str_radix(std::str::from_utf8(&digits[2 * at..2 * at + 2]).expect("ASCII"), 16)
        };
        let secret = std::array::from_fn(|at| byte(at).expect("hexadecimal"));
        ExamKey::of_study(&SiteSecret::from_bytes(secret), study).to_string()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the log ends:\n{}",
                lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
            );
        } else {
            says_nobody("the log", &log);
        }
    }
}

/// A small phantom of a study of its own: fast to draw and to send.
pub(crate) fn small(seed: u64) -> (Vec<u8>, Uid) {
    let encoding = Encoding {
        rows: 200,
        columns: 160,
        bits_stored: 12,
        photometric: Photometric::Monochrome2,
    };
    phantom(seed, &encoding)
}

/// A phantom and its study.
pub(crate) fn phantom(seed: u64, encoding: &Encoding) -> (Vec<u8>, Uid) {
    let variant = Variant::ALL[usize::try_from(seed).expect("small") % Variant::ALL.len()];
    let phantom = Phantom { seed, projection: Projection::Pa, variant };
    (phantom.to_dicom(encoding).expect("drawn"), phantom.study_uid(encoding))
}

pub(crate) fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The real radiographs, where they are; says loudly where they are not.
pub(crate) fn radiographs(what: &str) -> Option<PathBuf> {
    let folder = clearfilm_tests::root().join("../shared/data");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("!! SKIPPED: {what}: no radiographs at ../shared/data");
    None
}

/// Files of a folder with this ending, sorted.
pub(crate) fn files_in(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}
