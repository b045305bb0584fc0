//! What the store keeps, each value with its version. Fields only grow.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alarms::{AlarmKind, AlarmRecord};
use crate::bundle::{self, Bundle};
use crate::config::Use;
use crate::decode::View;
use crate::encode::Engine;
use crate::findings::Finding;
use crate::gate::Check;
use crate::id::{Digest, ExamKey, InstanceId, MessageId, Uid};
use crate::ingest::Instance;
use crate::ood::Ood;
use crate::reading::Reading;
use crate::report::DraftReport;

/// Version of every value below.
pub const VALUE_VERSION: u32 = 1;

/// An accepted instance that was not read yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// [`VALUE_VERSION`].
    pub v: u32,
    /// What was received.
    pub instance: Instance,
    /// Its exam.
    pub exam: ExamKey,
    /// Its name within the exam: `i1`, `i2`, ...
    pub image: String,
    /// Attempts to read it that were begun.
    pub attempts: u32,
    /// Another object with the same SOP Instance UID and other bytes was accepted before.
    pub conflict: bool,
}

/// What made a reading; stands in every message of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MadeBy {
    /// The software.
    pub software: Software,
    /// The engine that ran.
    pub engine: Engine,
    /// The bundle.
    pub bundle: BundleName,
    /// Its parts.
    pub models: Vec<Model>,
    /// What the result may be used for.
    #[serde(rename = "use")]
    pub intended: Use,
}

/// A build of the software and the choices it runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    /// Version.
    pub version: String,
    /// Commit.
    pub commit: String,
    /// The release that brought it: SHA-256 of its document; none where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// Digest of the policy (gate and report) that was in force.
    pub config_digest: Digest,
}

/// A bundle by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleName {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Digest of its manifest.
    pub digest: Digest,
}

/// One part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What it does.
    pub role: String,
    /// Name of its bundle.
    pub name: String,
    /// Version of its bundle.
    pub version: String,
    /// Digest of its file.
    pub digest: Digest,
}

impl MadeBy {
    /// Everything that a reading depends on beside the image.
    #[must_use]
    pub fn new(software: Software, engine: Engine, bundle: &Bundle, intended: Use) -> Self {
        let manifest = &bundle.manifest;
        let parts = [
            ("encoder", bundle::ENCODER),
            ("sae", bundle::SAE),
            ("features", bundle::FEATURES),
            ("findings", bundle::FINDINGS),
            ("report", bundle::REPORT),
        ];
        let model = |(role, file): (&str, &str)| Model {
            role: role.into(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: bundle.digest_of(file),
        };
        Self {
            software,
            engine,
            bundle: BundleName {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                digest: bundle.digest,
            },
            models: parts.into_iter().map(model).collect(),
            intended,
        }
    }
}

/// A reason with a stable code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Published list, only grows.
    pub code: String,
    /// Expected and found, in words.
    pub text: String,
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// [`VALUE_VERSION`].
    pub v: u32,
    /// What was received.
    pub instance: Instance,
    /// Its exam.
    pub exam: ExamKey,
    /// Its name within the exam.
    pub image: String,
    /// The reading, or why there is none.
    pub outcome: Outcome,
    /// What made it; none where no engine was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<MadeBy>,
    /// When the record was formed.
    pub time: DateTime<Utc>,
}

/// A reading, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Read, refused by the gate or withheld: the reading says which.
    Reading(Box<Reading>),
    /// It could not be decoded or read; its bytes were set aside.
    Quarantined(Reason),
}

/// One image of an exam revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamImage {
    /// Its name within the exam.
    #[serde(rename = "ref")]
    pub name: String,
    /// SOP Instance UID; published only where the profile allows it.
    pub sop_instance: Uid,
    /// How it was taken.
    pub view: View,
    /// What the gate said.
    pub conformance: Vec<Check>,
    /// Is it like what the bundle was measured on?
    pub ood: Ood,
}

