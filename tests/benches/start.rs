//! How long the daemon takes from its start until it says that it is ready, and what it holds then.
//!
//! It runs the release binary (`cargo build --release --workspace`) with the demo bundle, on storage
//! of its own, beside a real broker. The table goes to standard output.
//!
//!     cargo bench --bench start -- [--rounds N]
#![expect(clippy::print_stdout, reason = "the table is what a benchmark makes")]

mod figures;
#[expect(dead_code, reason = "the system tests use the rest of it")]
#[path = "../system/mosquitto.rs"]
mod mosquitto;
#[expect(dead_code, unused_imports, reason = "the system tests use the rest of it")]
#[path = "../system/peers.rs"]
mod peers;

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::ingest::send;
use clearfilm::phantom::{Encoding, Photometric};

use figures::{argument, asked, load_average, median, ms, percentile};
use peers::{Broker, DEADLINE, Process, Site, Subscriber, binary, phantom, published, status};

/// Starts of each engine where the command line does not say.
const ROUNDS: usize = 20;

/// Images that it reads before its memory is looked at again.
const IMAGES: usize = 10;

/// What a radiography room sends: 10 MB.
const ENCODING: Encoding =
    Encoding { rows: 2500, columns: 2048, bits_stored: 12, photometric: Photometric::Monochrome2 };

/// What one run of the daemon took.
struct Run {
    ready_ms: f64,
    /// Resident when it was ready, and the most that ever was until its images were published, MiB.
    ready_mib: f64,
    most_mib: f64,
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

fn mib(daemon: &Process, field: &str) -> f64 {
    let kib = u32::try_from(status(daemon, field)).expect("less than 4 TiB");
    f64::from(kib) / 1024.0
}

/// One start with an order of engines, `IMAGES` readings, and the end.
fn run(order: &str, images: &[Vec<u8>]) -> Run {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let socket = site.folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(DEADLINE)).expect("set");
    let library = std::env::var_os("CLEARFILM_TEST_ORT").unwrap_or_default();
    let mut command = Command::new(binary());
    command.env("CLEARFILM__ENGINE__ORDER", order).env("CLEARFILM__ENGINE__LIBRARY", library);
    let begun = SystemClock.monotonic();
    let daemon = site.start_by(command.env("NOTIFY_SOCKET", &socket));
    until(&manager, "READY=1");
    let ready_ms = ms(SystemClock.monotonic().duration_since(begun));
    let ready_mib = mib(&daemon, "VmRSS");
    for image in images {
        let answer = send::store(site.address(), "CLEARFILM", "BENCH", image).expect("sent");
        assert_eq!(answer, 0);
    }
    subscriber.until("every image published", &mut Vec::new(), |seen| published(seen) == IMAGES);
    let most_mib = mib(&daemon, "VmHWM");
    daemon.terminate();
    Run { ready_ms, ready_mib, most_mib }
}

/// One order of engines, started `rounds` times.
fn measure(name: &str, order: &str, rounds: usize, images: &[Vec<u8>]) {
    let runs: Vec<Run> = (0..rounds).map(|_| run(order, images)).collect();
    let of = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
        median(&of(|run| run.ready_ms)),
        percentile(&of(|run| run.ready_ms), 99),
        median(&of(|run| run.ready_mib)),
        percentile(&of(|run| run.most_mib), 100)
    );
}

fn main() {
    if !asked() {
        return;
    }
    let rounds = argument("--rounds", ROUNDS);
    let images: Vec<Vec<u8>> = (0..).take(IMAGES).map(|seed| phantom(seed, &ENCODING).0).collect();
    println!("{rounds} rounds, load average before {}\n", load_average());
    println!(
        "| engines | ready, p50 ms | p99 ms | resident when ready, MiB | most while it read {IMAGES} images of 10 MB, MiB |"
    );
    println!("| --- | --- | --- | --- | --- |");
    measure("tract", r#"["tract"]"#, rounds, &images);
    if std::env::var_os("CLEARFILM_TEST_ORT").is_some() {
        measure("cpu, tract", r#"["cpu", "tract"]"#, rounds, &images);
    }
    println!("\nload average after {}", load_average());
}
