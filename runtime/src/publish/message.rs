//! Messages, formed from stored records: the same record gives the same bytes, however often.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::payload::{AlarmPayload, FindingsPayload, GatePayload, ReportPayload, StatePayload};
use super::topic::{Channel, ExamChannel, Topic};
use crate::clock::rfc3339;
use crate::config::{Mqtt, Phi, Use};
use crate::device::{Device, Identity};
use crate::encode::Engine;
use crate::id::{ExamKey, InstanceId, MessageId};
use crate::store::record::{
    BundleName, DeviceChannel, ExamMessages, ExamRecord, MadeBy, Model, OutboxRow, Outcome,
    Software, What,
};
use crate::store::{Store, StoreError};

/// One message as it goes on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Where it goes.
    pub topic: Topic,
    /// At least once, or at most once.
    pub at_least_once: bool,
    /// The broker keeps it for who comes later.
    pub retain: bool,
    /// The broker forgets it after this long.
    pub expiry: Option<Duration>,
    /// `application/vnd.clearfilm.<kind>+json;v=1`.
    pub content_type: String,
    /// Exam key, as MQTT correlation data.
    pub correlation: Option<String>,
    /// `schema`, `seq`, `unit`, `bundle`, `use`, `traceparent`.
    pub properties: Vec<(String, String)>,
    /// The envelope, JSON.
    pub body: Vec<u8>,
}

/// Forms messages: what stays the same over all of them.
pub struct Former<'a> {
    /// Who sends.
    pub device: &'a Device,
    /// Root, expiry and identifiers.
    pub mqtt: &'a Mqtt,
    /// What runs now; for messages that no reading stands behind.
    pub software: &'a Software,
}

/// Carried by every message.
#[derive(Serialize)]
struct Envelope<'a, P: Serialize> {
    schema: &'a str,
    id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    time: String,
    unit: &'a Identity,
    software: &'a Software,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'a Engine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<&'a BundleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'a [Model]>,
    phi: Phi,
    #[serde(rename = "use")]
    intended: Use,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    payload: &'a P,
}

/// What differs from message to message, beside the payload.
struct Facts<'a> {
    kind: &'static str,
    channel: Channel,
    id: MessageId,
    seq: Option<u64>,
    time: DateTime<Utc>,
    by: Option<&'a MadeBy>,
    instance: Option<InstanceId>,
}

