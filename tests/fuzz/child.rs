//! The process that tries inputs; it may break, and its parent knows at which input.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::mutate::{INPUT_MAX, mutated};
use crate::targets::{self, Target};

/// What a child is asked for: its only argument, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) target: String,
    pub(crate) seed: u64,
    /// The end comes after this time,
    pub(crate) time: Option<Duration>,
    /// or after as many executions.
    pub(crate) executions: Option<u64>,
    /// Only this file is tried.
    pub(crate) input: Option<std::path::PathBuf>,
    /// Where the input that is tried is written before it is.
    pub(crate) slot: std::path::PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) executions: u64,
    pub(crate) time: Duration,
    /// Different answers.
    pub(crate) behaviours: usize,
    /// The longest execution.
    pub(crate) slowest: Duration,
    /// Panics of codecs that `decode` caught, by where they arose.
    pub(crate) caught: BTreeMap<String, u64>,
    /// Processes that ended within a codec, as the product's child would.
    pub(crate) ended: u64,
    /// Which promise was broken at the last execution.
    pub(crate) broken: Option<String>,
}

/// Most that a process may grow beyond what it has when it begins, bytes of address space: what is
/// reserved counts, touched or not.
const GROWTH_MAX: u64 = 512 << 20;

/// Stack of the thread that tries: what the receiver's threads have.
const STACK: usize = 2 << 20;

/// Inputs that are kept; a new one then takes the place of an old one.
const POOL_MAX: usize = 2_048;

/// Where panics arose since this was last taken.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Does the task; the tally goes to standard output.
pub(crate) fn main(task: &str) -> Tally {
    let task: Task = serde_json::from_str(task).expect("the parent's task");
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, |l| format!("{}:{}", crate_of(l.file()), l.line()));
        let text = info.payload_as_str().unwrap_or("no text");
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(format!("{place}\t{text}"));
        }
    }));
    let target = targets::of(&task.target).expect("a target's name");
    limit_memory();
    let trying = std::thread::Builder::new().name("fuzz".into()).stack_size(STACK);
    let trying = trying.spawn(move || run(target, &task)).expect("a thread starts");
    trying.join().expect("panics are caught within")
}

/// A source's path from its crate on: what stands before differs from machine to machine.
fn crate_of(file: &str) -> &str {
    file.rsplit_once("/registry/src/")
        .map_or(file, |(_, rest)| rest.split_once('/').map_or(rest, |(_, path)| path))
}

fn limit_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|l| l.strip_prefix("VmSize:"));
    let kib: u64 = size.and_then(|s| s.trim().split(' ').next()?.parse().ok()).expect("a size");
    let most = Some(kib * 1024 + GROWTH_MAX);
    setrlimit(Resource::As, Rlimit { current: most, maximum: most }).expect("lowered");
}

/// The file that tells the parent what is tried: number of the execution, length, bytes.
struct Slot {
    file: File,
    buffer: Vec<u8>,
}

impl Slot {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        Self { file: file.expect("a file in our own folder"), buffer: Vec::new() }
    }

    fn write(&mut self, execution: u64, input: &[u8]) {
        self.buffer.clear();
        self.buffer.extend(execution.to_le_bytes());
        self.buffer.extend((input.len() as u64).to_le_bytes());
        self.buffer.extend(input);
        self.file.write_all_at(&self.buffer, 0).expect("written");
    }
}

/// Number and bytes of the input that a child tried last.
pub(crate) fn tried(slot: &Path) -> Option<(u64, Vec<u8>)> {
    let bytes = std::fs::read(slot).ok()?;
    let (execution, rest) = bytes.split_first_chunk::<8>()?;
    let (length, input) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    Some((u64::from_le_bytes(*execution), input.get(..length)?.to_vec()))
}

fn run(mut target: Target, task: &Task) -> Tally {
    let mut rng = Pcg64Mcg::seed_from_u64(task.seed);
    let mut slot = Slot::open(&task.slot);
    let mut tally = Tally::default();
    let mut known = HashSet::new();
    let mut pool: Vec<Vec<u8>> = Vec::new();
    let first = match &task.input {
        Some(file) => vec![std::fs::read(file).expect("the input's file")],
        None => [target.seeds.as_slice(), &target.more].concat(),
    };
    let begun = SystemClock.monotonic();
    let mut first = first.into_iter().enumerate();
    loop {
        // The seeds come first, as they are.
        let (input, keep) = match first.next() {
            Some((at, seed)) => (seed, at < target.seeds.len()),
            None => (mutated(&mut rng, &pool), false),
        };
        slot.write(tally.executions, &input);
        let before = SystemClock.monotonic();
        let answer = catch_unwind(AssertUnwindSafe(|| (target.execute)(&input)));
        let now = SystemClock.monotonic();
        tally.executions += 1;
        tally.slowest = tally.slowest.max(now.duration_since(before));
        tally.time = now.duration_since(begun);
        match judged(answer, &task.target, &mut tally) {
            Ok(behaviour) if keep && !behaviour.contains(target.honest) => {
                let expected = target.honest;
                tally.broken = Some(format!("seed: expected {expected:?}, found {behaviour:?}"));
            }
            Ok(behaviour) => {
                if (known.insert(behaviour) || keep) && input.len() <= INPUT_MAX {
                    let at = pool.len().min(POOL_MAX);
                    // Beyond the most, older finds make room; seeds stand first and stay.
                    let oldest = target.seeds.len() + known.len() % (POOL_MAX / 2);
                    if at < POOL_MAX { pool.push(input) } else { pool[oldest] = input }
                }
            }
            Err(broken) => tally.broken = Some(broken),
        }
        tally.behaviours = known.len();
        let over = task.time.is_some_and(|t| tally.time >= t)
            || task.executions.is_some_and(|n| tally.executions >= n)
            || task.input.is_some();
        if over || tally.broken.is_some() {
            return tally;
        }
    }
}

/// The answer, or the promise that was broken; panics of codecs that `decode` caught are counted.
fn judged(
    answer: std::thread::Result<Result<String, String>>,
    target: &str,
    tally: &mut Tally,
) -> Result<String, String> {
    let panics = std::mem::take(&mut *PANICS.lock().map_err(|e| e.to_string())?);
    match answer {
        Ok(answer) if target == "fuzz_decode" => {
            for panic in panics {
                let place = panic.split('\t').next().unwrap_or_default();
                *tally.caught.entry(place.into()).or_default() += 1;
            }
            answer
        }
        Ok(answer) if panics.is_empty() => answer,
        Ok(_) | Err(_) => Err(format!("expected an answer, found a panic: {}", panics.join("; "))),
    }
}
