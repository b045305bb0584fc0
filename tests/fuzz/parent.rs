//! Watches over the processes that try inputs, and says what they broke on.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::config::DicomLimits;
use clearfilm::decode::{Decoder, Program};

use crate::child::{Tally, Task, tried};
use crate::targets;

/// Processor time of one execution that counts as a hang: a thousand times what the slowest takes,
/// and far from what a busy machine makes of it.
const CPU_MAX: Duration = Duration::from_secs(5);

/// Time of one execution that counts as a hang, whatever the machine is busy with.
const WALL_MAX: Duration = Duration::from_secs(120);

/// Pause between two looks at what a child is at.
const LOOK: Duration = Duration::from_secs(1);

/// A second of processor time in `/proc/<pid>/stat` (USER_HZ, 100 on every Linux).
const TICKS: u64 = 100;

/// Longest input that is printed, bytes.
const PRINTED_MAX: usize = 256;

/// A broken promise and the input that broke it.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) text: String,
    pub(crate) file: PathBuf,
    pub(crate) again: String,
}

/// What came of one target.
#[derive(Debug, Default)]
pub(crate) struct Report {
    tally: Tally,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn add(&mut self, tally: &Tally, finding: Option<Finding>) {
        merge(&mut self.tally, tally);
        self.findings.extend(finding);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { executions, time, behaviours, slowest, caught, ended, .. } = &self.tally;
        #[expect(clippy::cast_precision_loss, reason = "a rate is told in whole numbers")]
        let rate = *executions as f64 / time.as_secs_f64().max(1e-3);
        write!(
            f,
            "{executions} executions in {:.0} s, {rate:.0}/s, {behaviours} answers, slowest {} ms",
            time.as_secs_f64(),
            slowest.as_millis()
        )?;
        if *ended > 0 || !caught.is_empty() {
            let panics: u64 = caught.values().sum();
            write!(f, "; codecs: {panics} panics caught, {ended} processes ended")?;
        }
        caught.iter().try_for_each(|(place, times)| write!(f, "\n     {times} x {place}"))
    }
}

fn merge(all: &mut Tally, part: &Tally) {
    all.executions += part.executions;
    all.time += part.time;
    all.behaviours = all.behaviours.max(part.behaviours);
    all.slowest = all.slowest.max(part.slowest);
    all.ended += part.ended;
    for (place, times) in &part.caught {
        *all.caught.entry(place.clone()).or_default() += times;
    }
}

/// Does a task to its end, or to its first finding. A process that ends within a codec, as the
/// product's decode child would, is counted and replaced.
pub(crate) fn supervise(mut task: Task) -> (Tally, Option<Finding>) {
    let mut all = Tally::default();
    loop {
        let (part, text) = match attempt(&task) {
            Ok(part) => match part.broken.clone() {
                Some(text) => (part, text),
                None => {
                    merge(&mut all, &part);
                    return (all, None);
                }
            },
            Err(end) => {
                let executions = tried(&task.slot).map_or(0, |(number, _)| number + 1);
                (Tally { executions, time: end.time, ..Tally::default() }, end.text)
            }
        };
        let broke_a_promise = part.broken.is_some();
        merge(&mut all, &part);
        let (number, input) = tried(&task.slot).unwrap_or_default();
        if broke_a_promise || task.target != "fuzz_decode" || !contained(&input) {
            return (all, Some(finding(&task, number, &input, text)));
        }
        all.ended += 1;
        let Finding { text, file, .. } = finding(&task, number, &input, text);
        eprintln!("{}: within a codec: {text}\n     input: {}", task.target, file.display());
        task.time = task.time.map(|t| t.saturating_sub(part.time));
        task.executions = task.executions.map(|n| n.saturating_sub(part.executions));
        if task.time.is_some_and(|t| t.is_zero())
            || task.executions == Some(0)
            || task.input.is_some()
        {
            return (all, None);
        }
        // Another beginning, or the same input would come again.
        task.seed = task.seed.wrapping_add(1 << 32);
    }
}

/// How a child ended that gave no tally.
struct End {
    text: String,
    time: Duration,
}

