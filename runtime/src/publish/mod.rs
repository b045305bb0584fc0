//! From the outbox to MQTT 5: nothing leaves it before its PUBACK with a success reason code.
//!
//! Every connection has a new client and a new event loop. The client library clears or re-sends
//! its pending messages wrongly over a reconnect; the outbox on disk is the queue, so on an error
//! everything in memory is thrown away and the next connection begins at the oldest row.

mod connection;
mod message;
mod payload;
mod receipts;
mod session;
pub mod subscribe;
mod topic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng};
use rand_pcg::Pcg32;
use rumqttc::{TlsConfiguration, Transport};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::block_in_place;

use crate::alarm::{AlarmKind, Alarms};
use crate::clock::Clock;
use crate::config::Mqtt;
use crate::device::Device;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::store::record::{OutboxRow, Software, State, VALUE_VERSION, What};
use crate::store::{Store, StoreError};
use crate::tls::{self, Files, TlsError};

pub use message::{Former, Message, status_payload};
pub use receipts::{Listener, Receipt, Receipts};
pub use topic::{Channel, ExamChannel, Topic};

/// JSON Schema of every message, by its name.
pub const SCHEMAS: [(&str, &str); 11] = [
    ("envelope", include_str!("../../schemas/envelope.json")),
    ("status", include_str!("../../schemas/status.json")),
    ("about", include_str!("../../schemas/about.json")),
    ("health", include_str!("../../schemas/health.json")),
    ("update", include_str!("../../schemas/update.json")),
    ("alarm", include_str!("../../schemas/alarm.json")),
    ("state", include_str!("../../schemas/state.json")),
    ("gate", include_str!("../../schemas/gate.json")),
    ("findings", include_str!("../../schemas/findings.json")),
    ("report", include_str!("../../schemas/report.json")),
    ("receipt", include_str!("../../schemas/receipt.json")),
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
    /// Rung when somebody asks to try everything again.
    pub retry: Arc<Notify>,
    /// Payload of `about`, whenever it changes.
    pub about: watch::Receiver<Value>,
    /// Makes the payload of `health`.
    pub health: Box<dyn Fn() -> Value + Send + Sync>,
    /// Tells an operator what the broker refuses.
    pub alarms: Arc<Alarms>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What consumers have said that they have.
    pub receipts: Arc<Receipts>,
    /// Shows that this loop still turns.
    pub pulse: Pulse,
    /// What lasts over connections.
    pub memory: Memory,
}

/// What a publisher remembers from one connection to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// The last birth that was queued: while it waits, another connection queues none.
    born: Option<u64>,
    /// Rows that this broker will never take as they are.
    held: BTreeSet<u64>,
    /// One message at a time: the last connection ended with a reason code that is not known.
    careful: bool,
    /// The newest row that was denied; the alarm ends when it and all before it are delivered.
    denied_until: Option<u64>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The network or the broker.
    #[error("broker: {0}")]
    Connection(String),
    /// The broker has something against this client, or has enough for now.
    #[error("broker: expected success, found {0}")]
    Refused(String),
    /// The broker answered with a reason code that MQTT knows and the client library does not.
    #[error("broker: expected success, found reason code {0:#04x}")]
    UnknownReason(u8),
    /// Another client came with the same client id.
    #[error("broker: another client took over this unit's client id")]
    TakenOver,
    /// The outbox.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate or key.
    #[error("broker: {0}")]
    Tls(#[from] TlsError),
}

