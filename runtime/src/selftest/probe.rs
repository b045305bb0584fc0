//! Tries an engine in a process of its own: a library that crashes, hangs, takes all memory or
//! answers wrongly ends or fails there, and the service only learns why.
//!
//! What passed is then started here, and held against the golden outputs once more.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use super::{Nearness, SelftestError, check};
use crate::bundle::Bundle;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, BundleChoice, Config, EngineChoice};
use crate::decode::deadline::within;
use crate::decode::{Program, jail};
use crate::encode::built::{Built, Found, Key};
use crate::encode::platform::Platform;
use crate::encode::{self, Encoder, Engine, EngineVerdict, Nodes, Verdict};
use crate::preprocess::{ModelInput, Picture};

/// Most that a child may say before its answer, bytes: libraries write logs.
const SAID_MAX: u64 = 1 << 20;

/// Most of it that a reason quotes, characters.
const QUOTED_MAX: usize = 300;

/// Begins the line that holds the answer, since libraries write to standard output as they like.
const MARK: &str = "clearfilm probe: ";

/// Added to the niceness of a child: an engine is built while another one reads.
const NICE: i32 = 10;

/// What a probe found of an engine that passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Passed {
    /// Which engine it is.
    pub engine: Engine,
    /// Who holds the graph's nodes.
    pub nodes: Nodes,
    /// Time to load the library and make a session, ms.
    pub load_ms: u64,
    /// Time of the first image, ms.
    pub warm_up_ms: u64,
    /// Median time of the golden images after it, ms.
    pub image_ms: f64,
    /// Most memory that the process had resident, KiB.
    pub memory_kib: u64,
    /// How near the golden outputs it came.
    pub nearness: Nearness,
}

impl Passed {
    /// As it is told.
    #[must_use]
    pub fn verdict(&self, name: &str, verdict: Verdict) -> EngineVerdict {
        EngineVerdict {
            nodes: Some(self.nodes.clone()),
            load_ms: Some(self.load_ms),
            warm_up_ms: Some(self.warm_up_ms),
            ..EngineVerdict::new(name, verdict)
        }
    }
}

/// An engine that passed in a process of its own, and what its built engines are for.
pub struct Trusted {
    /// Which one was asked for.
    pub choice: EngineChoice,
    /// What the probe found.
    pub passed: Passed,
    key: Option<Key>,
}

/// Tries engines on the configured bundle.
pub struct Prober<'a> {
    /// The program that serves [`serve`].
    pub program: Program,
    /// The bundle of the configuration.
    pub bundle: &'a Bundle,
    /// Engines, bundle and where things are kept.
    pub config: &'a Config,
}

/// What a child is told.
#[derive(Serialize, Deserialize)]
struct Task {
    choice: EngineChoice,
    what: What,
    engine: config::Engine,
    bundle: BundleChoice,
}

#[derive(Serialize, Deserialize)]
enum What {
    /// Only what built engines depend on.
    Platform,
    /// Everything, with engines that TensorRT built in this folder.
    Engine { built: Option<PathBuf> },
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Platform(Platform),
    Passed(Box<Passed>),
    Failed(String),
}

impl<'a> Prober<'a> {
    /// Tries engines by children of this very binary.
    #[must_use]
    pub fn own(bundle: &'a Bundle, config: &'a Config) -> Self {
        let program =
            Program { path: "/proc/self/exe".into(), arguments: vec!["probe-child".into()] };
        Self { program, bundle, config }
    }

    /// Tries one engine.
    ///
    /// # Errors
    /// Why it is to be passed over.
    pub fn probe(&self, choice: EngineChoice) -> Result<Trusted, String> {
        let ours = if choice == EngineChoice::TensorRt { Some(self.prepare()?) } else { None };
        let folder = ours.as_ref().map(|(built, _)| built.folder());
        let wall = self.config.engine.wall(choice);
        let passed = match self.ask(choice, What::Engine { built: folder }, wall)? {
            Answer::Passed(passed) => *passed,
            Answer::Failed(reason) => return Err(reason),
            Answer::Platform(_) => return Err("expected a verdict, found another answer".into()),
        };
        if let Some((built, key)) = &ours {
            built.seal(key).map_err(|e| format!("recording built engines: {e}"))?;
        }
        Ok(Trusted { choice, passed, key: ours.map(|(_, key)| key) })
    }

