//! How the device is doing: a summary for the broker, whether another object may be taken, and
//! which alarms follow from what is seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use chrono::TimeDelta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::alarm::{AlarmKind, Alarms};
use crate::board::Board;
use crate::clock::{Clock, rfc3339};
use crate::config::Config;
use crate::ingest::Refused;
use crate::metrics::{Levels, Metrics};
use crate::pulse::Pulses;
use crate::store::Store;
use crate::tls;

/// Share of `mqtt.outbox_rows` at which an operator is told, in tenths: while there is still time
/// to do something.
const OUTBOX_ALARM_TENTHS: usize = 8;

/// How long before a certificate's end an operator is told: an authority of a hospital may take weeks.
const CERTIFICATE_NOTICE: TimeDelta = TimeDelta::days(30);

/// Looks in a row (one each two seconds) at a board that is throttled, or is not, before an operator
/// is told: half a minute, so that one warm reading is no alarm.
const THROTTLED_LOOKS: u32 = 15;

/// Watches disk, inbox, outbox, loops and alarms.
pub struct Health {
    /// What is allowed.
    pub config: Arc<Config>,
    /// What is kept.
    pub store: Arc<Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What an operator was told.
    pub alarms: Arc<Alarms>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Which loops still turn.
    pub pulses: Pulses,
    /// The process began.
    pub started: Instant,
    /// What became of the images of trials since the process began.
    pub trials: Trials,
    /// When the last image of a patient was accepted, seconds after `started`, and 1 more; 0: none was.
    pub received: AtomicU64,
    /// Looks at a throttled board, less those at one that was not: 0 to [`THROTTLED_LOOKS`].
    pub throttled: AtomicU32,
}

/// Images that somebody on the unit itself sent to try it out ([`crate::ingest::TRIAL_AE`]).
#[derive(Debug, Default)]
pub struct Trials {
    /// They were read.
    pub read: AtomicU64,
    /// They were not.
    pub failed: AtomicU64,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Can images be received and read? What only delays results does not count.
const READY: [&str; 4] = ["engine", "room", "store", "loops"];

impl Health {
    /// May another object be taken?
    ///
    /// # Errors
    /// Says which resource is short: the sender is told to try again.
    pub fn admit(&self) -> Result<(), Refused> {
        let short =
            |what: &str, found: String| Err(Refused::OutOfResources(format!("{what}: {found}")));
        let (storage, mqtt) = (&self.config.storage, &self.config.mqtt);
        let (inbox, outbox) = (self.store.inbox_rows(), self.store.outbox_rows());
        if inbox >= storage.inbox_rows {
            return short("inbox full", format!("{inbox} rows"));
        }
        if outbox >= mqtt.outbox_rows {
            return short("outbox full", format!("{outbox} rows"));
        }
        match free_bytes(&storage.path) {
            Ok(free) if free >= storage.free_min.as_u64() => Ok(()),
            Ok(free) => short("low disk space", format!("{free} bytes free")),
            Err(error) => Err(Refused::Failed(format!("asking for free space: {error}"))),
        }
    }

    /// Everything that was looked at; `engine` says why nothing is read, where nothing is.
    #[must_use]
    pub fn checks(&self, engine: Option<&str>) -> Vec<Check> {
        let stuck = self.pulses.stuck();
        let stuck = (!stuck.is_empty()).then(|| format!("expected to turn: {}", stuck.join(", ")));
        let broker = (self.metrics.mqtt_connected.get() == 0).then(|| "not connected".to_owned());
        let alarms: Vec<&str> = self.alarms.raised().into_keys().map(AlarmKind::name).collect();
        let alarms = (!alarms.is_empty()).then(|| alarms.join(", "));
        let store = self.store.trusted().err().map(|e| e.to_string());
        [
            ("engine", engine.map(str::to_owned)),
            ("room", self.admit().err().map(|e| e.to_string())),
            ("store", store),
            ("loops", stuck),
            ("broker", broker),
            ("alarms", alarms),
        ]
        .map(|(name, reason)| Check { name, ok: reason.is_none(), reason })
        .into()
    }

    /// Can images be received and read?
    #[must_use]
    pub fn ready(checks: &[Check]) -> bool {
        checks.iter().all(|check| check.ok || !READY.contains(&check.name))
    }

    /// Payload of `health`; `engine` says why nothing is read, where nothing is.
    #[must_use]
    pub fn summary(&self, engine: Option<&str>) -> Value {
        let checks = self.checks(engine);
        let levels = self.levels(engine);
        json!({
            "ok": checks.iter().all(|check| check.ok),
            "checks": checks,
            "uptime_s": self.clock.monotonic().duration_since(self.started).as_secs(),
            "outbox": {"depth": levels.outbox_depth, "oldest_s": levels.outbox_oldest_s},
            "disk_free_bytes": levels.free_bytes,
            "readings": levels.records,
            "board": levels.board,
            "certificate_days": self.certificate_days(),
        })
    }

