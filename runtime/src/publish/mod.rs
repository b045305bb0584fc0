//! From the outbox to MQTT 5: nothing leaves it before its PUBACK with a success reason code.
//!
//! Every connection has a new client and a new event loop. The client library clears or re-sends
//! its pending messages wrongly over a reconnect; the outbox on disk is the queue, so on an error
//! everything in memory is thrown away and the next connection begins at the oldest row.

mod connection;
mod message;
mod payload;
pub mod subscribe;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng};
use rand_pcg::Pcg32;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::config::Mqtt;
use crate::device::Device;
use crate::store::record::Software;
use crate::store::{Store, StoreError};

pub use message::{Former, Message, status_payload};
pub use topic::{Channel, ExamChannel, Topic};

/// JSON Schema of every message, by its name.
pub const SCHEMAS: [(&str, &str); 8] = [
    ("envelope", include_str!("../../schemas/envelope.json")),
    ("status", include_str!("../../schemas/status.json")),
    ("about", include_str!("../../schemas/about.json")),
    ("health", include_str!("../../schemas/health.json")),
    ("state", include_str!("../../schemas/state.json")),
    ("gate", include_str!("../../schemas/gate.json")),
    ("findings", include_str!("../../schemas/findings.json")),
    ("report", include_str!("../../schemas/report.json")),
];

/// Everything that publishing works with.
pub struct Publisher {
    /// Holds the outbox.
    pub store: Arc<Store>,
    /// Who publishes.
    pub device: Arc<Device>,
    /// The broker.
    pub mqtt: Mqtt,
    /// What runs.
    pub software: Software,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Rung when rows were added; the outbox is the queue.
    pub doorbell: Arc<Notify>,
    /// Payload of `about`, whenever it changes.
    pub about: watch::Receiver<Value>,
    /// Makes the payload of `health`.
    pub health: Box<dyn Fn() -> Value + Send + Sync>,
    /// The last birth that was queued: while it waits, another connection queues none.
    pub born: Option<u64>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The network or the broker.
    #[error("broker: {0}")]
    Connection(String),
    /// The broker refused a message; it stays in the outbox.
    #[error("broker: expected success for message {sequence}, found {reason}")]
    Denied {
        /// Which.
        sequence: u64,
        /// MQTT 5 reason code in words.
        reason: String,
    },
    /// The outbox.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// Publishes until `stop` turns true and what is left was drained or `mqtt.drain` is over.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let seed = u64::from_be_bytes(
            self.device.boot.into_bytes()[..8].try_into().expect("8 of 16 bytes"),
        );
        let mut rng = Pcg32::seed_from_u64(seed);
        let mut wait = self.mqtt.retry_first;
        loop {
            let before = self.clock.monotonic();
            let ended = connection::serve(&mut self, &mut stop).await;
            let Err(error) = ended else { return };
            if *stop.borrow() {
                return;
            }
            // A connection that lived longer than the longest wait was a good one.
            if self.clock.monotonic().duration_since(before) > self.mqtt.retry_max {
                wait = self.mqtt.retry_first;
            }
            let jittered = wait.mul_f64(rng.random_range(0.5..1.0));
            tracing::warn!(%error, retry_in = ?jittered, outbox = self.store.outbox_rows(), "not publishing");
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                _ = stop.changed() => return,
            }
            wait = next_wait(wait, self.mqtt.retry_max);
        }
    }
}

fn next_wait(wait: Duration, max: Duration) -> Duration {
    (wait * 2).min(max)
}
