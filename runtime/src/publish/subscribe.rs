//! A subscriber of our own: what `watch` and the demo print is what came back from the broker.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{ExamChannel, Receipt, connection, transport};
use crate::clock::SystemClock;
use crate::config::Mqtt;
use crate::id::MessageId;

/// One message as it came from the broker.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its topic.
    pub topic: String,
    /// It was kept by the broker from before.
    pub retained: bool,
    /// Seconds until the broker forgets it.
    pub expiry_s: Option<u32>,
    /// The envelope.
    pub body: Vec<u8>,
}

/// Pause before another connection is tried.
const PAUSE: Duration = Duration::from_millis(500);

/// A subscriber that connects again whenever the broker comes back.
pub struct Follower {
    mqtt: Mqtt,
    client: AsyncClient,
    events: EventLoop,
    filter: String,
}

/// Waits for a broker's greeting under a name of its own, and leaves again.
///
/// # Errors
/// The configuration names no broker, it cannot be reached, or it refuses.
pub async fn greet(mqtt: &Mqtt, client_id: String) -> Result<(), String> {
    let mut options =
        connection::options(mqtt, client_id, &SystemClock).map_err(|e| e.to_string())?;
    options.set_clean_start(true);
    let (_client, mut events) = AsyncClient::new(options, 1);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Follower {
    /// Prepares a subscription to a filter; nothing is connected yet.
    ///
    /// # Errors
    /// The configuration names no broker.
    pub fn new(mqtt: &Mqtt, client_id: String, filter: String) -> Result<Self, String> {
        let mut options =
            connection::options(mqtt, client_id, &SystemClock).map_err(|e| e.to_string())?;
        options.set_clean_start(true);
        let (client, events) = AsyncClient::new(options, usize::from(mqtt.inflight));
        Ok(Self { mqtt: mqtt.clone(), client, events, filter })
    }

    /// Who says for `consumer` what it has.
    #[must_use]
    pub fn confirmer(&self, consumer: &str) -> Confirmer {
        Confirmer { client: self.client.clone(), consumer: consumer.into() }
    }

    /// Hands on what arrives, until nobody takes it.
    ///
    /// # Errors
    /// The subscription cannot be asked for.
    pub async fn run(self, messages: mpsc::Sender<Received>) -> Result<(), String> {
        let Self { mqtt, client, mut events, filter } = self;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    client
                        .try_subscribe(filter.clone(), QoS::AtLeastOnce)
                        .map_err(|e| e.to_string())?;
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let properties = publish.properties.as_ref();
                    let received = Received {
                        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                        retained: publish.retain,
                        expiry_s: properties.and_then(|p| p.message_expiry_interval),
                        body: publish.payload.to_vec(),
                    };
                    if messages.send(received).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "no broker");
                    if messages.is_closed() {
                        return Ok(());
                    }
                    tokio::time::sleep(PAUSE).await;
                    // Certificates may have been replaced since.
                    match transport(&mqtt, &SystemClock) {
                        Ok(transport) => drop(events.options.set_transport(transport)),
                        Err(error) => tracing::debug!(%error, "no broker"),
                    }
                }
            }
        }
    }
}

/// Confirms messages for one consumer.
pub struct Confirmer {
    client: AsyncClient,
    consumer: String,
}

impl Confirmer {
    /// Says that a message is kept; what is no findings or report needs no receipt.
    ///
    /// # Errors
    /// The connection takes no more: the unit sends the message again.
    pub fn confirm(&self, message: &Received) -> Result<(), String> {
        let Some((exam, "findings" | "report")) = message.topic.rsplit_once('/') else {
            return Ok(());
        };
        #[derive(Deserialize)]
        struct Named {
            id: MessageId,
        }
        let Ok(Named { id }) = serde_json::from_slice(&message.body) else { return Ok(()) };
        let receipt = Receipt { id, consumer: self.consumer.clone() };
        let body = serde_json::to_vec(&receipt).map_err(|e| e.to_string())?;
        let topic = format!("{exam}/{}", ExamChannel::Receipt.name());
        self.client.try_publish(topic, QoS::AtLeastOnce, false, body).map_err(|e| e.to_string())
    }
}
