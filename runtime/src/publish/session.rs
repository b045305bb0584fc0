//! What is on the wire of one connection: rows handed over, acknowledged, denied, waited for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, Event};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{Polled, seconds};
use super::{Former, Message, PublishError, Publisher, delivered, status_payload};
use crate::alarm::AlarmKind;
use crate::id::MessageId;
use crate::store::record::{DeviceChannel, OutboxRow, VALUE_VERSION, What};
use crate::tls::{Files, Stamp};

/// Bytes of a PUBLISH beside its body: topic, properties and header of ours have less than 700.
const PUBLISH_OVERHEAD: usize = 1024;

/// How often is looked for what takes too long.
const TICK: Duration = Duration::from_secs(1);

/// A row that was handed to the client.
#[derive(Debug, Clone)]
struct Sent {
    sequence: u64,
    id: MessageId,
    what: What,
    since: Instant,
}

/// What is on the wire.
pub(super) struct Session<'a> {
    publisher: &'a mut Publisher,
    client: &'a AsyncClient,
    window: usize,
    packet_max: u64,
    /// What the files of certificates were when the connection was made.
    certificates: Stamp,
    /// Handed to the client, no packet id yet.
    handed: VecDeque<Sent>,
    /// On the wire by packet id.
    unacknowledged: HashMap<u16, Sent>,
    /// Rows that the broker denied; from time to time the first of them is tried again.
    denied: VecDeque<u64>,
    /// When that is, and how long it will be to the next time.
    probe: Option<(Instant, Duration)>,
    /// The one that is being tried again.
    probing: Option<u64>,
    /// Rows that are to be sent (again) before those after `taken`.
    again: BTreeSet<u64>,
    /// Last sequence number that was taken from the outbox.
    taken: u64,
}