    /// Days until the first of this unit's own certificates ends; none where it has none.
    fn certificate_days(&self) -> Option<i64> {
        let ends = self.certificate_files().filter_map(|file| tls::expires(file).ok());
        ends.map(|end| (end - self.clock.now()).num_days()).min()
    }

    /// Files of this unit's own certificates.
    fn certificate_files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.config.dicom.scp.tls.cert_file, &self.config.mqtt.cert_file];
        files.into_iter().map(PathBuf::as_path).filter(|file| !file.as_os_str().is_empty())
    }

    /// An image of a patient was accepted now.
    pub fn heard(&self) {
        let after = self.clock.monotonic().duration_since(self.started).as_secs();
        self.received.store(after + 1, Ordering::Relaxed);
    }

    /// Seconds since the last image of a patient; none where none came since the start.
    #[must_use]
    pub fn idle_s(&self) -> Option<u64> {
        let heard = self.received.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.clock.monotonic().duration_since(self.started).as_secs().saturating_sub(heard))
    }

    /// What is asked when somebody looks.
    #[must_use]
    pub fn levels(&self, engine: Option<&str>) -> Levels {
        let now = self.clock.now();
        let oldest = self.store.oldest_message().ok().flatten();
        let oldest_s = oldest.map_or(0, |time| (now - time).num_seconds().max(0));
        Levels {
            outbox_depth: self.store.outbox_rows(),
            outbox_oldest_s: u64::try_from(oldest_s).unwrap_or(0),
            inbox_depth: self.store.inbox_rows(),
            records: self.store.readings(),
            free_bytes: free_bytes(&self.config.storage.path).unwrap_or(0),
            sequence: self.store.last_sequence(),
            selftest: engine.is_none(),
            alarms: self.alarms.raised().into_keys().map(AlarmKind::name).collect(),
            board: Board::read(Path::new("/")),
        }
    }

    /// Raises and clears the alarms that follow from what is seen now.
    pub fn look(&self, engine: Option<&str>) {
        let (storage, mqtt) = (&self.config.storage, &self.config.mqtt);
        let free = free_bytes(&storage.path).ok();
        let low = free.filter(|free| *free < storage.free_min.as_u64()).map(|free| {
            format!(
                "expected at least {} free, found {free} bytes: senders are told to come back",
                storage.free_min
            )
        });
        self.alarms.set(AlarmKind::DiskLow, low);
        let rows = self.store.outbox_rows();
        // Raised at one level and cleared at a lower one, so that it does not flutter.
        let tenths = OUTBOX_ALARM_TENTHS
            - usize::from(self.alarms.raised().contains_key(&AlarmKind::Outbox));
        let full = (rows * 10 >= mqtt.outbox_rows * tenths).then(|| {
            format!("expected fewer than {} messages that wait, found {rows}", mqtt.outbox_rows)
        });
        self.alarms.set(AlarmKind::Outbox, full);
        self.alarms.set(AlarmKind::Selftest, engine.map(str::to_owned));
        self.alarms.set(AlarmKind::Certificate, self.certificates());
        self.look_at(&Board::read(Path::new("/")));
    }

    /// A board that stays throttled reads more slowly than it was measured to.
    fn look_at(&self, board: &Board) {
        let before = self.throttled.load(Ordering::Relaxed);
        let looks = if board.throttled.is_empty() {
            before.saturating_sub(1)
        } else {
            (before + 1).min(THROTTLED_LOOKS)
        };
        self.throttled.store(looks, Ordering::Relaxed);
        if looks == THROTTLED_LOOKS {
            let text = format!(
                "expected a board at full speed, found it slowed down: {}, hottest zone {:.0} C",
                board.throttled.join(", "),
                board.hottest_c().unwrap_or(f64::NAN)
            );
            self.alarms.set(AlarmKind::GpuThrottle, Some(text));
        } else if looks == 0 {
            self.alarms.set(AlarmKind::GpuThrottle, None);
        }
    }

    /// What is wrong with this unit's own certificates, or soon will be.
    fn certificates(&self) -> Option<String> {
        self.certificate_files().find_map(|file| {
            match tls::expires(file) {
                Ok(end) if end - self.clock.now() > CERTIFICATE_NOTICE => None,
                Ok(end) => Some(format!(
                    "certificate {}: expected one that is good for {} days more, found one that ends {}",
                    file.display(),
                    CERTIFICATE_NOTICE.num_days(),
                    rfc3339(end)
                )),
                Err(error) => Some(error.to_string()),
            }
        })
    }
}

/// Free bytes of the file system under `path`, for one who is not root.
fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
