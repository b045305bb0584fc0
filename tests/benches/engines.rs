//! How fast each engine runs an encoder, beside ONNX Runtime's Python on the same file.
//!
//! Every contestant is a process of its own with one session; in each round each runs one image, in
//! turn, so that whatever else the machine does falls on all alike. The tables go to standard output.
//!
//!     cargo bench --bench engines -- [--threads N] [--rounds N] [BUNDLE...]
#![expect(clippy::print_stdout, reason = "the tables are what a benchmark makes")]

mod figures;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clearfilm::bundle::{Bundle, ENCODER, Precision};
use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::config::{self, BundleChoice, EngineChoice};
use clearfilm::encode;
use clearfilm::preprocess::{ModelInput, Picture};

use figures::{argument, asked, load_average, median, ms, percentile};

/// Measured images of each contestant where the command line does not say.
const ROUNDS: usize = 40;

/// Images before the first that counts.
const WARM_UP: usize = 5;

/// Pause between two contestants: threads of the one before may still spin.
const REST: Duration = Duration::from_millis(30);

/// Who runs the file.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Ours(EngineChoice),
    /// ONNX Runtime's Python, whose threads spin (its default) or do not.
    Python {
        spinning: bool,
    },
}

impl Who {
    fn name(self) -> String {
        match self {
            Self::Ours(choice) => format!("Clearfilm, {}", choice.name()),
            Self::Python { spinning: true } => "ONNX Runtime's Python".into(),
            Self::Python { spinning: false } => "the same, not spinning".into(),
        }
    }
}

/// One contestant's process, and what it said.
struct Contestant {
    who: Who,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    load_ms: f64,
    resident_kib: f64,
    times: Vec<f64>,
}

impl Contestant {
    fn start(who: Who, bundle: &Path, encoder: &Path, shape: &str, threads: usize) -> Self {
        let threads = threads.to_string();
        let mut command = match who {
            Who::Ours(choice) => {
                let own = std::env::current_exe().expect("a benchmark has a file");
                let mut command = Command::new(own);
                command.args(["child", choice.name(), &threads]).arg(bundle);
                command
            }
            Who::Python { spinning } => {
                let mut command = python();
                let spinning = if spinning { "1" } else { "0" };
                command.arg("run").arg(encoder).args([shape, &threads, spinning]);
                command
            }
        };
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let to = child.stdin.take().expect("piped");
        let from = BufReader::new(child.stdout.take().expect("piped"));
        let (load_ms, resident_kib) = (0.0, 0.0);
        let mut it = Self { who, child, to, from, load_ms, resident_kib, times: Vec::new() };
        let ready = it.answer();
        (it.load_ms, it.resident_kib) = (ready[0], ready[1]);
        it
    }

    fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("an answer");
        let numbers = line.split_whitespace().map(|n| n.parse().expect("a number"));
        let numbers: Vec<f64> = numbers.collect();
        assert!(!numbers.is_empty(), "{}: expected an answer, found none", self.who.name());
        numbers
    }

    fn image(&mut self) -> f64 {
        writeln!(self.to, "go").expect("it listens");
        self.answer()[0]
    }

    /// Peak memory, KiB.
    fn end(&mut self) -> f64 {
        writeln!(self.to, "end").expect("it listens");
        let peak = self.answer()[0];
        self.child.wait().expect("it ends");
        peak
    }
}

/// Python with ONNX Runtime, as the test script installed it, and its half of this benchmark.
fn python() -> Command {
    let python = std::env::var_os("CLEARFILM_TEST_PYTHON");
    let mut command = Command::new(python.expect("CLEARFILM_TEST_PYTHON names Python"));
    command.arg(clearfilm_tests::root().join("tests/benches/engines.py"));
    command
}

/// One number that Python's half prints.
fn number(arguments: &[&str]) -> f64 {
    let output = python().args(arguments).output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("a number")
}

fn bundle_of(folder: &Path) -> Bundle {
    let path = if folder == Path::new("demo") { PathBuf::new() } else { folder.into() };
    Bundle::load(&BundleChoice { path, ..BundleChoice::default() }).expect("a bundle")
}

