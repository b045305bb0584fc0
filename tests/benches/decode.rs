//! How fast each transfer syntax is decoded, beside DCMTK and pydicom with its plugins.
//!
//! One drawn image in every syntax, decoded in turn by all, several times, each in its own process:
//! Clearfilm in this one, pydicom in one that stays, DCMTK in a new one a file, whose cost without
//! decoding (the same tool on the uncompressed file) is measured beside it and taken off.
//! The table goes to standard output.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark makes")]

mod decoders;
mod figures;

use std::path::{Path, PathBuf};

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::config::{self, DicomLimits};
use clearfilm::decode;

use decoders::{ALL, Coded, Dcmtk, Python};
use figures::{argument, asked, load_average, median, ms};

/// Measured decodings of each file where the command line does not say.
const ROUNDS: usize = 21;

/// Decodings before the first that counts.
const WARM_UP: usize = 2;

/// How far the mean of a lossy image may be off the peer's: half of a stored step.
const MEAN_APART_MAX: f64 = 0.5;

/// What one file took, ms, a value a round.
#[derive(Default)]
struct Times {
    own: Vec<f64>,
    /// DCMTK's tool as a whole, and how much of it is no decoding.
    dcmtk: Vec<(f64, f64)>,
    python: Vec<f64>,
}

fn main() {
    if !asked() {
        return;
    }
    let rounds = argument("--rounds", ROUNDS);
    // In memory, so that no disk is measured.
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let mut python = Python::start();
    let files: Vec<PathBuf> =
        ALL.iter().map(|coded| coded.file(folder.path(), &mut python)).collect();
    println!("{rounds} rounds, load average before {}", load_average());
    let mut times: Vec<Times> = ALL.iter().map(|_| Times::default()).collect();
    for round in 0..WARM_UP + rounds {
        for ((coded, file), times) in ALL.iter().zip(&files).zip(&mut times) {
            once(coded, file, &mut python, (round >= WARM_UP).then_some(times));
        }
    }
    print(&files, &times);
    println!("load average after {}", load_average());
}

/// One file by each; where the round counts, with the times kept.
fn once(coded: &Coded, file: &Path, python: &mut Python, times: Option<&mut Times>) {
    let bytes = std::fs::read(file).expect("the file is there");
    let (limits, structure) = (config::Decode::default(), DicomLimits::default());
    let begun = SystemClock.monotonic();
    let frame = decode::decode(&bytes, &limits, &structure).expect("decoded");
    let own = ms(SystemClock.monotonic().duration_since(begun));
    let (python, mean) = python.decode(coded.plugin, file);
    let sum: i64 = frame.samples().map(i64::from).sum();
    #[expect(clippy::cast_precision_loss, reason = "a sum of 5 million samples of 12 bits")]
    let apart = (sum as f64 / frame.words.len() as f64 - mean).abs();
    let allowed = if coded.lossy { MEAN_APART_MAX } else { 1e-6 };
    assert!(apart <= allowed, "{}: expected pydicom's mean {mean}, found {apart} off", coded.name);
    let dcmtk = coded.dcmtk.map(|tool| Dcmtk::new(tool, file).run());
    if let Some(times) = times {
        times.own.push(own);
        times.python.push(python);
        times.dcmtk.extend(dcmtk);
    }
}

fn print(files: &[PathBuf], times: &[Times]) {
    println!(
        "\n| transfer syntax | MB | Clearfilm, ms | DCMTK, ms | of its tool's, ms | pydicom, ms | by | to the faster peer |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for ((coded, file), times) in ALL.iter().zip(files).zip(times) {
        let bytes = std::fs::metadata(file).expect("the file is there").len();
        #[expect(clippy::cast_precision_loss, reason = "some million bytes")]
        let megabytes = bytes as f64 / 1e6;
        let (own, python) = (median(&times.own), median(&times.python));
        let net: Vec<f64> = times.dcmtk.iter().map(|(whole, rest)| whole - rest).collect();
        let whole: Vec<f64> = times.dcmtk.iter().map(|(whole, _)| *whole).collect();
        let dcmtk = (!net.is_empty()).then(|| (median(&net), median(&whole)));
        let faster = dcmtk.map_or(python, |(net, _)| net.min(python));
        let shown = dcmtk.map_or(["-".into(), "-".into()], |(net, whole)| {
            [format!("{net:.0}"), format!("{whole:.0}")]
        });
        println!(
            "| {} | {megabytes:.1} | {own:.0} | {} | {} | {python:.0} | {} | {:.2} |",
            coded.name,
            shown[0],
            shown[1],
            coded.plugin,
            own / faster
        );
    }
}
