//! Worker processes on this machine: each makes one shard and ends.
//!
//! Nothing is asked of a worker but that its shard is valid in the end; one that died is noted,
//! and its shard tried again.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use clearfilm::id::Digest;
use clearfilm_models::embed::{self, Folder, Plan};
use indicatif::{ProgressBar, ProgressStyle};

use super::options::Where;

/// The line that a worker writes after each picture.
pub(super) const PICTURE: &str = "picture";

/// Events that wait to be shown; a worker that is ahead waits.
const EVENTS: usize = 256;

/// What happened.
enum Event {
    /// A worker read its first picture.
    AtWork { shard: usize, process: u32 },
    /// One more picture of a shard is read.
    Picture,
    /// The shard is valid.
    Made,
    /// A worker ended without one, after so many pictures.
    Lost { shard: usize, attempt: u32, how: String, pictures: u64 },
}

/// A shard that waits for a worker.
#[derive(Clone, Copy)]
struct Waiting {
    shard: usize,
    /// From 1.
    attempt: u32,
}

/// Everything that the threads share; each waits for one worker process.
struct Pool<'a> {
    place: &'a Where,
    digest: Digest,
    attempts: u32,
    waiting: Mutex<VecDeque<Waiting>>,
    failed: Mutex<Vec<usize>>,
}

/// Makes every shard that is not valid.
pub(super) fn run(
    place: &Where,
    (plan, digest): (&Plan, Digest),
    workers: usize,
    attempts: u32,
) -> anyhow::Result<()> {
    let folder = Folder::at(&place.out);
    let mut waiting = VecDeque::new();
    let mut pictures = 0;
    for shard in 0..plan.shards() {
        if embed::valid(&folder, digest, shard)?.is_none() {
            waiting.push_back(Waiting { shard, attempt: 1 });
            let from = shard * plan.shard_images;
            pictures += plan.shard_images.min(plan.images - from);
        }
    }
    anstream::println!(
        "{} of {} shards are valid already",
        plan.shards() - waiting.len(),
        plan.shards()
    );
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = if workers == 0 { cores } else { workers }.min(waiting.len());
    let failed = Mutex::new(Vec::new());
    let pool = Pool { place, digest, attempts, waiting: Mutex::new(waiting), failed };
    thread::scope(|scope| -> anyhow::Result<()> {
        let (events, shown) = sync_channel(EVENTS);
        let mut threads = Vec::new();
        for number in 0..workers {
            let (pool, events) = (&pool, events.clone());
            let thread = thread::Builder::new().name(format!("worker-{}", number + 1));
            threads.push(thread.spawn_scoped(scope, move || pool.work(&events))?);
        }
        drop(events);
        show(&shown, pictures as u64);
        for thread in threads {
            match thread.join() {
                Ok(done) => done?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    let mut failed = pool.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable();
    if !failed.is_empty() {
        bail!("expected every shard within {attempts} attempts, found none of {failed:?}");
    }
    Ok(())
}

impl Pool<'_> {
    /// Takes shards until none waits.
    fn work(&self, events: &SyncSender<Event>) -> anyhow::Result<()> {
        while let Some(next) = self.next() {
            let (how, pictures) = self.one(next.shard, events)?;
            let folder = Folder::at(&self.place.out);
            if embed::valid(&folder, self.digest, next.shard)?.is_some() {
                tell(events, Event::Made);
                continue;
            }
            let Waiting { shard, attempt } = next;
            tell(events, Event::Lost { shard, attempt, how, pictures });
            if attempt < self.attempts {
                let again = Waiting { shard, attempt: attempt + 1 };
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(again);
            } else {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(shard);
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// One worker from its start to its end: how it ended, and how many pictures it read.
    fn one(&self, shard: usize, events: &SyncSender<Event>) -> anyhow::Result<(String, u64)> {
        // This very binary, also after another was built in its place.
        let mut command = Command::new("/proc/self/exe");
        command.args(["embed", "shard", "--worker", "--index", &shard.to_string()]);
        command.arg("--root").arg(&self.place.root).arg("--out").arg(&self.place.out);
        let Where { bundle, encoder, config, .. } = self.place;
        let options = [("--bundle", bundle), ("--encoder", encoder), ("--config", config)];
        for (option, path) in options {
            path.iter().for_each(|path| {
                command.arg(option).arg(path);
            });
        }
        // It reads its input only to notice that this process is gone.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker process")?;
        let lines = child.stdout.take().context("expected the worker's output")?;
        let mut pictures = 0;
        for line in BufReader::new(lines).lines() {
            if line.is_ok_and(|line| line == PICTURE) {
                if pictures == 0 {
                    tell(events, Event::AtWork { shard, process: child.id() });
                }
                pictures += 1;
                tell(events, Event::Picture);
            }
        }
        // `wait` closes its input first: a worker that is still busy would end. It is not, because
        // its output has ended.
        let status = child.wait().context("waiting for a worker process")?;
        Ok((status.to_string(), pictures))
    }
}

/// The receiver lives as long as all threads that send.
fn tell(events: &SyncSender<Event>, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("nobody shows events any more");
    }
}

/// Shows events until every thread has ended: a bar on a terminal, else lines.
fn show(events: &Receiver<Event>, pictures: u64) {
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new(pictures) } else { ProgressBar::hidden() };
    let form = "{bar:40} {pos} of {len} pictures, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    let say = |text: String| {
        if terminal { bar.println(text) } else { anstream::println!("{text}") }
    };
    for event in events {
        match event {
            Event::AtWork { shard, process } => {
                if !terminal {
                    say(format!("shard {shard}: process {process} at work"));
                }
            }
            Event::Picture => bar.inc(1),
            Event::Made => {}
            Event::Lost { shard, attempt, how, pictures } => {
                bar.dec(pictures);
                say(format!("shard {shard}: attempt {attempt} ended by {how}"));
            }
        }
    }
    bar.finish_and_clear();
}
