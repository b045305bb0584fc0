//! Payloads of messages, each formed from a stored record. `schemas/` has their JSON Schemas.
//!
//! Plain structures, so that the order of members, and with it the bytes and the message's id,
//! never depends on a map.

use serde::Serialize;

use crate::alarm::{AlarmKind, AlarmRecord, Severity};
use crate::clock::rfc3339;
use crate::config::Phi;
use crate::decode::View;
use crate::findings::Finding;
use crate::gate::{Check, Judgement, Outcome};
use crate::id::{ExamKey, MessageId};
use crate::ood::Ood;
use crate::report::{DraftReport, Section, Status};
use crate::store::record::{ExamImage, ExamRecord, InstanceRecord, Reason, State};

/// Something that an operator has to know.
#[derive(Debug, Serialize)]
pub(super) struct AlarmPayload<'a> {
    #[serde(rename = "type")]
    kind: AlarmKind,
    severity: Severity,
    text: &'a str,
    since: String,
    runbook: String,
}

impl<'a> AlarmPayload<'a> {
    pub(super) fn new(kind: AlarmKind, record: &'a AlarmRecord) -> Self {
        Self {
            kind,
            severity: record.severity,
            text: &record.text,
            since: rfc3339(record.since),
            runbook: format!("docs/alarms.md#{}", kind.name()),
        }
    }
}

/// A transition.
#[derive(Debug, Serialize)]
pub(super) struct StatePayload<'a> {
    pub(super) exam_key: &'a ExamKey,
    pub(super) image: &'a str,
    pub(super) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a Reason>,
}

/// What the gate said: for the technician at the console.
#[derive(Debug, Serialize)]
pub(super) struct GatePayload<'a> {
    exam_key: &'a ExamKey,
    image: &'a str,
    accept: bool,
    checks: &'a [Check],
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl<'a> GatePayload<'a> {
    pub(super) fn new(record: &'a InstanceRecord, gate: &'a Judgement) -> Self {
        let advice = gate.checks.iter().find(|c| c.outcome == Outcome::Fail).map(|failed| {
            let detail = failed.detail.as_deref().unwrap_or("see the checks");
            format!("not read: {}, {detail}", failed.name)
        });
        Self {
            exam_key: &record.exam,
            image: &record.image,
            accept: gate.accept,
            checks: &gate.checks,
            advice,
        }
    }
}

/// Findings of a revision.
#[derive(Debug, Serialize)]
pub(super) struct FindingsPayload<'a> {
    exam: Exam<'a>,
    revision: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<MessageId>,
    images: Vec<Image<'a>>,
    findings: &'a [Finding],
    not_assessed: &'a [String],
    caveats: &'a [String],
}

#[derive(Debug, Serialize)]
struct Exam<'a> {
    key: &'a ExamKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    study_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accession: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modality: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Image<'a> {
    #[serde(rename = "ref")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sop_instance_uid: Option<&'a str>,
    view: View,
    conformance: &'a [Check],
    ood: &'a Ood,
}

impl<'a> FindingsPayload<'a> {
    pub(super) fn new(record: &'a ExamRecord, phi: Phi) -> Self {
        let told = phi == Phi::Accession;
        let image = |image: &'a ExamImage| Image {
            name: &image.name,
            sop_instance_uid: told.then(|| image.sop_instance.as_str()),
            view: image.view,
            conformance: &image.conformance,
            ood: &image.ood,
        };
        Self {
            exam: Exam {
                key: &record.exam,
                study_uid: told.then(|| record.study.as_str()),
                accession: record.accession.as_deref().filter(|_| told),
                modality: record.modality.as_deref(),
            },
            revision: record.revision,
            replaces: record.replaces.and_then(|r| r.findings),
            images: record.images.iter().map(image).collect(),
            findings: &record.findings,
            not_assessed: &record.not_assessed,
            caveats: &record.caveats,
        }
    }
}

/// The draft of a revision.
#[derive(Debug, Serialize)]
pub(super) struct ReportPayload<'a> {
    exam_key: &'a ExamKey,
    revision: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<MessageId>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld_reason: Option<&'a str>,
    watermark: &'a str,
    language: &'a str,
    sections: &'a [Section],
}

impl<'a> ReportPayload<'a> {
    pub(super) fn new(record: &'a ExamRecord) -> Self {
        let DraftReport { status, withheld_reason, watermark, language, sections } = &record.draft;
        Self {
            exam_key: &record.exam,
            revision: record.revision,
            replaces: record.replaces.map(|r| r.report),
            status: *status,
            withheld_reason: withheld_reason.as_deref(),
            watermark,
            language,
            sections,
        }
    }
}