fn start(task: &Task, complaints: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this binary has a file"))
        .arg("--child")
        .arg(serde_json::to_string(task).expect("a task is JSON"))
        // One arena: what threads set aside for themselves is not growth.
        .env("MALLOC_ARENA_MAX", "1")
        .env("RUST_BACKTRACE", "0")
        // What a child leaves behind goes with our own folder.
        .env("TMPDIR", task.slot.parent().expect("a slot lies in a folder"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(complaints).expect("a file in our own folder"))
        .spawn()
        .expect("this binary starts")
}

/// One child; its tally, or how it ended without one.
fn attempt(task: &Task) -> Result<Tally, End> {
    let complaints = task.slot.with_extension("stderr");
    let begun = SystemClock.monotonic();
    let mut child = start(task, &complaints);
    let (hang, said) = watched(&mut child, &task.slot);
    let status = child.wait();
    if let Ok(tally) = serde_json::from_str(&said) {
        return Ok(tally);
    }
    let complaints = fs::read(&complaints).unwrap_or_default();
    let text = hang.unwrap_or_else(|| ended(status, &String::from_utf8_lossy(&complaints)));
    Err(End { text, time: SystemClock.monotonic().duration_since(begun) })
}

fn ended(status: io::Result<ExitStatus>, complaints: &str) -> String {
    let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
    format!("expected an answer, found the process ended by {status}: {}", complaints.trim())
}

/// Waits for what the child says at its end; kills it at an execution that does not come to one.
fn watched(child: &mut Child, slot: &Path) -> (Option<String>, String) {
    let mut out = child.stdout.take().expect("piped");
    let (sender, end) = sync_channel(1);
    let (mut looks, mut since) = (0, (0, None, processor_time(child)));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut text = String::new();
            // A child that breaks says nothing, and that is told by what is missing.
            drop(out.read_to_string(&mut text));
            drop(sender.send(text));
        });
        loop {
            match end.recv_timeout(LOOK) {
                Ok(said) => return (None, said),
                Err(RecvTimeoutError::Disconnected) => return (None, String::new()),
                Err(RecvTimeoutError::Timeout) => looks += 1,
            }
            let (number, cpu) = (tried(slot).map(|(number, _)| number), processor_time(child));
            if number != since.1 {
                since = (looks, number, cpu);
            }
            let (waited, worked) = (LOOK * (looks - since.0), cpu.saturating_sub(since.2));
            if (number.is_some() && worked > CPU_MAX) || waited > WALL_MAX {
                child.kill().expect("it was started");
                let text = format!(
                    "expected an answer, found none in {worked:?} of work, {waited:?} in all"
                );
                return (Some(text), String::new());
            }
        }
    })
}

/// Processor time of a child so far (proc(5): fields 14 and 15 of `stat`, counted behind the name).
fn processor_time(child: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let behind = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = behind.split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Is an input on which this process ended one for a codec, and does the product's own decode child
/// answer it with a reason code?
fn contained(input: &[u8]) -> bool {
    let own = std::env::current_exe().expect("this binary has a file");
    let folder = own.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
    let program =
        Program { path: folder.join("clearfilm").into(), arguments: vec!["decode-child".into()] };
    let mut decoder = Decoder::new(program, &targets::decode_limits(), &DicomLimits::default());
    targets::for_a_codec(input) && decoder.decode(input).is_err_and(|e| !e.is_ours())
}

/// Keeps the input in a file that outlives the run.
fn finding(task: &Task, number: u64, input: &[u8], text: String) -> Finding {
    let name = format!("clearfilm-{}-{}.bin", task.target, task.seed);
    let file = std::env::temp_dir().join(name);
    let kept = fs::write(&file, input);
    let mut text = format!("{text}\n     seed {}, execution {number}", task.seed);
    if let Err(error) = kept {
        text.push_str(&format!(", the input is not kept: {error}"));
    }
    if input.len() <= PRINTED_MAX {
        let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("\n     bytes {hex}"));
    }
    let again = format!(
        "CLEARFILM_FUZZ_INPUT={} cargo test --workspace --test fuzz -- {}",
        file.display(),
        task.target
    );
    Finding { text, file, again }
}
