//! The only place that reads a clock; everything else is handed one.
//!
//! Wall-clock time goes into records and messages; deadlines and durations use monotonic time,
//! so that a clock that jumps never loses a time-out.

use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};

/// Where the time comes from: the machine, or a test.
pub trait Clock: Send + Sync {
    /// Wall-clock time, UTC.
    fn now(&self) -> DateTime<Utc>;

    /// Monotonic time, for durations and deadlines.
    fn monotonic(&self) -> Instant;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(Utc::now().timestamp_millis())
            .expect("the present fits into a timestamp of milliseconds")
    }

    #[allow(clippy::disallowed_methods, reason = "the one door to the monotonic clock")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still where it was set, for tests.
#[derive(Debug, Clone)]
pub struct StoppedClock {
    now: DateTime<Utc>,
    monotonic: Instant,
}

impl StoppedClock {
    /// A clock that always says `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { now, monotonic: SystemClock.monotonic() }
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn monotonic(&self) -> Instant {
        self.monotonic
    }
}

/// RFC 3339 in UTC with milliseconds, as every message carries it.
#[must_use]
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