impl Publisher {
    pub(super) fn former(&self) -> Former<'_> {
        Former { device: &self.device, mqtt: &self.mqtt, software: &self.software }
    }

    /// Queues a message of the device itself.
    fn enqueue(
        &self,
        channel: DeviceChannel,
        payload: serde_json::Value,
    ) -> Result<u64, PublishError> {
        let what = What::Device { channel, id: MessageId::new(), payload };
        let row = OutboxRow { v: VALUE_VERSION, what, time: self.clock.now() };
        Ok(block_in_place(|| self.store.enqueue(&row))?)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        publisher: &'a mut Publisher,
        client: &'a AsyncClient,
        window: usize,
        packet_max: u64,
        certificates: Stamp,
    ) -> Self {
        // After a broken acknowledgement one row at a time, so that the next one has a culprit.
        let window = if publisher.memory.careful { 1 } else { window };
        Self {
            publisher,
            client,
            window,
            packet_max,
            certificates,
            handed: VecDeque::new(),
            unacknowledged: HashMap::new(),
            denied: VecDeque::new(),
            probe: None,
            probing: None,
            again: BTreeSet::new(),
            taken: 0,
        }
    }

    /// Says that the device is here, and what it is.
    pub(super) fn birth(&mut self) -> Result<(), PublishError> {
        let publisher = &mut *self.publisher;
        // A broker that takes connections and no messages must not fill the outbox with births.
        if let Some(born) = publisher.memory.born
            && publisher.store.queued(born)?
        {
            return Ok(());
        }
        let online = status_payload("online", publisher.clock.now(), publisher.device.boot);
        publisher.memory.born = Some(publisher.enqueue(DeviceChannel::Status, online)?);
        let about = publisher.about.borrow_and_update().clone();
        publisher.enqueue(DeviceChannel::About, about)?;
        let health = (publisher.health)();
        publisher.enqueue(DeviceChannel::Health, health)?;
        Ok(())
    }

    pub(super) async fn run(
        &mut self,
        polled: &mut mpsc::Receiver<Polled>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), PublishError> {
        let mut health = tokio::time::interval(self.publisher.mqtt.health_period);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        health.tick().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (doorbell, retry) = (self.publisher.doorbell.clone(), self.publisher.retry.clone());
        let mut deadline: Option<Instant> = None;
        loop {
            self.fill()?;
            let idle = self.handed.is_empty() && self.unacknowledged.is_empty();
            if deadline.is_some_and(|over| idle || over <= Instant::now()) {
                return self.leave(polled).await;
            }
            tokio::select! {
                event = polled.recv() => match event {
                    Some(Ok(event)) => self.handle(event)?,
                    Some(Err(error)) => return Err(self.blamed(error)),
                    None => return Err(PublishError::Connection("the event loop ended".into())),
                },
                () = doorbell.notified() => {}
                () = retry.notified() => {
                    self.publisher.memory.held.clear();
                    return Err(PublishError::Connection("asked to try everything again".into()));
                }
                _ = tick.tick() => self.tick()?,
                _ = health.tick() => {
                    let payload = (self.publisher.health)();
                    self.publisher.enqueue(DeviceChannel::Health, payload)?;
                }
                changed = self.publisher.about.changed(), if deadline.is_none() => {
                    if changed.is_ok() {
                        let about = self.publisher.about.borrow_and_update().clone();
                        self.publisher.enqueue(DeviceChannel::About, about)?;
                    }
                }
                _ = stop.changed(), if deadline.is_none() => {
                    let payload = status_payload("stopped", self.publisher.clock.now(), self.publisher.device.boot);
                    self.publisher.enqueue(DeviceChannel::Status, payload)?;
                    deadline = Some(Instant::now() + self.publisher.mqtt.drain);
                }
            }
        }
    }

    /// Looks for what takes too long.
    fn tick(&mut self) -> Result<(), PublishError> {
        self.publisher.pulse.promise(self.publisher.mqtt.retry_max);
        let (now, most) = (Instant::now(), self.publisher.mqtt.ack_timeout);
        let waiting = self.handed.iter().chain(self.unacknowledged.values());
        if waiting.clone().any(|sent| now.duration_since(sent.since) > most) {
            return Err(PublishError::Connection(format!(
                "expected an acknowledgement within {most:?}, found none"
            )));
        }
        if self.publisher.mqtt.secure()
            && Files::from(&self.publisher.mqtt).changed(&self.certificates)
        {
            return Err(PublishError::Connection("its certificates were replaced".into()));
        }
        if let Some((at, wait)) = self.probe
            && at <= now
            && let Some(first) = self.denied.pop_front()
        {
            self.again.insert(first);
            self.probing = Some(first);
            self.probe = Some((now + wait, (2 * wait).min(self.publisher.mqtt.denied_retry_max)));
        }
        let wait = self.publisher.mqtt.receipt_wait;
        self.again.extend(self.publisher.receipts.overdue(self.publisher.clock.monotonic(), wait));
        Ok(())
    }

    /// Hands rows to the client while fewer than the window are unacknowledged.
    fn fill(&mut self) -> Result<(), PublishError> {
        while self.handed.len() + self.unacknowledged.len() < self.window {
            if let Some(sequence) = self.again.first().copied() {
                let row = block_in_place(|| self.publisher.store.message(sequence))?;
                if let Some(row) = row
                    && !self.hand(sequence, row)?
                {
                    return Ok(());
                }
                self.again.remove(&sequence);
                continue;
            }
            let free = self.window - (self.handed.len() + self.unacknowledged.len());
            let rows = block_in_place(|| self.publisher.store.outbox_after(self.taken, free))?;
            if rows.is_empty() {
                return Ok(());
            }
            for (sequence, row) in rows {
                if !self.hand(sequence, row)? {
                    return Ok(());
                }
                self.taken = sequence;
            }
        }
        Ok(())
    }

    /// Hands one row to the client; false where it takes no more now.
    fn hand(&mut self, sequence: u64, row: OutboxRow) -> Result<bool, PublishError> {
        if self.publisher.memory.held.contains(&sequence) {
            return Ok(true);
        }
        let publisher = &*self.publisher;
        let formed =
            block_in_place(|| publisher.former().message(sequence, &row, &publisher.store));
        let Some(message) = formed? else {
            // What it spoke of is no longer kept: nobody can be told any more.
            tracing::warn!(sequence, "a message without its record was dropped");
            block_in_place(|| publisher.store.delivered(sequence, None))?;
            return Ok(true);
        };
        let bytes = (message.body.len() + PUBLISH_OVERHEAD) as u64;
        if bytes > self.packet_max {
            let text =
                format!("expected a message of at most {} bytes, found {bytes}", self.packet_max);
            self.hold(sequence, &text);
            return Ok(true);
        }
        let id = message.id;
        if !hand_over(self.client, message) {
            return Ok(false);
        }
        if super::wants_receipt(&row.what) {
            publisher.receipts.expect(id, sequence, &row.what, publisher.clock.monotonic());
        }
        self.handed.push_back(Sent { sequence, id, what: row.what, since: Instant::now() });
        Ok(true)
    }

    /// Keeps a row back that this broker will not take, until somebody asks for another try.
    fn hold(&mut self, sequence: u64, text: &str) {
        tracing::error!(sequence, text, "a message stays in the outbox");
        self.publisher.memory.held.insert(sequence);
        self.publisher.denied(sequence, text);
    }

    /// A reason code that the client library does not know ends the connection and does not say
    /// whose it was (mosquitto's 0x95, packet too large). Of one row at a time it is clear.
    fn blamed(&mut self, error: PublishError) -> PublishError {
        if matches!(error, PublishError::UnknownReason(_)) {
            let only = self.unacknowledged.values().map(|sent| sent.sequence).min();
            if let Some(sequence) = only.filter(|_| self.publisher.memory.careful) {
                self.hold(sequence, &error.to_string());
            }
            self.publisher.memory.careful = true;
        }
        error
    }

    fn handle(&mut self, event: Event) -> Result<(), PublishError> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                let Some(sent) = self.handed.pop_front() else {
                    return Err(PublishError::Connection(
                        "a packet was sent that nobody handed over".into(),
                    ));
                };
                // At most once: on the wire is as far as it is followed.
                if packet == 0 {
                    self.delivered(&sent)
                } else {
                    self.unacknowledged.insert(packet, sent);
                    Ok(())
                }
            }
            Event::Incoming(Packet::PubAck(PubAck { pkid, reason, .. })) => {
                let Some(sent) = self.unacknowledged.remove(&pkid) else {
                    return Err(PublishError::Connection("an acknowledgement for nothing".into()));
                };
                self.acknowledged(&sent, reason)
            }
            Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
        }
    }

    fn acknowledged(&mut self, sent: &Sent, reason: PubAckReason) -> Result<(), PublishError> {
        self.publisher.metrics.delivery(&format!("{reason:?}"));
        match reason {
            // Nobody listens now; the message can be formed again from its record.
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                // The one that was tried again got through: so may the others.
                if self.probing == Some(sent.sequence) {
                    self.again.extend(self.denied.drain(..));
                    (self.probe, self.probing) = (None, None);
                }
                if self.publisher.receipts.waits_for(sent.id) {
                    return Ok(());
                }
                self.delivered(sent)
            }
            // The broker has enough of everything for now: so the connection ends, and waits.
            PubAckReason::QuotaExceeded => Err(PublishError::Refused(format!("{reason:?}"))),
            PubAckReason::UnspecifiedError
            | PubAckReason::ImplementationSpecificError
            | PubAckReason::NotAuthorized
            | PubAckReason::TopicNameInvalid
            | PubAckReason::PacketIdentifierInUse
            | PubAckReason::PayloadFormatInvalid => {
                let text = format!("expected the broker to take a message, found {reason:?}");
                tracing::warn!(sequence = sent.sequence, text, "a message stays in the outbox");
                self.publisher.denied(sent.sequence, &text);
                self.denied.push_back(sent.sequence);
                let first = self.publisher.mqtt.retry_first;
                self.probe.get_or_insert((Instant::now() + first, 2 * first));
                Ok(())
            }
        }
    }

    fn delivered(&mut self, sent: &Sent) -> Result<(), PublishError> {
        let publisher = &mut *self.publisher;
        block_in_place(|| {
            delivered(
                &publisher.store,
                publisher.clock.as_ref(),
                &publisher.metrics,
                sent.sequence,
                &sent.what,
            )
        })?;
        if publisher.memory.denied_until.is_some() {
            let oldest = block_in_place(|| publisher.store.oldest_sequence())?;
            if publisher.memory.denied_until < oldest || oldest.is_none() {
                publisher.memory.denied_until = None;
                block_in_place(|| publisher.alarms.clear(AlarmKind::BrokerDenied));
            }
        }
        Ok(())
    }

    /// Disconnects, so that the broker does not publish the will.
    async fn leave(&mut self, polled: &mut mpsc::Receiver<Polled>) -> Result<(), PublishError> {
        if self.client.try_disconnect().is_ok() {
            // The poller ends with an error once the packet is out; a second is plenty.
            let ended = async { while let Some(Ok(_)) = polled.recv().await {} };
            if tokio::time::timeout(Duration::from_secs(1), ended).await.is_err() {
                tracing::debug!("the broker did not close in time");
            }
        }
        Ok(())
    }
}

/// Puts a message into the client's queue; false where it is full.
fn hand_over(client: &AsyncClient, message: Message) -> bool {
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: message.expiry.map(seconds),
        correlation_data: message.correlation.map(|key| key.into_bytes().into()),
        user_properties: message.properties,
        content_type: Some(message.content_type),
        ..PublishProperties::default()
    };
    let qos = if message.at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client
        .try_publish_with_properties(
            message.topic.to_string(),
            qos,
            message.retain,
            message.body,
            properties,
        )
        .is_ok()
}
