//! How long the daemon takes from its start until it says that it is ready, and what it holds then.
//!
//! It runs the release binary (`cargo build --release --workspace`) with the demo bundle, on storage
//! of its own, without a broker: a dead one delays nothing. The table goes to standard output.
//!
//!     cargo bench --bench start -- [--rounds N]
#![expect(clippy::print_stdout, reason = "the table is what a benchmark makes")]

mod figures;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::ingest::send;
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};

use figures::{argument, asked, load_average, median, ms, percentile};

/// Starts of each engine where the command line does not say.
const ROUNDS: usize = 20;

/// Longest wait for a word of the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// Images that it reads before its memory is looked at again.
const IMAGES: u64 = 10;

/// How long the last of them may be read.
const REST: Duration = Duration::from_secs(2);

/// One start of the daemon.
struct Started {
    daemon: Child,
    manager: UnixDatagram,
    ready_ms: f64,
    port: u16,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("bound").port()
}

/// The release binary beside this benchmark.
fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a benchmark has a file");
    let binary = own.ancestors().nth(2).expect("it lies in target/release/deps").join("clearfilm");
    assert!(binary.is_file(), "expected {}: cargo build --release --workspace", binary.display());
    binary
}

fn start(engines: &str) -> Started {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, nobody) = (free_port(), free_port());
    let text = format!(
        "[unit]\nsite = \"north\"\nname = \"north-dx-2\"\n\
         [dicom.scp]\nlisten = \"127.0.0.1:{port}\"\nunknown_peers = \"accept\"\n\
         [engine]\norder = {engines}\nlibrary = {:?}\n\
         [storage]\npath = {:?}\nfree_min = \"1MiB\"\n\
         [http]\nlisten = \"\"\n[telemetry]\nlog = \"error\"\nmetrics = \"\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{nobody}\"\n",
        std::env::var_os("CLEARFILM_TEST_ORT").map(PathBuf::from).unwrap_or_default(),
        folder.path().join("storage"),
    );
    let config = folder.path().join("config.toml");
    std::fs::write(&config, text).expect("written");
    let address = folder.path().join("notify");
    let manager = UnixDatagram::bind(&address).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    let begun = SystemClock.monotonic();
    let daemon = Command::new(binary())
        .arg("run")
        .arg("--config")
        .arg(config)
        .env("NOTIFY_SOCKET", address)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    until(&manager, "READY=1");
    let ready_ms = ms(SystemClock.monotonic().duration_since(begun));
    Started { daemon, manager, ready_ms, port, _folder: folder }
}

/// Reads what the daemon tells its manager until it says `word`.
fn until(manager: &UnixDatagram, word: &str) {
    let mut bytes = [0; 256];
    loop {
        let length = manager.recv(&mut bytes).expect("it says something in time");
        if String::from_utf8_lossy(&bytes[..length]).lines().any(|line| line == word) {
            return;
        }
    }
}

impl Started {
    /// `VmRSS`, what is resident now, or `VmHWM`, the most that was, MiB.
    fn resident(&self, field: &str) -> f64 {
        let path = format!("/proc/{}/status", self.daemon.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|l| l.starts_with(field)).expect("a field");
        let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB");
        kib / 1024.0
    }

    /// Sends it drawn radiographs of 10 MB.
    fn images(&self) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let encoding = Encoding {
            rows: 2500,
            columns: 2048,
            bits_stored: 12,
            photometric: Photometric::Monochrome2,
        };
        for seed in 0..IMAGES {
            let phantom = Phantom { seed, projection: Projection::Pa, variant: Variant::Effusion };
            let file = phantom.to_dicom(&encoding).expect("drawn");
            assert_eq!(send::store(to, "CLEARFILM", "BENCH", &file).expect("sent"), 0);
        }
        std::thread::sleep(REST);
    }

    /// `SIGTERM`, and its end.
    fn end(mut self) {
        let id = self.daemon.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        until(&self.manager, "STOPPING=1");
        self.daemon.wait().expect("it ends");
    }
}

/// One order of engines, started `rounds` times.
fn measure(name: &str, engines: &str, rounds: usize) {
    let (mut ready, mut resident, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let started = start(engines);
        ready.push(started.ready_ms);
        resident.push(started.resident("VmRSS"));
        started.images();
        busy.push(started.resident("VmHWM"));
        started.end();
    }
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
        median(&ready),
        percentile(&ready, 99),
        median(&resident),
        percentile(&busy, 100)
    );
}

fn size(binary: &Path) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = std::fs::metadata(binary).expect("it is there").len() as f64;
    bytes / f64::from(1 << 20)
}

fn main() {
    if !asked() {
        return;
    }
    let rounds = argument("--rounds", ROUNDS);
    println!("load average before {}, binary {:.1} MiB\n", load_average(), size(&binary()));
    println!(
        "| engines | ready, p50 ms | p99 ms | resident when ready, MiB | most while it read {IMAGES} images of 10 MB, MiB |"
    );
    println!("| --- | --- | --- | --- | --- |");
    measure("tract", "[\"tract\"]", rounds);
    if std::env::var_os("CLEARFILM_TEST_ORT").is_some() {
        measure("cpu, tract", "[\"cpu\", \"tract\"]", rounds);
    }
    println!("\nload average after {}", load_average());
}