impl Publisher {
    /// Publishes until `stop` turns true and what is left was drained or `mqtt.drain` is over.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let seed = u64::from_be_bytes(
            self.device.boot.into_bytes()[..8].try_into().expect("8 of 16 bytes"),
        );
        let mut rng = Pcg32::seed_from_u64(seed);
        let mut wait = self.mqtt.retry_first;
        // Whatever the alarm was about, it is over when all that waits now is delivered.
        if self.alarms.raised().contains_key(&AlarmKind::BrokerDenied) {
            self.memory.denied_until = Some(self.store.last_sequence());
        }
        loop {
            let before = self.clock.monotonic();
            self.pulse.promise(CONNECTING);
            let ended = connection::serve(&mut self, &mut stop).await;
            let Err(error) = ended else { return };
            if *stop.borrow() {
                return;
            }
            self.judge(&error);
            // A connection that lived longer than the longest wait was a good one.
            if self.clock.monotonic().duration_since(before) > self.mqtt.retry_max {
                wait = self.mqtt.retry_first;
            }
            let jittered = wait.mul_f64(rng.random_range(0.5..1.0));
            tracing::warn!(%error, retry_in = ?jittered, outbox = self.store.outbox_rows(), "not publishing");
            self.pulse.promise(jittered);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                _ = stop.changed() => return,
            }
            wait = next_wait(wait, self.mqtt.retry_max);
        }
    }

    /// What the end of a connection means for the next one, and for an operator.
    fn judge(&mut self, error: &PublishError) {
        self.metrics.mqtt_reconnects.inc();
        self.memory.careful = matches!(error, PublishError::UnknownReason(_));
        match error {
            PublishError::Refused(_) => self.denied(0, &error.to_string()),
            PublishError::TakenOver => {
                block_in_place(|| self.alarms.raise(AlarmKind::SessionTaken, error.to_string()));
            }
            // The unit looks at its certificates by itself, and raises that alarm.
            PublishError::Tls(_)
            | PublishError::Connection(_)
            | PublishError::UnknownReason(_)
            | PublishError::Store(_) => {}
        }
    }

    /// Raises the alarm about what the broker denies; it ends with the delivery of this row.
    fn denied(&mut self, sequence: u64, text: &str) {
        self.memory.denied_until = self.memory.denied_until.max(Some(sequence));
        block_in_place(|| self.alarms.raise(AlarmKind::BrokerDenied, text));
    }
}

/// Longest time that a connection may take to begin: name, TCP, TLS and CONNACK have five seconds
/// each in the client library.
const CONNECTING: Duration = Duration::from_secs(20);
/// How a connection is made: plain, or with TLS from what its files hold now.
fn transport(mqtt: &Mqtt, clock: &dyn Clock) -> Result<Transport, TlsError> {
    if !mqtt.secure() {
        return Ok(Transport::Tcp);
    }
    let config = block_in_place(|| tls::client(&Files::from(mqtt), clock))?;
    Ok(Transport::tls_with_config(TlsConfiguration::Rustls(config)))
}

fn next_wait(wait: Duration, max: Duration) -> Duration {
    (wait * 2).min(max)
}

/// Does a consumer have to confirm this?
fn wants_receipt(what: &What) -> bool {
    match what {
        What::Findings { .. } | What::Report { .. } => true,
        What::State { .. }
        | What::Gate { .. }
        | What::Device { .. }
        | What::Alarm { .. }
        | What::Erased { .. } => false,
    }
}

/// Removes a row that has arrived. With an exam's report the exam counts as published.
fn delivered(
    store: &Store,
    clock: &dyn Clock,
    metrics: &Metrics,
    sequence: u64,
    what: &What,
) -> Result<(), StoreError> {
    let now = clock.now();
    let (kind, instance, record) = match what {
        What::Gate { instance } => ("gate", Some(*instance), None),
        What::Findings { exam, revision } => {
            let record = store.revision(exam, *revision)?;
            ("findings", record.map(|record| record.instance), None)
        }
        What::Report { exam, revision } => {
            let record = store.revision(exam, *revision)?;
            ("report", record.as_ref().map(|record| record.instance), record)
        }
        What::State { .. } | What::Device { .. } | What::Alarm { .. } | What::Erased { .. } => {
            ("", None, None)
        }
    };
    if let Some(instance) = instance
        && let Some(read) = store.record(instance)?
    {
        metrics.arrived(kind, now - read.instance.received);
    }
    let next = record.map(|record| {
        let image = record.images.last().map_or_else(String::new, |i| i.name.clone());
        let state = What::State {
            exam: record.exam,
            image,
            instance: record.instance,
            state: State::Published,
            reason: None,
        };
        OutboxRow { v: VALUE_VERSION, what: state, time: now }
    });
    store.delivered(sequence, next.as_ref())
}