/// A contestant of ours: says how it started, then runs an image for each line.
fn child(arguments: &[String]) {
    let [choice, threads, folder] = arguments else { return };
    let choice: EngineChoice = choice.parse().expect("an engine");
    let library = std::env::var_os("CLEARFILM_TEST_ORT").map(PathBuf::from).unwrap_or_default();
    let threads = threads.parse().expect("a number");
    let config = config::Engine { library, threads, ..config::Engine::default() };
    let bundle = bundle_of(Path::new(folder));
    let spec = &bundle.manifest.input;
    let pixels = bundle.golden.inputs[0].clone();
    let picture = Picture { rows: spec.height, columns: spec.width, pixels };
    let input = ModelInput::of_fitted(picture, spec);
    let since = |begun| ms(SystemClock.monotonic().duration_since(begun));
    let begun = SystemClock.monotonic();
    let mut encoder = encode::start(choice, &bundle, &config).expect("it starts");
    let load = since(begun);
    encoder.encode(&input).expect("it runs");
    println!("{load} {}", memory("VmRSS"));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if line == "end" {
            println!("{}", memory("VmHWM"));
            return;
        }
        let begun = SystemClock.monotonic();
        encoder.encode(&input).expect("it runs");
        println!("{}", since(begun));
    }
}

/// Resident memory of this process, KiB.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find(|l| l.starts_with(field)).expect("a field");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// One file by everybody.
fn measure(folder: &Path, threads: usize, rounds: usize) {
    let bundle = bundle_of(folder);
    let (spec, precision) = (&bundle.manifest.input, bundle.manifest.encoder.precision);
    let scratch = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let encoder = scratch.path().join(ENCODER);
    std::fs::write(&encoder, &bundle.encoder).expect("written");
    let mut everybody = vec![
        Who::Python { spinning: true },
        Who::Python { spinning: false },
        Who::Ours(EngineChoice::Cpu),
    ];
    // tract has no kernels for fp16 here: a file of it takes it seconds.
    if precision != Precision::Fp16 {
        everybody.push(Who::Ours(EngineChoice::Tract));
    }
    let shape = format!("1x{}x{}x{}", spec.channels, spec.height, spec.width);
    let start = |who| Contestant::start(who, folder, &encoder, &shape, threads);
    let mut all: Vec<Contestant> = everybody.into_iter().map(start).collect();
    let peak = number(&["gemm", &threads.to_string()]);
    let work = number(&["work", encoder.to_str().expect("text")]);
    let count = all.len();
    for round in 0..WARM_UP + rounds {
        for at in 0..count {
            // Another one begins each round, so that nobody always follows the same.
            let contestant = &mut all[(round + at) % count];
            std::thread::sleep(REST);
            let took = contestant.image();
            if round >= WARM_UP {
                contestant.times.push(took);
            }
        }
    }
    print(folder, precision, (threads, peak, work), &mut all);
}

/// The table of one file. The peer is ONNX Runtime's Python at its best, spinning or not.
fn print(
    folder: &Path,
    precision: Precision,
    (threads, peak, work): (usize, f64, f64),
    all: &mut [Contestant],
) {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    println!(
        "\n{name}, {precision:?}, {work:.2} GFLOP an image, {threads} threads; a product of 2048 x 2048 in fp32: {peak:.0} GFLOP/s\n"
    );
    println!(
        "| engine | load, ms | p50, ms | p99, ms | to the best of ONNX Runtime, paired | of the product's speed | resident, MiB | peak, MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let pythons = all.iter().filter(|c| matches!(c.who, Who::Python { .. }));
    let best = pythons.min_by(|a, b| median(&a.times).total_cmp(&median(&b.times)));
    let best = best.expect("two of them ran").times.clone();
    for contestant in all {
        let ratios: Vec<f64> = contestant.times.iter().zip(&best).map(|(a, b)| a / b).collect();
        let p50 = median(&contestant.times);
        let mib = |kib: f64| kib / 1024.0;
        let (load_ms, resident) = (contestant.load_ms, mib(contestant.resident_kib));
        let p99 = percentile(&contestant.times, 99);
        let (ratio, share) = (median(&ratios), work / p50 * 1e3 / peak * 100.0);
        println!(
            "| {} | {load_ms:.0} | {p50:.2} | {p99:.2} | {ratio:.3} | {share:.0} % | {resident:.0} | {:.0} |",
            contestant.who.name(),
            mib(contestant.end()),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "child") {
        return child(&arguments[1..]);
    }
    if !asked() {
        return;
    }
    let (threads, rounds) = (argument("--threads", 1), argument("--rounds", ROUNDS));
    let mut bundles: Vec<&str> = Vec::new();
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--bench" => {}
            "--threads" | "--rounds" => drop(rest.next()),
            folder => bundles.push(folder),
        }
    }
    if bundles.is_empty() {
        bundles.push("demo");
    }
    println!("load average before {}", load_average());
    for folder in bundles {
        measure(Path::new(folder), threads, rounds);
    }
    println!("load average after {}", load_average());
}