impl Former<'_> {
    /// The message of an outbox row; none where what it speaks of is no longer kept.
    ///
    /// # Errors
    /// The store fails.
    pub fn message(
        &self,
        sequence: u64,
        row: &OutboxRow,
        store: &Store,
    ) -> Result<Option<Message>, StoreError> {
        let facts = |kind, channel, id| Facts {
            kind,
            channel,
            id,
            seq: Some(sequence),
            time: row.time,
            by: None,
            instance: None,
        };
        Ok(match &row.what {
            What::Device { channel, id, payload } => {
                let (kind, channel) = match channel {
                    DeviceChannel::Status => ("status", Channel::Status),
                    DeviceChannel::About => ("about", Channel::About),
                    DeviceChannel::Health => ("health", Channel::Health),
                    DeviceChannel::Update => ("update", Channel::Update),
                };
                let mut payload = payload.clone();
                if let ("status", Some(members)) = (kind, payload.as_object_mut()) {
                    members.insert("seq".into(), sequence.into());
                }
                Some(self.formed(&facts(kind, channel, *id), &payload))
            }
            What::Alarm { kind, id, record } => {
                let facts = facts("alarm", Channel::Alarm(*kind), *id);
                match record {
                    Some(record) => Some(self.formed(&facts, &AlarmPayload::new(*kind, record))),
                    None => Some(self.forgetting(&facts)),
                }
            }
            What::Erased { exam, topic, id } => {
                let channel = Channel::Exam(exam.clone(), (*topic).into());
                Some(self.forgetting(&facts("erased", channel, *id)))
            }
            What::State { exam, image, instance, state, reason } => {
                let payload =
                    StatePayload { exam_key: exam, image, state: *state, reason: reason.as_ref() };
                let id = self.exam_id("state", exam, 0, &payload);
                let facts = facts("state", Channel::Exam(exam.clone(), ExamChannel::State), id);
                Some(self.formed(&Facts { instance: Some(*instance), ..facts }, &payload))
            }
            What::Gate { .. } | What::Findings { .. } | What::Report { .. } => {
                return self.of_record(&row.what, facts, store);
            }
        })
    }

    /// A message that says what a record holds; none where it is no longer kept.
    fn of_record<'a>(
        &self,
        what: &What,
        facts: impl Fn(&'static str, Channel, MessageId) -> Facts<'a>,
        store: &Store,
    ) -> Result<Option<Message>, StoreError> {
        Ok(match what {
            What::Gate { instance } => {
                let Some(record) = store.record(*instance)? else { return Ok(None) };
                let Outcome::Reading(reading) = &record.outcome else { return Ok(None) };
                let payload = GatePayload::new(&record, &reading.gate);
                let id = self.exam_id("gate", &record.exam, 0, &payload);
                let facts =
                    facts("gate", Channel::Exam(record.exam.clone(), ExamChannel::Gate), id);
                Some(self.formed(
                    &Facts { by: record.by.as_ref(), instance: Some(*instance), ..facts },
                    &payload,
                ))
            }
            What::Findings { exam, revision } => {
                let Some(record) = store.revision(exam, *revision)? else { return Ok(None) };
                let payload = FindingsPayload::new(&record, self.mqtt.phi);
                let id = self.exam_id("findings", exam, *revision, &payload);
                let facts =
                    facts("findings", Channel::Exam(exam.clone(), ExamChannel::Findings), id);
                Some(self.formed(
                    &Facts { by: Some(&record.by), instance: Some(record.instance), ..facts },
                    &payload,
                ))
            }
            What::Report { exam, revision } => {
                let Some(record) = store.revision(exam, *revision)? else { return Ok(None) };
                let payload = ReportPayload::new(&record);
                let id = self.exam_id("report", exam, *revision, &payload);
                let facts = facts("report", Channel::Exam(exam.clone(), ExamChannel::Report), id);
                Some(self.formed(
                    &Facts { by: Some(&record.by), instance: Some(record.instance), ..facts },
                    &payload,
                ))
            }
            What::State { .. } | What::Device { .. } | What::Alarm { .. } | What::Erased { .. } => {
                None
            }
        })
    }

    /// The will: what the broker says when this device falls silent. It has no sequence number.
    #[must_use]
    pub fn will(&self, since: DateTime<Utc>, boot: uuid::Uuid) -> Message {
        let payload = status_payload("offline", since, boot);
        let facts = Facts {
            kind: "status",
            channel: Channel::Status,
            id: MessageId::new(),
            seq: None,
            time: since,
            by: None,
            instance: None,
        };
        self.formed(&facts, &payload)
    }

    /// Ids that a revision's messages will have.
    #[must_use]
    pub fn ids(&self, record: &ExamRecord) -> ExamMessages {
        let (exam, revision) = (&record.exam, record.revision);
        let findings = || {
            self.exam_id("findings", exam, revision, &FindingsPayload::new(record, self.mqtt.phi))
        };
        ExamMessages {
            findings: (!record.images.is_empty()).then(findings),
            report: self.exam_id("report", exam, revision, &ReportPayload::new(record)),
        }
    }

    fn exam_id(
        &self,
        kind: &str,
        exam: &ExamKey,
        revision: u32,
        payload: &impl Serialize,
    ) -> MessageId {
        MessageId::of_exam(&self.device.identity.name, kind, exam, revision, &json(payload))
    }

    fn formed(&self, facts: &Facts<'_>, payload: &impl Serialize) -> Message {
        let identity = &self.device.identity;
        let schema = format!("urn:clearfilm:schema:{}:1", facts.kind);
        let trace = facts.instance.map(|instance| traceparent(instance, facts.id));
        let intended = facts.by.map_or(self.device.intended, |by| by.intended);
        let envelope = Envelope {
            schema: &schema,
            id: facts.id,
            seq: facts.seq,
            time: rfc3339(facts.time),
            unit: identity,
            software: facts.by.map_or(self.software, |by| &by.software),
            engine: facts.by.map(|by| &by.engine),
            bundle: facts.by.map(|by| &by.bundle),
            models: facts.by.map(|by| by.models.as_slice()),
            phi: self.mqtt.phi,
            intended,
            trace: trace.as_deref(),
            payload,
        };
        let body = json(&envelope);
        let intended = json(&intended);
        let mut properties = vec![
            ("schema".to_owned(), schema),
            ("unit".to_owned(), format!("{}/{}", identity.site, identity.name)),
        ];
        properties.extend(facts.seq.map(|seq| ("seq".to_owned(), seq.to_string())));
        properties.extend(facts.by.map(|by| ("bundle".to_owned(), by.bundle.digest.to_string())));
        properties.push((
            "use".to_owned(),
            String::from_utf8_lossy(&intended).trim_matches('"').to_owned(),
        ));
        properties.extend(trace.map(|trace| ("traceparent".to_owned(), trace)));
        let (retain, expiry, at_least_once) = self.keeping(&facts.channel);
        Message {
            id: facts.id,
            topic: Topic {
                root: self.mqtt.root.clone(),
                site: identity.site.clone(),
                unit: identity.name.clone(),
                channel: facts.channel.clone(),
            },
            at_least_once,
            retain,
            expiry,
            content_type: format!("application/vnd.clearfilm.{}+json;v=1", facts.kind),
            correlation: match &facts.channel {
                Channel::Exam(key, _) => Some(key.to_string()),
                Channel::Status
                | Channel::About
                | Channel::Health
                | Channel::Update
                | Channel::Alarm(_) => None,
            },
            properties,
            body,
        }
    }

    /// An empty retained message: the broker forgets what it holds under the topic (MQTT 5
    /// 3.3.1.3).
    fn forgetting(&self, facts: &Facts<'_>) -> Message {
        let message = self.formed(facts, &serde_json::Value::Null);
        Message { retain: true, expiry: None, body: Vec::new(), ..message }
    }

    /// Retained? For how long? At least once?
    fn keeping(&self, channel: &Channel) -> (bool, Option<Duration>, bool) {
        match channel {
            Channel::Status | Channel::About | Channel::Update | Channel::Alarm(_) => {
                (true, None, true)
            }
            // Three periods: stale health disappears by itself.
            Channel::Health => (true, Some(3 * self.mqtt.health_period), false),
            Channel::Exam(..) => (self.mqtt.phi == Phi::None, Some(self.mqtt.exam_expiry), true),
        }
    }
}

/// Payload of `status`.
#[must_use]
pub fn status_payload(state: &str, since: DateTime<Utc>, boot: uuid::Uuid) -> serde_json::Value {
    serde_json::json!({"state": state, "since": rfc3339(since), "boot": boot, "version": crate::device::VERSION})
}

/// W3C trace context: the trace is the instance, the span is the message.
fn traceparent(instance: InstanceId, message: MessageId) -> String {
    let hex = |text: String| text.replace('-', "");
    let (trace, span) = (hex(instance.to_string()), hex(message.to_string()));
    format!("00-{trace}-{}-01", &span[..16])
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages hold only plain values")
}