/// One revision of an exam: all images so far, and what they say together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamRecord {
    /// [`VALUE_VERSION`].
    pub v: u32,
    /// The exam.
    pub exam: ExamKey,
    /// Study Instance UID; published only where the profile allows it.
    pub study: Uid,
    /// Accession number; published only where the profile allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accession: Option<String>,
    /// Modality, where it is one that the gate lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// From 1.
    pub revision: u32,
    /// Ids of the messages that this revision replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ExamMessages>,
    /// All images read so far.
    pub images: Vec<ExamImage>,
    /// Findings over all images.
    pub findings: Vec<Finding>,
    /// What nothing is said about.
    pub not_assessed: Vec<String>,
    /// What must be known beside the findings.
    pub caveats: Vec<String>,
    /// The draft.
    pub draft: DraftReport,
    /// What made it.
    pub by: MadeBy,
    /// The instance that led to this revision.
    pub instance: InstanceId,
    /// When it was formed.
    pub time: DateTime<Utc>,
}

/// Ids of the messages of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExamMessages {
    /// Of the findings; none where the revision has no image that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<MessageId>,
    /// Of the report.
    pub report: MessageId,
}

/// How far an exam has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExamRow {
    /// [`VALUE_VERSION`].
    pub v: u32,
    /// Images accepted.
    pub accepted: u32,
    /// Every instance that was accepted, read or not.
    #[serde(default)]
    pub instances: Vec<InstanceId>,
    /// Images read, in the order of their reading.
    pub read: Vec<InstanceId>,
    /// Newest revision; 0 before the first.
    pub revision: u32,
    /// Ids of the newest revision's messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<ExamMessages>,
    /// The newest revision is not to be relied on: the release that made it was rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// States that an image or exam passes through; only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Durable here.
    Received,
    /// Looked at by the gate.
    Gated,
    /// Read.
    Read,
    /// Its report was acknowledged by the broker.
    Published,
    /// Unlike what the bundle was measured on: no findings.
    Withheld,
    /// Not an image that this bundle reads.
    Refused,
    /// It could not be decoded; its bytes were set aside.
    Quarantined,
    /// It could not be read; its bytes were set aside.
    Failed,
    /// What was said of it is not to be relied on.
    Withdrawn,
}

/// A message that waits to be published: keys of what it is formed from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// [`VALUE_VERSION`].
    pub v: u32,
    /// What it says.
    pub what: What,
    /// When it came about.
    pub time: DateTime<Utc>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A transition.
    State {
        /// Exam.
        exam: ExamKey,
        /// Image within the exam.
        image: String,
        /// Which instance led to it.
        instance: InstanceId,
        /// Reached.
        state: State,
        /// Why, where it is not the usual way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// What the gate said of an instance.
    Gate {
        /// Which.
        instance: InstanceId,
    },
    /// Findings of a revision.
    Findings {
        /// Exam.
        exam: ExamKey,
        /// Revision.
        revision: u32,
    },
    /// Draft of a revision.
    Report {
        /// Exam.
        exam: ExamKey,
        /// Revision.
        revision: u32,
    },
    /// Of the device itself, with its payload.
    Device {
        /// `status`, `about` or `health`.
        channel: DeviceChannel,
        /// Unique id, made once.
        id: MessageId,
        /// What it says.
        payload: Value,
    },
    /// An alarm that was raised or cleared.
    Alarm {
        /// What about.
        kind: AlarmKind,
        /// Unique id, made once.
        id: MessageId,
        /// What it says; none: it was cleared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        record: Option<AlarmRecord>,
    },
    /// Nothing is said any more about an exam that was erased: the broker forgets one topic of it.
    Erased {
        /// Exam.
        exam: ExamKey,
        /// Which topic.
        topic: ExamTopic,
        /// Unique id, made once.
        id: MessageId,
    },
}

/// Topics of an exam that a broker may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExamTopic {
    /// Transitions.
    State,
    /// What the gate said.
    Gate,
    /// Findings.
    Findings,
    /// Draft report.
    Report,
}

impl ExamTopic {
    /// Every topic.
    pub const ALL: [Self; 4] = [Self::State, Self::Gate, Self::Findings, Self::Report];
}

impl What {
    /// The exam that it speaks of, where the row itself names it.
    #[must_use]
    pub fn exam(&self) -> Option<&ExamKey> {
        match self {
            Self::State { exam, .. }
            | Self::Findings { exam, .. }
            | Self::Report { exam, .. }
            | Self::Erased { exam, .. } => Some(exam),
            Self::Gate { .. } | Self::Device { .. } | Self::Alarm { .. } => None,
        }
    }
}

/// Topics of the device itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChannel {
    /// Online or not.
    Status,
    /// Versions and what is where.
    About,
    /// How it is doing.
    Health,
    /// What the update agent does.
    Update,
}
