//! One look at one object, here or in a process of its own.
//!
//! An object at which the daemon ended twice is looked at by a child: if the object was to blame
//! the child ends and the daemon goes on; if the service was merely stopped, the image is read.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::config::{Config, EngineChoice, Policy};
use crate::decode::deadline::within;
use crate::decode::{Decoder, Program, jail};
use crate::encode::{Encoder, Engine};
use crate::reading::{self, Reading};
use crate::selftest::probe::Prober;
use crate::store::record::Reason;

/// Longest answer that is listened to: a reading has some 100 kB.
const ANSWER_MAX: u64 = 16 << 20;

/// What came of a look.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Look {
    /// A reading, also one that the gate refused.
    Read(Box<Reading>),
    /// The object cannot be read, now or ever.
    Unreadable(Reason),
    /// The appliance failed.
    Failed(String),
    /// The engine failed on it; another one may not.
    EngineFailed(String),
}

/// Decodes and reads one object.
pub(super) fn look(
    path: &Path,
    decoder: &mut Decoder,
    bundle: &Bundle,
    policy: &Policy,
    encoder: &mut dyn Encoder,
) -> Look {
    let frame = match decoder.decode_file(path) {
        Ok(frame) => frame,
        Err(error) if error.is_ours() => return Look::Failed(error.to_string()),
        Err(error) => {
            return Look::Unreadable(Reason { code: error.code().into(), text: error.to_string() });
        }
    };
    match reading::read(&frame, bundle, policy, encoder) {
        Ok(reading) => Look::Read(Box::new(reading)),
        Err(error) => Look::EngineFailed(error.to_string()),
    }
}

/// What the child is told.
#[derive(Serialize, Deserialize)]
struct Task {
    config: Config,
    object: PathBuf,
}

/// The same look by a child of this binary; the engine is the one that the child found.
pub(super) fn in_a_process(config: &Config, object: &Path) -> (Look, Option<Engine>) {
    let task = Task { config: config.clone(), object: object.into() };
    match ask(&task) {
        Ok((look, engine)) => (look, engine),
        Err(error) => {
            (Look::Failed(format!("expected a reading from a process of its own: {error}")), None)
        }
    }
}

fn ask(task: &Task) -> io::Result<(Look, Option<Engine>)> {
    let mut child = Command::new("/proc/self/exe")
        .arg("trial-child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let closed = || io::Error::other("a child without pipes");
    let mut stdin = child.stdin.take().ok_or_else(closed)?;
    let stdout = child.stdout.take().ok_or_else(closed)?;
    let (pid, wall) = (Pid::from_child(&child), task.config.storage.trial_wall);
    let mut answer = Vec::new();
    let (read, _) = within(wall, pid, || {
        stdin.write_all(&serde_json::to_vec(task)?)?;
        drop(stdin);
        stdout.take(ANSWER_MAX).read_to_end(&mut answer)
    });
    child.kill()?;
    let status = child.wait()?;
    read?;
    serde_json::from_slice(&answer).map_err(|_| io::Error::other(format!("it ended with {status}")))
}

/// The child's side: the task from standard input, what came of it to standard output.
///
/// # Errors
/// The parent is gone or said nothing that can be understood.
pub fn serve() -> io::Result<()> {
    jail::outlive_stop_signals();
    let mut task = Vec::new();
    io::stdin().lock().read_to_end(&mut task)?;
    let task: Task = serde_json::from_slice(&task)?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &done(&task))?;
    out.flush()
}

fn done(Task { config, object }: &Task) -> (Look, Option<Engine>) {
    let bundle = match Bundle::load(&config.bundle) {
        Ok(bundle) => bundle,
        Err(error) => return (Look::Failed(error.to_string()), None),
    };
    // Where the engine was to blame, and not the object, the compiled-in one reads it.
    let mut config = config.clone();
    if config.engine.order.contains(&EngineChoice::Tract) {
        config.engine.order = vec![EngineChoice::Tract];
    }
    let mut encoder = match Prober::own(&bundle, &config).choose() {
        Ok((encoder, _)) => encoder,
        Err(error) => return (Look::Failed(error.to_string()), None),
    };
    let mut decoder = Decoder::new(Program::own(), &config.decode, &config.dicom.limits);
    let look = look(object, &mut decoder, &bundle, &config.policy(), encoder.as_mut());
    (look, Some(encoder.engine().clone()))
}