    /// Starts here what passed there.
    ///
    /// # Errors
    /// It does not do here what it did there, or its built engines are no longer what they were.
    pub fn start(&self, trusted: &Trusted) -> Result<Box<dyn Encoder>, String> {
        let mut folder = None;
        if let Some(key) = &trusted.key {
            let built = self.built()?;
            match built.prepare(key).map_err(|e| format!("built engines: {e}"))? {
                Found::Fitting => folder = Some(built.folder()),
                Found::Nothing => return Err("expected built engines, found none".into()),
                Found::Aside(why) => return Err(format!("built engines changed: {why}")),
            }
        }
        let engine = &self.config.engine;
        let started = encode::start_with(trusted.choice, self.bundle, engine, folder.as_deref());
        let mut encoder = started.map_err(|e| e.to_string())?;
        check(self.bundle, encoder.as_mut()).map_err(|e| e.to_string())?;
        Ok(encoder)
    }

    /// Starts the first engine of the configured order that passes, and says what became of the
    /// others.
    ///
    /// # Errors
    /// No engine passes; the error says why for each.
    pub fn choose(&self) -> Result<(Box<dyn Encoder>, Vec<EngineVerdict>), SelftestError> {
        let (mut verdicts, mut running) = (Vec::new(), None);
        for &choice in &self.config.engine.order {
            let name = choice.name();
            if running.is_some() {
                verdicts.push(EngineVerdict::new(name, Verdict::NotNeeded));
                continue;
            }
            match self.one(choice) {
                Ok((encoder, verdict)) => {
                    running = Some(encoder);
                    verdicts.push(verdict);
                }
                Err(reason) => verdicts.push(EngineVerdict::rejected(name, reason)),
            }
        }
        running.map(|encoder| (encoder, verdicts.clone())).ok_or(SelftestError::NoEngine(verdicts))
    }

    fn one(&self, choice: EngineChoice) -> Result<(Box<dyn Encoder>, EngineVerdict), String> {
        if choice == EngineChoice::Tract {
            return self.compiled_in();
        }
        let trusted = self.probe(choice)?;
        let encoder = self.start(&trusted)?;
        Ok((encoder, trusted.passed.verdict(choice.name(), Verdict::Running)))
    }

    /// tract, which needs no probe: it is part of this program.
    ///
    /// # Errors
    /// It is not in this build, refuses the encoder, or fails the self-test.
    pub fn compiled_in(&self) -> Result<(Box<dyn Encoder>, EngineVerdict), String> {
        let (engine, begun) = (&self.config.engine, SystemClock.monotonic());
        let started = encode::start(EngineChoice::Tract, self.bundle, engine);
        let mut encoder = started.map_err(|e| e.to_string())?;
        let load_ms = Some(millis(SystemClock.monotonic().duration_since(begun)));
        check(self.bundle, encoder.as_mut()).map_err(|e| e.to_string())?;
        let name = EngineChoice::Tract.name();
        let nodes = Some(encoder.nodes().clone());
        let verdict =
            EngineVerdict { load_ms, nodes, ..EngineVerdict::new(name, Verdict::Running) };
        Ok((encoder, verdict))
    }

    fn built(&self) -> Result<Built, String> {
        let root = self.config.engine.cache_folder(&self.config.storage.path);
        let most = self.config.engine.cache_max.as_u64();
        Built::open(&root, most).map_err(|e| format!("opening {}: {e}", root.display()))
    }

