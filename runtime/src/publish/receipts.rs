//! Consumer receipts: a broker's acknowledgement says that the broker has a message, not that
//! anybody else does. A broker that is killed may lose what it acknowledged.
//!
//! Where consumers are configured, a findings or report row stays in the outbox until each of
//! them has said that it has the message durably. What they said is held in memory only: after a
//! restart the message is sent again, and consumers confirm every copy.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::block_in_place;

use super::{PublishError, connection, delivered};
use crate::clock::Clock;
use crate::config::Mqtt;
use crate::device::Identity;
use crate::id::MessageId;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::record::What;

/// Longest receipt that is looked at, bytes: two names.
const RECEIPT_BYTES_MAX: usize = 1024;

/// Payload of `receipt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message that arrived.
    pub id: MessageId,
    /// Who has it durably.
    pub consumer: String,
}

/// Which messages wait for whom.
#[derive(Debug)]
pub struct Receipts {
    consumers: BTreeSet<String>,
    waiting: Mutex<HashMap<MessageId, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    sequence: u64,
    what: What,
    missing: BTreeSet<String>,
    sent: Instant,
}

impl Receipts {
    /// Waits for these consumers; for nobody where there are none.
    #[must_use]
    pub fn new(consumers: &[String]) -> Self {
        Self { consumers: consumers.iter().cloned().collect(), waiting: Mutex::default() }
    }

    /// Is anybody waited for at all?
    #[must_use]
    pub fn wanted(&self) -> bool {
        !self.consumers.is_empty()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<MessageId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message goes out; who has confirmed it before need not do so again.
    pub(super) fn expect(&self, id: MessageId, sequence: u64, what: &What, now: Instant) {
        if self.wanted() {
            let missing = self.consumers.clone();
            let new = Waiting { sequence, what: what.clone(), missing, sent: now };
            self.waiting().entry(id).or_insert(new).sent = now;
        }
    }

    /// Is a receipt for this message missing?
    pub(super) fn waits_for(&self, id: MessageId) -> bool {
        self.waiting().contains_key(&id)
    }

    /// Rows without a receipt for so long that they are sent again.
    pub(super) fn overdue(&self, now: Instant, wait: Duration) -> Vec<u64> {
        let mut waiting = self.waiting();
        let late = waiting.values_mut().filter(|w| now.duration_since(w.sent) > wait);
        late.map(|waiting| {
            waiting.sent = now;
            waiting.sequence
        })
        .collect()
    }

    /// A consumer has a message; gives its row when it was the last one missing.
    fn came(&self, receipt: &Receipt) -> Option<(u64, What)> {
        let mut all = self.waiting();
        let waiting = all.get_mut(&receipt.id)?;
        waiting.missing.remove(&receipt.consumer);
        if !waiting.missing.is_empty() {
            return None;
        }
        all.remove(&receipt.id).map(|waiting| (waiting.sequence, waiting.what))
    }
}

/// Takes receipts from the broker by a connection of its own, which publishes nothing.
pub struct Listener {
    /// Who is waited for.
    pub receipts: Arc<Receipts>,
    /// Where rows leave.
    pub store: Arc<Store>,
    /// The broker.
    pub mqtt: Mqtt,
    /// Whose receipts.
    pub identity: Identity,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Rung when a row was added: what followed from a receipt goes out too.
    pub doorbell: Arc<Notify>,
}

impl Listener {
    /// Listens until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        if !self.receipts.wanted() {
            return;
        }
        let mut wait = self.mqtt.retry_first;
        loop {
            let listening = async {
                let (client, events) = self.connect()?;
                self.listen(&client, events, &mut wait).await
            };
            // Dropping this connection harms nothing: the broker keeps its session.
            tokio::select! {
                ended = listening => if let Err(error) = ended {
                    tracing::debug!(%error, "no receipts");
                },
                _ = stop.changed() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => return,
            }
            wait = super::next_wait(wait, self.mqtt.retry_max);
        }
    }

    fn connect(&self) -> Result<(AsyncClient, EventLoop), PublishError> {
        let mut options = connection::options(
            &self.mqtt,
            format!("{}-in", self.identity.name),
            self.clock.as_ref(),
        )?;
        options.set_clean_start(false).set_session_expiry_interval(Some(SESSION_EXPIRY_S));
        Ok(AsyncClient::new(options, usize::from(self.mqtt.inflight)))
    }

    async fn listen(
        &self,
        client: &AsyncClient,
        mut events: EventLoop,
        wait: &mut Duration,
    ) -> Result<(), PublishError> {
        let failed = |text: String| PublishError::Connection(text);
        loop {
            match events.poll().await.map_err(|e| failed(e.to_string()))? {
                Event::Incoming(Packet::ConnAck(_)) => {
                    let Identity { site, name, .. } = &self.identity;
                    let filter = format!("{}/{site}/{name}/exam/+/receipt", self.mqtt.root);
                    client
                        .try_subscribe(filter, QoS::AtLeastOnce)
                        .map_err(|e| failed(e.to_string()))?;
                    *wait = self.mqtt.retry_first;
                }
                Event::Incoming(Packet::Publish(publish))
                    if publish.payload.len() <= RECEIPT_BYTES_MAX =>
                {
                    match serde_json::from_slice(&publish.payload) {
                        Ok(receipt) => self.take(&receipt)?,
                        Err(_) => tracing::warn!(
                            "expected a receipt with id and consumer, found another message"
                        ),
                    }
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }

    fn take(&self, receipt: &Receipt) -> Result<(), PublishError> {
        if let Some((sequence, what)) = self.receipts.came(receipt) {
            block_in_place(|| {
                delivered(&self.store, self.clock.as_ref(), &self.metrics, sequence, &what)
            })?;
            self.doorbell.notify_one();
        }
        Ok(())
    }
}

/// A broker keeps receipts for a unit that is offline as long as the unit keeps no more than a day
/// of messages retained.
const SESSION_EXPIRY_S: u32 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_row_waits_for_every_consumer_and_for_nobody_else() {
        let receipts = Receipts::new(&["ris".into(), "wall".into()]);
        let (id, now) = (MessageId::new(), SystemClock.monotonic());
        let exam = "mfrggzdfmztwq2lknnwg23tpob".parse().expect("a key");
        let what = What::Report { exam, revision: 1 };
        receipts.expect(id, 7, &what, now);
        assert!(receipts.waits_for(id) && !receipts.waits_for(MessageId::new()));
        let from = |consumer: &str| Receipt { id, consumer: consumer.into() };
        assert_eq!(receipts.came(&from("stranger")), None);
        assert_eq!(receipts.came(&from("ris")), None);
        // Sent again, what was confirmed stays confirmed.
        receipts.expect(id, 7, &what, now);
        assert_eq!(receipts.overdue(now + Duration::from_secs(9), Duration::from_secs(5)), [7]);
        assert_eq!(receipts.came(&from("wall")), Some((7, what)));
        assert!(!receipts.waits_for(id));
        assert_eq!(receipts.came(&from("wall")), None);
    }
}
