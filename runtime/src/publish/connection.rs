//! One connection to the broker, from CONNECT to its first error.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, DisconnectReasonCode, LastWill, LastWillProperties, Packet,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::session::Session;
use super::{PublishError, Publisher};
use crate::clock::Clock;
use crate::config::Mqtt;
use crate::tls::Files;

/// What the poller hands over: an event, or the error that ended it.
pub(super) type Polled = Result<Event, PublishError>;

/// What a broker allows on one connection.
struct Allowed {
    /// Messages without an acknowledgement.
    window: usize,
    /// Bytes of a packet.
    packet_max: u64,
}

/// Publishes over one connection; returns `Ok` after a clean stop.
pub(super) async fn serve(
    publisher: &mut Publisher,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), PublishError> {
    // Looked at before they are read, so that no change is missed.
    let certificates = Files::from(&publisher.mqtt).stamp();
    let (client, events) = connect(publisher)?;
    let (sender, mut polled) = mpsc::channel(4 * usize::from(publisher.mqtt.inflight));
    // Alone in a task of its own and never cancelled: what it holds must not be torn.
    let poller: JoinHandle<()> = tokio::spawn(poll(events, sender));
    let outcome = async {
        let Allowed { window, packet_max } = greeted(&mut polled, publisher).await?;
        tracing::info!(broker = %publisher.mqtt.url, window, "connected");
        publisher.metrics.mqtt_connected.set(1);
        let mut session = Session::new(publisher, &client, window, packet_max, certificates);
        session.birth()?;
        session.run(&mut polled, stop).await
    }
    .await;
    publisher.metrics.mqtt_connected.set(0);
    drop(polled);
    poller.abort();
    outcome
}

/// Waits for the CONNACK; gives what the broker allows.
async fn greeted(
    polled: &mut mpsc::Receiver<Polled>,
    publisher: &Publisher,
) -> Result<Allowed, PublishError> {
    let own = publisher.mqtt.max_packet.as_u64();
    loop {
        match polled.recv().await {
            Some(Ok(Event::Incoming(Packet::ConnAck(ConnAck { properties, .. })))) => {
                let (receive, packet) = properties.map_or((None, None), |p| {
                    (p.receive_max.map(usize::from), p.max_packet_size.map(u64::from))
                });
                return Ok(Allowed {
                    window: usize::from(publisher.mqtt.inflight).min(receive.unwrap_or(usize::MAX)),
                    packet_max: own.min(packet.unwrap_or(u64::MAX)),
                });
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(PublishError::Connection("the event loop ended".into())),
        }
    }
}

/// Polls until the first error or until nobody listens.
async fn poll(mut events: EventLoop, sender: mpsc::Sender<Polled>) {
    loop {
        let event = events.poll().await.map_err(|error| ended(&error));
        let ended = event.is_err();
        if sender.send(event).await.is_err() || ended {
            return;
        }
    }
}

/// Why a connection ended, as far as it makes a difference to what is done next.
fn ended(error: &ConnectionError) -> PublishError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are treated alike")]
    match error {
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::Banned
            | ConnectReturnCode::BadAuthenticationMethod
            | ConnectReturnCode::QuotaExceeded),
        ) => PublishError::Refused(format!("{code:?}")),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            match reason_code {
                DisconnectReasonCode::SessionTakenOver => PublishError::TakenOver,
                DisconnectReasonCode::NotAuthorized
                | DisconnectReasonCode::QuotaExceeded
                | DisconnectReasonCode::PacketTooLarge => {
                    PublishError::Refused(format!("{reason_code:?}"))
                }
                other => PublishError::Connection(format!("disconnected by the broker: {other:?}")),
            }
        }
        // The library knows nine reason codes of a PUBACK and calls every other one this.
        ConnectionError::MqttState(StateError::Deserialization(
            mqttbytes::Error::InvalidConnectReturnCode(code),
        )) => PublishError::UnknownReason(*code),
        other => PublishError::Connection(other.to_string()),
    }
}

fn connect(publisher: &Publisher) -> Result<(AsyncClient, EventLoop), PublishError> {
    let mqtt = &publisher.mqtt;
    let client_id = format!("{}-out", publisher.device.identity.name);
    let mut options = options(mqtt, client_id, publisher.clock.as_ref())?;
    options
        .set_clean_start(true)
        .set_session_expiry_interval(Some(seconds(mqtt.session_expiry)))
        .set_outgoing_inflight_upper_limit(mqtt.inflight)
        .set_last_will(will(publisher));
    Ok(AsyncClient::new(options, usize::from(mqtt.inflight)))
}

/// What every connection to the broker has in common.
pub(super) fn options(
    mqtt: &Mqtt,
    client_id: String,
    clock: &dyn Clock,
) -> Result<MqttOptions, PublishError> {
    let (host, port) = mqtt.address().map_err(PublishError::Connection)?;
    let mut options = MqttOptions::new(client_id, host, port);
    let packet_max = u32::try_from(mqtt.max_packet.as_u64()).unwrap_or(u32::MAX);
    options
        .set_keep_alive(mqtt.keep_alive)
        .set_max_packet_size(Some(packet_max))
        .set_transport(super::transport(mqtt, clock)?);
    Ok(options)
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

pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
