//! How the device is doing: a summary for the broker, and whether another object may be taken.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::Refused;
use crate::store::Store;

/// Watches disk, inbox and outbox.
pub struct Health {
    config: Arc<Config>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    started: Instant,
}

impl Health {
    /// Begins to count the up-time.
    #[must_use]
    pub fn new(config: Arc<Config>, store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        let started = clock.monotonic();
        Self { config, store, clock, started }
    }

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

    /// Payload of `health`; `engine` says why nothing is read, where nothing is.
    #[must_use]
    pub fn summary(&self, engine: Option<&str>) -> Value {
        let room = self.admit();
        let oldest = self.store.oldest_message();
        let now = self.clock.now();
        let oldest_s =
            oldest.as_ref().ok().and_then(|t| *t).map_or(0, |t| (now - t).num_seconds().max(0));
        let free = free_bytes(&self.config.storage.path).unwrap_or(0);
        let checks = [
            ("engine", engine.map(str::to_owned)),
            ("room", room.err().map(|e| e.to_string())),
            ("store", oldest.err().map(|e| e.to_string())),
        ];
        let ok = checks.iter().all(|(_, reason)| reason.is_none());
        let checks: Vec<Value> = checks
            .into_iter()
            .map(|(name, reason)| match reason {
                None => json!({"name": name, "ok": true}),
                Some(reason) => json!({"name": name, "ok": false, "reason": reason}),
            })
            .collect();
        json!({
            "ok": ok,
            "checks": checks,
            "uptime_s": self.clock.monotonic().duration_since(self.started).as_secs(),
            "outbox": {"depth": self.store.outbox_rows(), "oldest_s": oldest_s},
            "disk_free_bytes": free,
            "readings": self.store.readings(),
        })
    }
}

/// Free bytes of the file system under `path`, for one who is not root.
fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
