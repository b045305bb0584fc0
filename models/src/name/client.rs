//! Many requests to one server: each is sent at most once, its reply kept before it is used.
//!
//! A reply is kept as `replies/<SHA-256 of the request>.json`, as it came. A run that was cut off
//! asks for nothing a second time, whatever ended it; the drawback is a folder with a file for each
//! request, in which names tell nothing.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clearfilm::id::Digest;
use serde::Serialize;

use super::chat::{Ask, Form, Part, body};
use super::reply::{Failure, Reply, Usage};
use super::server::{Price, Server};
use super::show::{Shower, Shown, Source};
use super::wire::{Ended, Wire};
use super::{Event, NameError, Tell};
use crate::files::{io, put};

/// What was answered, or why nothing was.
pub type Answer = Result<Reply, Failure>;

/// A server, and what it said already.
pub struct Client<'a> {
    server: &'a Server,
    wire: Wire,
    replies: PathBuf,
    source: Option<&'a Source>,
    shown: Mutex<Shown>,
    ledger: Mutex<Ledger>,
    /// Requests that are on their way: an equal one waits for the first one's reply.
    on_the_way: (Mutex<HashSet<Digest>>, Condvar),
    /// Attempts of this run.
    sent: AtomicU64,
    /// Attempts in a row that failed.
    in_a_row: AtomicU64,
}

/// What is known after a run.
#[derive(Debug, Default)]
struct Ledger {
    /// Of this run.
    spent: Usage,
    /// Of all replies that were used.
    usage: Usage,
    counted: HashSet<Digest>,
    models: BTreeSet<String>,
    fingerprints: BTreeSet<String>,
}

/// What a server said of itself, and what its replies cost: the same for the same replies, whenever
/// they came.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// As the plan names it.
    pub model: String,
    /// As the server names it.
    pub models: BTreeSet<String>,
    /// Builds of the server.
    pub system_fingerprints: BTreeSet<String>,
    /// Different requests that have a reply.
    pub replies: usize,
    /// Tokens of all of them.
    pub usage: Usage,
    /// At the plan's prices.
    pub cost: f64,
}

impl<'a> Client<'a> {
    /// Keeps replies below `out`; pictures come from `source`.
    ///
    /// # Errors
    /// The folder cannot be made, or the key is not there.
    pub fn new(
        server: &'a Server,
        out: &Path,
        source: Option<&'a Source>,
    ) -> Result<Self, NameError> {
        let replies = out.join("replies");
        fs::create_dir_all(&replies).map_err(io("making", &replies))?;
        Ok(Self {
            server,
            wire: Wire::new(server)?,
            replies,
            source,
            shown: Mutex::default(),
            ledger: Mutex::default(),
            on_the_way: Default::default(),
            sent: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
        })
    }

    /// Replies that are kept already.
    #[must_use]
    pub fn kept(&self) -> usize {
        fs::read_dir(&self.replies).map_or(0, |files| files.flatten().count())
    }

    /// Attempts of this run.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What this run paid.
    #[must_use]
    pub fn spent(&self) -> f64 {
        cost(locked(&self.ledger).spent, self.server.price)
    }

    /// What all replies came to.
    #[must_use]
    pub fn account(&self) -> Account {
        let ledger = locked(&self.ledger);
        Account {
            model: self.server.model.clone(),
            models: ledger.models.clone(),
            system_fingerprints: ledger.fingerprints.clone(),
            replies: ledger.counted.len(),
            usage: ledger.usage,
            cost: cost(ledger.usage, self.server.price),
        }
    }

