//! A subscriber of our own: what `watch` and the demo print is what came back from the broker.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;

use crate::config::Mqtt;

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

/// Subscribes to a filter and hands on what arrives, until nobody takes it; connects again
/// whenever the broker comes back.
pub async fn follow(
    mqtt: Mqtt,
    client_id: String,
    filter: String,
    messages: mpsc::Sender<Received>,
) -> Result<(), String> {
    let (host, port) = mqtt.address()?;
    let mut options = MqttOptions::new(client_id, host, port);
    let packet_max = u32::try_from(mqtt.max_packet.as_u64()).unwrap_or(u32::MAX);
    options
        .set_keep_alive(mqtt.keep_alive)
        .set_clean_start(true)
        .set_max_packet_size(Some(packet_max));
    let (client, mut events) = AsyncClient::new(options, usize::from(mqtt.inflight));
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client
                    .try_subscribe(filter.clone(), QoS::AtLeastOnce)
                    .map_err(|e| e.to_string())?;
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let received = Received {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    retained: publish.retain,
                    expiry_s: publish.properties.as_ref().and_then(|p| p.message_expiry_interval),
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
            }
        }
    }
}
