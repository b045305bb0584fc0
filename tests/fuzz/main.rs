//! Fuzz targets on stable Rust: bytes into everything that takes bytes of others.
//!
//! Each target runs in child processes of this binary, so that an abort, a stack that overflows, a
//! hang and a wish for too much memory are noticed as well as a panic, and the input that caused
//! it is known. docs/reliability.md says what counts as a failure and how to run more.

#![expect(clippy::print_stdout, reason = "a test binary of its own harness prints as libtest does")]

mod child;
#[path = "../system/corpus.rs"]
#[expect(dead_code, reason = "names of cases are for the system tests")]
mod corpus;
mod frames;
mod mutate;
mod parent;
mod seeds;
mod targets;
mod wire;

use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};

use child::{Tally, Task};
use parent::{Finding, Report};

/// Time of each target, seconds, over all its processes together.
const SECONDS: &str = "CLEARFILM_FUZZ_SECONDS";
/// Executions of each target, in place of a time.
const EXECUTIONS: &str = "CLEARFILM_FUZZ_EXECUTIONS";
/// What everything random is drawn from; the clock where it is not told.
const SEED: &str = "CLEARFILM_FUZZ_SEED";
/// One file to be tried again, in place of everything random.
const INPUT: &str = "CLEARFILM_FUZZ_INPUT";

/// Seconds of a target where nothing else is said: what CI gives.
const SECONDS_DEFAULT: u64 = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, task] = arguments.as_slice()
        && first == "--child"
    {
        println!("{}", serde_json::to_string(&child::main(task)).expect("a tally is JSON"));
        return ExitCode::SUCCESS;
    }
    let chosen = chosen(&arguments);
    if arguments.iter().any(|a| a == "--list") {
        chosen.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let begun = SystemClock.monotonic();
    println!("\nrunning {} tests", chosen.len());
    let reports = run_all(&chosen);
    let failed = reports.iter().filter(|r| !r.findings.is_empty()).count();
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        reports.len() - failed,
        targets::NAMES.len() - chosen.len(),
        SystemClock.monotonic().duration_since(begun).as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The targets that libtest's arguments select: names hold one of those given, options that are
/// not known are passed over.
fn chosen(arguments: &[String]) -> Vec<&'static str> {
    // Options of libtest whose value stands apart.
    const VALUED: [&str; 6] =
        ["--test-threads", "--skip", "--format", "--color", "--logfile", "-Z"];
    let mut names = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if VALUED.contains(&argument.as_str()) {
            rest.next();
        } else if !argument.starts_with('-') {
            names.push(argument);
        }
    }
    let fits = |target: &&str| names.is_empty() || names.iter().any(|n| target.contains(*n));
    targets::NAMES.into_iter().filter(fits).collect()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| {
        eprintln!("{name}: expected a number, found {text:?}");
        std::process::exit(2)
    }))
}

/// Runs the targets, each divided over as many processes as there are cores, as many at a time.
fn run_all(chosen: &[&'static str]) -> Vec<Report> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let input = std::env::var_os(INPUT).map(Into::into);
    let parts = if input.is_some() { 1 } else { cores };
    let executions = number(EXECUTIONS).map(|n| n.div_ceil(parts));
    let seconds = number(SECONDS).unwrap_or(SECONDS_DEFAULT);
    let time = executions
        .is_none()
        .then(|| Duration::from_secs(seconds) / u32::try_from(parts).unwrap_or(1));
    let seed = number(SEED).unwrap_or_else(|| SystemClock.now().timestamp_millis().unsigned_abs());
    // Memory, where there is such a folder: a disk's syncs would be most of the receiver's time.
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    let folder = folder.expect("a temporary folder");
    println!("seed {seed}");
    let task = |target: &&str, part: u64| Task {
        target: (*target).into(),
        seed: seed.wrapping_add(part),
        time,
        executions,
        input: input.clone(),
        slot: folder.path().join(format!("{target}-{part}")),
    };
    let mut tasks: Vec<Task> =
        (0..parts).flat_map(|part| chosen.iter().map(move |t| task(t, part))).rev().collect();
    let done = Mutex::new(Vec::new());
    let next = Mutex::new(&mut tasks);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(task) = next.lock().ok().and_then(|mut tasks| tasks.pop()) {
                    let target = task.target.clone();
                    let outcome = parent::supervise(task);
                    done.lock().expect("nobody panics with it").push((target, outcome));
                }
            });
        }
    });
    let done = done.into_inner().expect("nobody panicked with it");
    chosen.iter().map(|name| told(name, &done)).collect()
}

/// One target's parts together, printed.
fn told(name: &str, done: &[(String, (Tally, Option<Finding>))]) -> Report {
    let mut report = Report::default();
    for (_, (tally, finding)) in done.iter().filter(|(target, _)| target == name) {
        report.add(tally, finding.clone());
    }
    let word = if report.findings.is_empty() { "ok" } else { "FAILED" };
    println!("test {name} ... {word}: {report}");
    for Finding { text, file, again } in &report.findings {
        println!("---- {name}: {text}\n     input: {}\n     again: {again}", file.display());
    }
    report
}
