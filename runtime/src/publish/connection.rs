//! One connection to the broker, from CONNECT to its first error.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, LastWill, LastWillProperties, Packet, PubAck, PubAckReason, PublishProperties,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Former, Message, PublishError, Publisher, status_payload};
use crate::id::MessageId;
use crate::store::record::{DeviceChannel, OutboxRow, State, VALUE_VERSION, What};

/// Bytes of a PUBLISH beside its body: topic, properties and header of ours have less than 700.
const PUBLISH_OVERHEAD: usize = 1024;

/// What the poller hands over: an event, or the error that ended it.
type Polled = Result<Event, String>;

/// A row that was handed to the client.
#[derive(Debug, Clone)]
struct Sent {
    sequence: u64,
    what: What,
}

/// Publishes over one connection; returns `Ok` after a clean stop.
pub(super) async fn serve(
    publisher: &mut Publisher,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), PublishError> {
    let (client, events) = connect(publisher)?;
    let window = usize::from(publisher.mqtt.inflight);
    let (sender, mut polled) = mpsc::channel(4 * window);
    // Alone in a task of its own and never cancelled: what it holds must not be torn.
    let poller: JoinHandle<()> = tokio::spawn(poll(events, sender));
    let outcome = async {
        let window = greeted(&mut polled, window).await?;
        tracing::info!(broker = %publisher.mqtt.url, "connected");
        let mut session = Session {
            publisher,
            client: &client,
            window,
            handed: VecDeque::new(),
            unacknowledged: HashMap::new(),
            too_large: BTreeSet::new(),
            taken: 0,
        };
        session.birth()?;
        session.run(&mut polled, stop).await
    }
    .await;
    drop(polled);
    poller.abort();
    outcome
}

/// Waits for the CONNACK; gives the window that the broker allows.
async fn greeted(
    polled: &mut mpsc::Receiver<Polled>,
    window: usize,
) -> Result<usize, PublishError> {
    loop {
        match polled.recv().await {
            Some(Ok(Event::Incoming(Packet::ConnAck(ConnAck { properties, .. })))) => {
                let allowed =
                    properties.and_then(|p| p.receive_max).map_or(usize::MAX, usize::from);
                return Ok(window.min(allowed));
            }
            Some(Ok(_)) => {}
            Some(Err(text)) => return Err(PublishError::Connection(text)),
            None => return Err(PublishError::Connection("the event loop ended".into())),
        }
    }
}

/// Polls until the first error or until nobody listens.
async fn poll(mut events: EventLoop, sender: mpsc::Sender<Polled>) {
    loop {
        let event = events.poll().await.map_err(|e| e.to_string());
        let ended = event.is_err();
        if sender.send(event).await.is_err() || ended {
            return;
        }
    }
}

fn connect(publisher: &Publisher) -> Result<(AsyncClient, EventLoop), PublishError> {
    let mqtt = &publisher.mqtt;
    let (host, port) = mqtt.address().map_err(PublishError::Connection)?;
    let mut options =
        MqttOptions::new(format!("{}-out", publisher.device.identity.name), host, port);
    let packet_max = u32::try_from(mqtt.max_packet.as_u64()).unwrap_or(u32::MAX);
    options
        .set_keep_alive(mqtt.keep_alive)
        .set_clean_start(true)
        .set_session_expiry_interval(Some(seconds(mqtt.session_expiry)))
        .set_max_packet_size(Some(packet_max))
        .set_outgoing_inflight_upper_limit(mqtt.inflight)
        .set_last_will(will(publisher));
    Ok(AsyncClient::new(options, usize::from(mqtt.inflight)))
}

