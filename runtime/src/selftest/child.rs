//! The process that tries an engine: limits first, then the library, then the golden set.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use super::probe::{Answer, MARK, Passed, Task, What, millis};
use super::{SelftestError, check};
use crate::bundle::Bundle;
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::decode::jail;
use crate::encode::{self, EncodeError, Encoder, Engine, Nodes, Tokens};
use crate::preprocess::ModelInput;

/// Added to the niceness of a child: an engine is built while another one reads.
const NICE: i32 = 10;

/// The child's side: the task from standard input, the answer to standard output.
///
/// # Errors
/// The parent is gone or said nothing that can be understood.
pub fn serve() -> io::Result<()> {
    jail::outlive_stop_signals();
    let mut task = Vec::new();
    io::stdin().lock().read_to_end(&mut task)?;
    let task: Task = serde_json::from_slice(&task)?;
    let answer = match enter(&task.engine) {
        Ok(()) => done(&task).unwrap_or_else(|e| Answer::Failed(e.to_string())),
        Err(error) => Answer::Failed(format!("limiting its process: {error}")),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "\n{MARK}{}", serde_json::to_string(&answer)?)?;
    out.flush()
}

/// What a child gives up before it loads anything: memory beyond its share, a core file, rights by
/// other programs, and the first place in the queue.
fn enter(limits: &config::Engine) -> io::Result<()> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // Private memory, not addresses: CUDA reserves far more addresses than it uses.
    rustix::process::setrlimit(Resource::Data, both(limits.memory.as_u64()))?;
    rustix::process::setrlimit(Resource::Core, both(0))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::nice(NICE)?;
    // Where memory runs out the kernel ends this process and not the service; where there is no
    // such file (an emulator) nothing is lost but that.
    drop(std::fs::write("/proc/self/oom_score_adj", "1000"));
    Ok(())
}

fn done(task: &Task) -> Result<Answer, SelftestError> {
    let built = match &task.what {
        What::Platform => return Ok(Answer::Platform(encode::platform(&task.engine)?)),
        What::Engine { built } => built,
    };
    let bundle = match Bundle::load(&task.bundle) {
        Ok(bundle) => bundle,
        Err(error) => return Ok(Answer::Failed(error.to_string())),
    };
    let begun = SystemClock.monotonic();
    let started = encode::start_with(task.choice, &bundle, &task.engine, built.as_deref())?;
    let load_ms = millis(SystemClock.monotonic().duration_since(begun));
    let mut encoder = Timed { encoder: started, times: Vec::new() };
    let nearness = check(&bundle, &mut encoder)?;
    let Timed { encoder, mut times } = encoder;
    let warm_up_ms = times.first().copied().map_or(0, millis);
    times.sort_unstable();
    let image_ms = times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let (engine, nodes) = (encoder.engine().clone(), encoder.nodes().clone());
    // A library may fail in its own end: before the answer, so that this counts.
    drop(encoder);
    let memory_kib = memory().get("VmHWM").copied().unwrap_or(0);
    Ok(Answer::Passed(Box::new(Passed {
        engine,
        nodes,
        load_ms,
        warm_up_ms,
        image_ms,
        memory_kib,
        nearness,
    })))
}

/// An encoder, and how long each image took: the golden set is run once for both.
struct Timed {
    encoder: Box<dyn Encoder>,
    times: Vec<Duration>,
}

impl Encoder for Timed {
    fn encode(&mut self, input: &ModelInput) -> Result<Tokens, EncodeError> {
        let begun = SystemClock.monotonic();
        let tokens = self.encoder.encode(input)?;
        self.times.push(SystemClock.monotonic().duration_since(begun));
        Ok(tokens)
    }

    fn engine(&self) -> &Engine {
        self.encoder.engine()
    }

    fn nodes(&self) -> &Nodes {
        self.encoder.nodes()
    }
}

/// Sizes of this process, KiB (proc(5)).
fn memory() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().strip_suffix(" kB")?.parse().ok()?))
    };
    text.lines().filter_map(size).collect()
}