    /// Answers in the order of the questions.
    ///
    /// # Errors
    /// A limit of the plan is reached, the server is away, or a file or picture cannot be read:
    /// what was answered until then is kept.
    pub fn all(&self, asks: &[Ask], tell: Tell<'_>) -> Result<Vec<Answer>, NameError> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let work = || -> Result<Vec<(usize, Answer)>, NameError> {
            let mut shower = self.source.map(|source| Shower::new(source, &self.shown));
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(ask) = asks.get(at) else { break };
                match self.one(ask, shower.as_mut()) {
                    Ok(answer) => answers.push((at, answer)),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
                tell(Event::Answered);
            }
            Ok(answers)
        };
        let count = self.server.limits.concurrency.clamp(1, asks.len().max(1));
        let done = thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..count {
                let thread = thread::Builder::new().name(format!("asks-{}", number + 1));
                threads.push(thread.spawn_scoped(scope, work).map_err(NameError::Thread)?);
            }
            let ended = threads.into_iter().map(|thread| thread.join());
            let ended =
                ended.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.collect::<Result<Vec<_>, NameError>>()
        })?;
        let mut answers: Vec<(usize, Answer)> = done.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(at, _)| *at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn one(&self, ask: &Ask, shower: Option<&mut Shower<'_>>) -> Result<Answer, NameError> {
        let mut pictures = Vec::new();
        if let Some(shower) = shower {
            for part in &ask.user {
                if let Part::Picture(image) = part {
                    pictures.push(shower.png(image)?);
                }
            }
        }
        let body = body(ask, self.server, &pictures).map_err(NameError::Forming)?;
        let key = Digest::of(&body);
        let (going, arrived) = &self.on_the_way;
        let mut held = locked(going);
        while !held.insert(key) {
            held = arrived.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        drop(held);
        let answer = self.kept_or_sent((key, &ask.form), &body);
        locked(going).remove(&key);
        arrived.notify_all();
        answer
    }

    fn kept_or_sent(&self, (key, form): (Digest, &Form), body: &[u8]) -> Result<Answer, NameError> {
        let file = self.replies.join(format!("{}.json", hex(key)));
        let kept = match fs::read(&file) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("reading", &file)(error).into()),
        };
        // A reply that this run has counted was asked for by this run.
        let again = |bytes: &[u8]| {
            self.server.limits.retry_failed
                && Reply::of(bytes, form).1.is_err()
                && !locked(&self.ledger).counted.contains(&key)
        };
        let (bytes, new) = match kept {
            Some(bytes) if !again(&bytes) => (bytes, false),
            _ => match self.attempts(body)? {
                Ok(bytes) => {
                    put(&file, &bytes)?;
                    (bytes, true)
                }
                Err(failure) => return Ok(Err(failure)),
            },
        };
        let (envelope, reply) = Reply::of(&bytes, form);
        let mut ledger = locked(&self.ledger);
        let usage = envelope.usage.unwrap_or_default();
        let add = |to: &mut Usage| {
            to.prompt += usage.prompt;
            to.reply += usage.reply;
        };
        if new {
            add(&mut ledger.spent);
        }
        if ledger.counted.insert(key) {
            add(&mut ledger.usage);
            ledger.models.extend(envelope.model);
            ledger.fingerprints.extend(envelope.system_fingerprint);
        }
        Ok(reply)
    }

    /// Sends until a whole reply comes, or the last attempt failed.
    fn attempts(&self, body: &[u8]) -> Result<Result<Vec<u8>, Failure>, NameError> {
        let limits = &self.server.limits;
        let longest = limits.backoff_max_s.clamp(0.0, 3600.0);
        let mut wait = limits.backoff_s.clamp(0.0, longest);
        let mut attempt = 1;
        loop {
            self.may_send()?;
            let (failure, after) = match self.wire.send(body) {
                Ended::Reply(bytes) => {
                    self.in_a_row.store(0, Ordering::Relaxed);
                    return Ok(Ok(bytes));
                }
                Ended::Failed(failure, after) => (failure, after),
            };
            let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
            if in_a_row >= limits.failures_in_a_row_max {
                return Err(NameError::Away { count: in_a_row, last: failure });
            }
            if !failure.passes() || attempt >= limits.attempts {
                return Ok(Err(failure));
            }
            let asked = after.unwrap_or(Duration::from_secs_f64(wait));
            thread::sleep(asked.min(Duration::from_secs_f64(longest)));
            wait = (2.0 * wait).min(longest);
            attempt += 1;
        }
    }

    /// Counts an attempt, if one more is allowed.
    fn may_send(&self) -> Result<(), NameError> {
        let limits = &self.server.limits;
        let spent = self.spent();
        if self.server.price != Price::default() && spent >= limits.cost_max {
            return Err(NameError::Cost { expected: limits.cost_max, found: spent });
        }
        let one_more = |sent: u64| (sent < limits.requests_max).then_some(sent + 1);
        self.sent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|found| NameError::Requests { expected: limits.requests_max, found })?;
        Ok(())
    }
}

/// The digits of a digest without its prefix: what a file may be called everywhere.
fn hex(digest: Digest) -> String {
    data_encoding::HEXLOWER.encode(digest.as_bytes())
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 tokens")]
fn cost(usage: Usage, price: Price) -> f64 {
    (usage.prompt as f64 * price.prompt + usage.reply as f64 * price.reply) / 1e6
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