fn will(publisher: &Publisher) -> LastWill {
    let message = publisher.former().will(publisher.clock.now(), publisher.device.boot);
    let properties = LastWillProperties {
        delay_interval: Some(seconds(publisher.mqtt.will_delay)),
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some(message.content_type),
        response_topic: None,
        correlation_data: None,
        user_properties: message.properties,
    };
    LastWill::new(message.topic.to_string(), message.body, QoS::AtLeastOnce, true, Some(properties))
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

impl Publisher {
    fn former(&self) -> Former<'_> {
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

/// What is on the wire.
struct Session<'a> {
    publisher: &'a mut Publisher,
    client: &'a AsyncClient,
    window: usize,
    /// Handed to the client, no packet id yet.
    handed: VecDeque<Sent>,
    /// On the wire by packet id.
    unacknowledged: HashMap<u16, Sent>,
    /// Rows whose message the broker would never take.
    too_large: BTreeSet<u64>,
    /// Last sequence number that was taken from the outbox.
    taken: u64,
}

impl Session<'_> {
    /// Says that the device is here, and what it is.
    fn birth(&mut self) -> Result<(), PublishError> {
        let publisher = &mut *self.publisher;
        // A broker that takes connections and no messages must not fill the outbox with births.
        if let Some(born) = publisher.born
            && publisher.store.queued(born)?
        {
            return Ok(());
        }
        let online = status_payload("online", publisher.clock.now(), publisher.device.boot);
        publisher.born = Some(publisher.enqueue(DeviceChannel::Status, online)?);
        let about = publisher.about.borrow_and_update().clone();
        publisher.enqueue(DeviceChannel::About, about)?;
        let health = (publisher.health)();
        publisher.enqueue(DeviceChannel::Health, health)?;
        Ok(())
    }

    async fn run(
        &mut self,
        polled: &mut mpsc::Receiver<Polled>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), PublishError> {
        let mut health = tokio::time::interval(self.publisher.mqtt.health_period);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        health.tick().await;
        let doorbell = self.publisher.doorbell.clone();
        let mut deadline: Option<Instant> = None;
        loop {
            self.fill()?;
            if deadline.is_some() && self.handed.is_empty() && self.unacknowledged.is_empty() {
                return self.leave(polled).await;
            }
            let over = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = polled.recv() => match event {
                    Some(Ok(event)) => self.handle(event)?,
                    Some(Err(text)) => return Err(PublishError::Connection(text)),
                    None => return Err(PublishError::Connection("the event loop ended".into())),
                },
                () = doorbell.notified() => {}
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
                () = over => return self.leave(polled).await,
            }
        }
    }

    /// Hands rows to the client while fewer than the window are unacknowledged.
    fn fill(&mut self) -> Result<(), PublishError> {
        let free = self.window.saturating_sub(self.handed.len() + self.unacknowledged.len());
        if free == 0 {
            return Ok(());
        }
        let publisher = &*self.publisher;
        for (sequence, row) in block_in_place(|| publisher.store.outbox_after(self.taken, free))? {
            let Some(message) =
                block_in_place(|| publisher.former().message(sequence, &row, &publisher.store))?
            else {
                // What it spoke of is no longer kept: nobody can be told any more.
                tracing::warn!(sequence, "a message without its record was dropped");
                block_in_place(|| publisher.store.delivered(sequence, None))?;
                self.taken = sequence;
                continue;
            };
            let bytes = message.body.len() + PUBLISH_OVERHEAD;
            if bytes as u64 > publisher.mqtt.max_packet.as_u64() {
                if self.too_large.insert(sequence) {
                    tracing::error!(sequence, bytes, limit = %publisher.mqtt.max_packet, "a message is too large for the broker and stays in the outbox");
                }
                self.taken = sequence;
                continue;
            }
            if !hand_over(self.client, message) {
                break;
            }
            self.taken = sequence;
            self.handed.push_back(Sent { sequence, what: row.what });
        }
        Ok(())
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
                match reason {
                    // Nobody listens now; the message can be formed again from its record.
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                        self.delivered(&sent)
                    }
                    other @ (PubAckReason::UnspecifiedError
                    | PubAckReason::ImplementationSpecificError
                    | PubAckReason::NotAuthorized
                    | PubAckReason::TopicNameInvalid
                    | PubAckReason::PacketIdentifierInUse
                    | PubAckReason::QuotaExceeded
                    | PubAckReason::PayloadFormatInvalid) => Err(PublishError::Denied {
                        sequence: sent.sequence,
                        reason: format!("{other:?}"),
                    }),
                }
            }
            Event::Incoming(Packet::Disconnect(disconnect)) => Err(PublishError::Connection(
                format!("disconnected by the broker: {:?}", disconnect.reason_code),
            )),
            Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
        }
    }

    /// Removes an acknowledged row. With an exam's report the exam counts as published.
    fn delivered(&self, sent: &Sent) -> Result<(), PublishError> {
        let store = &self.publisher.store;
        let time = self.publisher.clock.now();
        let published = |what| OutboxRow { v: VALUE_VERSION, what, time };
        let next = match &sent.what {
            What::Report { exam, revision } => block_in_place(|| store.revision(exam, *revision))?
                .map(|record| {
                    let image = record.images.last().map_or_else(String::new, |i| i.name.clone());
                    let instance = record.instance;
                    published(What::State {
                        exam: exam.clone(),
                        image,
                        instance,
                        state: State::Published,
                        reason: None,
                    })
                }),
            What::State { .. }
            | What::Gate { .. }
            | What::Findings { .. }
            | What::Device { .. } => None,
        };
        Ok(block_in_place(|| store.delivered(sent.sequence, next.as_ref()))?)
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