    /// Learns what built engines depend on, and leaves their folder fitting or empty, before any
    /// process that could open one is started.
    fn prepare(&self) -> Result<(Built, Key), String> {
        let engine = &self.config.engine;
        let platform = match self.ask(EngineChoice::TensorRt, What::Platform, engine.probe_wall)? {
            Answer::Platform(platform) => platform,
            Answer::Failed(reason) => return Err(reason),
            Answer::Passed(_) => return Err("expected a platform, found another answer".into()),
        };
        let key = Key::new(self.bundle, &platform, engine);
        let built = self.built()?;
        let found = built.prepare(&key).map_err(|e| format!("built engines: {e}"))?;
        match found {
            Found::Fitting => tracing::info!("built engines fit"),
            Found::Nothing => tracing::info!("TensorRT builds an engine"),
            Found::Aside(why) => {
                tracing::warn!(why, "built engines moved aside; TensorRT builds anew");
            }
        }
        Ok((built, key))
    }

    /// One question to one child, which is killed after `wall`.
    fn ask(&self, choice: EngineChoice, what: What, wall: Duration) -> Result<Answer, String> {
        let (engine, bundle) = (self.config.engine.clone(), self.config.bundle.clone());
        let task = Task { choice, what, engine, bundle };
        let asked = self.converse(&task, wall);
        let (said, status, late) = asked.map_err(|e| format!("starting a process for it: {e}"))?;
        let (quoted, answer) = match said.rfind(MARK) {
            Some(at) => (&said[..at], &said[at + MARK.len()..]),
            None => (said.as_str(), ""),
        };
        match answer.lines().next().map(serde_json::from_str) {
            Some(Ok(answer)) => Ok(answer),
            _ if late => {
                Err(format!("expected an answer within {wall:?}, found none{}", quote(quoted)))
            }
            _ => Err(format!("its process {}{}", ended(status), quote(quoted))),
        }
    }

    fn converse(&self, task: &Task, wall: Duration) -> io::Result<(String, ExitStatus, bool)> {
        let (mut said, to_us) = io::pipe()?;
        let mut command = Command::new(&self.program.path);
        command.args(&self.program.arguments).stdin(Stdio::piped());
        // A reason is to end with what went wrong, not with where in the program it was.
        command.env_remove("RUST_BACKTRACE");
        // One pipe for both, so that what it says last stands last.
        command.stdout(to_us.try_clone()?).stderr(to_us);
        let mut child = command.spawn()?;
        // Our own ends, without which the pipe would never be at its end.
        drop(command);
        let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
        let task = serde_json::to_vec(task)?;
        let mut bytes = Vec::new();
        let (read, late) = within(wall, Pid::from_child(&child), || {
            // It may be gone already: then its end says more than this does.
            drop(stdin.write_all(&task));
            drop(stdin);
            (&mut said).take(SAID_MAX).read_to_end(&mut bytes)
        });
        child.kill()?;
        let status = child.wait()?;
        read?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), status, late))
    }
}

/// How a child ended that gave no answer.
fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal() {
        Some(9) => "was killed, by the system for want of memory or by somebody".into(),
        _ => format!("ended with {status} and gave no answer"),
    }
}

/// The end of what it said, where that is the reason.
fn quote(said: &str) -> String {
    let printable: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let printable = printable.trim();
    let from = printable.char_indices().rev().nth(QUOTED_MAX).map_or(0, |(at, _)| at);
    if printable.is_empty() { String::new() } else { format!("; it said: {}", &printable[from..]) }
}

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
    let clock = SystemClock;
    let begun = clock.monotonic();
    let mut encoder = encode::start_with(task.choice, &bundle, &task.engine, built.as_deref())?;
    let load_ms = millis(clock.monotonic().duration_since(begun));
    let mut times = Vec::new();
    for pixels in &bundle.golden.inputs {
        let spec = &bundle.manifest.input;
        let picture = Picture { rows: spec.height, columns: spec.width, pixels: pixels.to_vec() };
        let input = ModelInput::of_fitted(picture, spec);
        let begun = clock.monotonic();
        encoder.encode(&input)?;
        times.push(clock.monotonic().duration_since(begun));
    }
    let warm_up_ms = times.first().copied().map_or(0, millis);
    times.sort_unstable();
    let image_ms = times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let nearness = check(&bundle, encoder.as_mut())?;
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

/// Sizes of this process, KiB (proc(5)).
fn memory() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().strip_suffix(" kB")?.parse().ok()?))
    };
    text.lines().filter_map(size).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
