//! What a run of many requests shows: a bar on a terminal, else lines.

use std::io::IsTerminal as _;

use clearfilm_models::evaluate::bootstrap::Estimate;
use clearfilm_models::name::Event;
use clearfilm_models::name::reply::Failures;
use indicatif::{ProgressBar, ProgressStyle};

/// Shows events.
pub(super) struct Progress {
    bar: ProgressBar,
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let form = "{bar:40} {pos} of {len} requests, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Self { bar, terminal }
    }

    pub(super) fn tell(&self, event: Event<'_>) {
        match event {
            Event::Say(words) if self.terminal => self.bar.println(words),
            Event::Say(words) => anstream::println!("{words}"),
            Event::Asks(count) => self.bar.inc_length(count as u64),
            Event::Answered => self.bar.inc(1),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A figure and its interval.
pub(super) fn estimate(of: Option<Estimate>) -> String {
    of.map_or("none".into(), |e| format!("{:+.3} [{:+.3}, {:+.3}]", e.value, e.low, e.high))
}

/// How often each kind of failure was met.
pub(super) fn failures(of: &Failures) -> String {
    let all: Vec<String> = of.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
    if all.is_empty() { "none failed".into() } else { format!("failed: {}", all.join(", ")) }
}
