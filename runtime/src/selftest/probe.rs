//! Tries an engine in a process of its own: a library that crashes, hangs, takes all memory or
//! answers wrongly ends or fails there, and the service only learns why.
//!
//! What passed is then started here, and held against the golden outputs once more.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{Nearness, SelftestError, check};
use crate::bundle::Bundle;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, BundleChoice, Config, EngineChoice};
use crate::decode::Program;
use crate::decode::deadline::within;
use crate::encode::built::{Built, Found, Key};
use crate::encode::platform::Platform;
use crate::encode::{self, Encoder, Engine, EngineVerdict, Nodes, Verdict};

/// Most that a child may say before its answer, bytes: libraries write logs.
const SAID_MAX: u64 = 1 << 20;

/// Most of it that a reason quotes, characters.
const QUOTED_MAX: usize = 300;

/// Begins the line that holds the answer, since libraries write to standard output as they like.
pub(super) const MARK: &str = "clearfilm probe: ";

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
    /// The program that serves [`super::child::serve`].
    pub program: Program,
    /// The bundle of the configuration.
    pub bundle: &'a Bundle,
    /// Engines, bundle and where things are kept.
    pub config: &'a Config,
}

/// What a child is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) choice: EngineChoice,
    pub(super) what: What,
    pub(super) engine: config::Engine,
    pub(super) bundle: BundleChoice,
}

#[derive(Serialize, Deserialize)]
pub(super) enum What {
    /// Only what built engines depend on.
    Platform,
    /// Everything, with engines that TensorRT built in this folder.
    Engine { built: Option<PathBuf> },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
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
        if choice != EngineChoice::TensorRt {
            return Ok(Trusted { choice, passed: self.run(choice, None)?, key: None });
        }
        let (built, key, found) = self.prepare()?;
        let passed = match self.run(choice, Some(built.folder())) {
            // The record fits and the engine does not: what made the difference is not in the record.
            Err(reason) if found == Found::Fitting => {
                tracing::warn!(reason, "the built engine fails; TensorRT builds anew");
                let aside = built.set_aside().and_then(|()| built.prepare(&key));
                aside.map_err(|e| format!("built engines: {e}"))?;
                self.run(choice, Some(built.folder()))?
            }
            other => other?,
        };
        built.seal(&key).map_err(|e| format!("recording built engines: {e}"))?;
        Ok(Trusted { choice, passed, key: Some(key) })
    }

    /// One try in one child.
    fn run(&self, choice: EngineChoice, built: Option<PathBuf>) -> Result<Passed, String> {
        match self.ask(choice, What::Engine { built }, self.config.engine.wall(choice))? {
            Answer::Passed(passed) => Ok(*passed),
            Answer::Failed(reason) => Err(reason),
            Answer::Platform(_) => Err("expected a verdict, found another answer".into()),
        }
    }

    /// Starts here what passed there.
    ///
    /// # Errors
    /// It does not do here what it did there, or its built engines are no longer what they were.
    pub fn start(&self, trusted: &Trusted) -> Result<Box<dyn Encoder>, String> {
        // Held until the session is made.
        let built = trusted.key.as_ref().map(|_| self.built()).transpose()?;
        if let (Some(built), Some(key)) = (&built, &trusted.key) {
            match built.prepare(key).map_err(|e| format!("built engines: {e}"))? {
                Found::Fitting => {}
                Found::Nothing => return Err("expected built engines, found none".into()),
                Found::Aside(why) => return Err(format!("built engines changed: {why}")),
            }
        }
        let folder = built.as_ref().map(Built::folder);
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
    fn prepare(&self) -> Result<(Built, Key, Found), String> {
        let engine = &self.config.engine;
        let platform = match self.ask(EngineChoice::TensorRt, What::Platform, engine.probe_wall)? {
            Answer::Platform(platform) => platform,
            Answer::Failed(reason) => return Err(reason),
            Answer::Passed(_) => return Err("expected a platform, found another answer".into()),
        };
        let key = Key::new(self.bundle, &platform, engine);
        let built = self.built()?;
        let found = built.prepare(&key).map_err(|e| format!("built engines: {e}"))?;
        match &found {
            Found::Fitting => tracing::info!("built engines fit"),
            Found::Nothing => tracing::info!("TensorRT builds an engine"),
            Found::Aside(why) => {
                tracing::warn!(why, "built engines moved aside; TensorRT builds anew");
            }
        }
        Ok((built, key, found))
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

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
