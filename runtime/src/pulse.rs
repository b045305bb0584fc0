//! Which loops still turn: the service manager is told that the unit lives only while all do.
//!
//! A loop says when it will be back. A quiet night, a dead broker and a slow decoder are all
//! within what was promised; a loop that is stuck is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;

/// How late a loop may be before it counts as stuck: far more than a busy machine takes to wake
/// a thread.
const GRACE: Duration = Duration::from_secs(10);

/// A due time of a loop that promised nothing: it has not begun, or has ended.
const NEVER: u64 = u64::MAX;

/// Every loop of a process.
pub struct Pulses {
    clock: Arc<dyn Clock>,
    started: Instant,
    all: Mutex<Vec<(String, Arc<AtomicU64>)>>,
}

/// One loop's.
pub struct Pulse {
    clock: Arc<dyn Clock>,
    started: Instant,
    due_ms: Arc<AtomicU64>,
}

impl Pulses {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { started: clock.monotonic(), clock, all: Mutex::default() }
    }

    /// Another loop, which has promised nothing yet.
    #[must_use]
    pub fn of(&self, name: impl Into<String>) -> Pulse {
        let due_ms = Arc::new(AtomicU64::new(NEVER));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((name.into(), due_ms.clone()));
        Pulse { clock: self.clock.clone(), started: self.started, due_ms }
    }

    /// Names of the loops that should have been back by now.
    #[must_use]
    pub fn stuck(&self) -> Vec<String> {
        let now = since(self.started, self.clock.monotonic());
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let late = all.iter().filter(|(_, due)| due.load(Ordering::SeqCst) < now);
        late.map(|(name, _)| name.clone()).collect()
    }
}

impl Pulse {
    /// The loop turns, and will be back within this time.
    pub fn promise(&self, within: Duration) {
        let due = since(self.started, self.clock.monotonic() + within + GRACE);
        self.due_ms.store(due, Ordering::SeqCst);
    }
}

impl Drop for Pulse {
    /// A loop that ended is not stuck.
    fn drop(&mut self) {
        self.due_ms.store(NEVER, Ordering::SeqCst);
    }
}

fn since(started: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(started).as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};

    /// A clock whose hand is moved by the test.
    struct Hand(Instant, AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }

        fn monotonic(&self) -> Instant {
            self.0 + Duration::from_secs(self.1.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_loop_is_stuck_when_it_breaks_its_promise_and_not_before() {
        let clock = Arc::new(Hand(crate::clock::SystemClock.monotonic(), AtomicU64::new(0)));
        let pulses = Pulses::new(clock.clone());
        let (reader, publisher) = (pulses.of("reader-1"), pulses.of("publisher"));
        clock.1.store(1_000, Ordering::SeqCst);
        assert_eq!(pulses.stuck(), [""; 0], "nothing was promised");
        reader.promise(Duration::from_secs(30));
        publisher.promise(Duration::from_secs(5));
        clock.1.store(1_014, Ordering::SeqCst);
        assert_eq!(pulses.stuck(), [""; 0], "within promise and grace");
        clock.1.store(1_016, Ordering::SeqCst);
        assert_eq!(pulses.stuck(), ["publisher"]);
        clock.1.store(1_041, Ordering::SeqCst);
        assert_eq!(pulses.stuck(), ["reader-1", "publisher"]);
        drop(publisher);
        reader.promise(Duration::from_secs(30));
        assert_eq!(pulses.stuck(), [""; 0]);
    }
}
