//! The parent's side of the decode child: one object each, within limits, with a spare kept warm.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal};

use super::child::{self, Limits};
use super::deadline::{kill, within};
use super::{DecodeError, Frame, bytes_of};
use crate::config::{self, DicomLimits};

/// How a child is started: a program, and what stands before the limits among its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: OsString,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// This very binary, also after an update has put another in its place.
    #[must_use]
    pub fn own() -> Self {
        Self { path: "/proc/self/exe".into(), arguments: vec!["decode-child".into()] }
    }
}

/// Most of a child's complaints that is kept, bytes: enough for one message of an allocator.
const COMPLAINTS_MAX: u64 = 4096;

/// Bytes of a pipe: the most that Linux gives to a user without further rights.
const PIPE: usize = 1 << 20;

/// What Rust's allocator says before it ends the process, and a child that cannot hold its object.
pub(super) const OUT_OF_MEMORY: &str = "memory allocation of";

/// Decodes untrusted files, each in a child process of its own.
pub struct Decoder {
    program: Program,
    limits: Limits,
    /// Started ahead, waiting for its object: its start-up is not part of a reading.
    spare: Option<Child>,
    /// Was it said that children keep rights they need not have?
    warned: bool,
}

/// How a child ended that gave no answer.
enum End {
    TimedOut,
    Ended(ExitStatus, String),
}

impl Decoder {
    /// A decoder whose first child is started now.
    #[must_use]
    pub fn new(program: Program, decode: &config::Decode, structure: &DicomLimits) -> Self {
        let limits = Limits { decode: decode.clone(), structure: structure.clone() };
        let mut decoder = Self { program, limits, spare: None, warned: false };
        decoder.prepare();
        decoder
    }

    /// Decodes one file.
    ///
    /// # Errors
    /// See [`super::decode`]; and the child ended, ran too long or took too much memory.
    pub fn decode_file(&mut self, path: &Path) -> Result<Frame, DecodeError> {
        self.decode(&bytes_of(path, &self.limits.decode)?)
    }

    /// Decodes one object.
    ///
    /// # Errors
    /// As [`Self::decode_file`], but for reading the file.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Frame, DecodeError> {
        let decoded = match self.once(bytes)? {
            // The system killed it, or an operator: the object may have no part in it.
            Err(End::Ended(status, _)) if from_outside(status) => self.once(bytes)?,
            other => other,
        };
        self.prepare();
        decoded.unwrap_or_else(|end| Err(self.died(end)))
    }

    /// One object in one child.
    fn once(
        &mut self,
        bytes: &[u8],
    ) -> Result<Result<Result<Frame, DecodeError>, End>, DecodeError> {
        let mut child = self.child().map_err(DecodeError::Child)?;
        let answer = self.converse(&mut child, bytes).map_err(DecodeError::Child)?;
        let answer = answer.map(|answer| {
            if !answer.jailed && !self.warned {
                self.warned = true;
                tracing::warn!("decode children keep rights that they need not have: this kernel filters no system calls");
            }
            answer.decoded
        });
        Ok(answer)
    }

    /// The spare if it still lives, or a new child.
    fn child(&mut self) -> io::Result<Child> {
        if let Some(mut spare) = self.spare.take()
            && spare.try_wait()?.is_none()
        {
            return Ok(spare);
        }
        self.start()
    }

    fn prepare(&mut self) {
        if self.spare.is_none() {
            // Without a spare the next object starts its own and tells why it cannot.
            self.spare = self.start().ok();
        }
    }

    fn start(&self) -> io::Result<Child> {
        let child = Command::new(&self.program.path)
            .args(&self.program.arguments)
            .arg(serde_json::to_string(&self.limits)?)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Larger pipes mean fewer turns between two processes; the usual size works too.
        child.stdin.as_ref().map(|pipe| fcntl_setpipe_size(pipe, PIPE));
        child.stdout.as_ref().map(|pipe| fcntl_setpipe_size(pipe, PIPE));
        Ok(child)
    }

    /// Hands the object over and takes the answer; a watchdog ends what takes too long.
    fn converse(&self, child: &mut Child, bytes: &[u8]) -> io::Result<Result<child::Answer, End>> {
        let closed = || io::Error::other("a child without pipes");
        let mut stdin = child.stdin.take().ok_or_else(closed)?;
        let mut stdout = child.stdout.take().ok_or_else(closed)?;
        let stderr = child.stderr.take().ok_or_else(closed)?;
        let pid = Pid::from_child(child);
        let ((answer, complaints), late) = within(self.limits.decode.wall, pid, || {
            thread::scope(|scope| {
                // A child that refuses early leaves its pipe: that is no error of ours.
                scope.spawn(move || stdin.write_all(bytes).ok());
                let complaints = scope.spawn(move || complaints(stderr));
                let answer = child::read(&mut stdout, &self.limits.decode);
                // It has said all that is listened to; one that did not is left to the watchdog.
                if answer.is_ok() {
                    kill(pid);
                }
                (answer, complaints.join().unwrap_or_default())
            })
        });
        // Its pipes are closed, so it has ended or is up to nothing; how it ended stays as it is.
        child.kill()?;
        let status = child.wait()?;
        Ok(match answer {
            Ok(answer) => Ok(answer),
            Err(_) if late => Err(End::TimedOut),
            Err(_) => Err(End::Ended(status, complaints)),
        })
    }

    /// Why a child gave no answer.
    fn died(&self, end: End) -> DecodeError {
        let limits = &self.limits.decode;
        match end {
            End::TimedOut => DecodeError::TimedOut { expected: limits.wall },
            End::Ended(status, _) if status.signal() == Some(Signal::XCPU.as_raw()) => {
                DecodeError::TimedOut { expected: limits.cpu }
            }
            End::Ended(_, complaints) if complaints.contains(OUT_OF_MEMORY) => {
                DecodeError::Memory { expected: limits.memory.as_u64() }
            }
            End::Ended(status, _) if from_outside(status) => DecodeError::Killed,
            End::Ended(status, _) => DecodeError::Crashed { status: status.to_string() },
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Some(mut child) = self.spare.take() {
            // It has no object: without input it ends by itself, killed or not.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Was it a signal that a process does not bring upon itself?
fn from_outside(status: ExitStatus) -> bool {
    let outside = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP];
    status.signal().is_some_and(|signal| outside.iter().any(|s| s.as_raw() == signal))
}

/// The first complaints; the rest is read and forgotten, so that the child never waits.
fn complaints(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    stderr.by_ref().take(COMPLAINTS_MAX).read_to_end(&mut kept).ok();
    io::copy(&mut stderr, &mut io::sink()).ok();
    String::from_utf8_lossy(&kept).into_owned()
}
