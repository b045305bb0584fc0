//! Counts and times for a monitoring system, in its own text form (OpenMetrics).
//!
//! Every label comes from a closed set: none is ever an exam, a patient, a UID or an address.

mod engines;
mod levels;

use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use engines::EngineGauges;
use levels::LevelGauges;

pub use engines::EngineFacts;
pub use levels::Levels;

/// Seconds at which stages are told apart: from a sync to a decode that runs into its limit.
const STAGE_S: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 1.0, 3.0, 10.0, 30.0, 100.0];

/// Seconds from an object's receipt to the broker's acknowledgement; the radiographer's second is
/// one of them.
const LATENCY_S: [f64; 10] = [0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 5.0, 30.0, 300.0, 3600.0];

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfInstance {
    transfer_syntax: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCheck {
    check: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMessage {
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFinding {
    finding: String,
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: String,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// Associations that are open.
    pub associations_active: Gauge,
    associations: Family<Of, Counter>,
    instances: Family<OfInstance, Counter>,
    /// Bytes of objects that were taken.
    pub receive_bytes: Counter,
    store: Histogram,
    checks: Family<OfCheck, Counter>,
    withheld: Family<OfReason, Counter>,
    stages: Family<OfStage, Histogram, fn() -> Histogram>,
    latency: Family<OfMessage, Histogram, fn() -> Histogram>,
    findings: Family<OfFinding, Counter>,
    delivery: Family<Of, Counter>,
    /// 1 while the broker has greeted us.
    pub mqtt_connected: Gauge,
    /// Connections to the broker that ended.
    pub mqtt_reconnects: Counter,
    engines: EngineGauges,
    levels: LevelGauges,
}

impl Metrics {
    /// All at zero; build and bundle are told once.
    #[must_use]
    pub fn new(version: &str, commit: &str, bundle: &str) -> Self {
        let mut registry = Registry::with_prefix("clearfilm");
        let build = [("version", version), ("commit", commit), ("bundle", bundle)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        registry.register("build", "What runs", Info::new(build.to_vec()));
        let metrics = Self {
            registry: Registry::default(),
            associations_active: Gauge::default(),
            associations: Family::default(),
            instances: Family::default(),
            receive_bytes: Counter::default(),
            store: Histogram::new(STAGE_S),
            checks: Family::default(),
            withheld: Family::default(),
            stages: Family::new_with_constructor(|| Histogram::new(STAGE_S)),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_S)),
            findings: Family::default(),
            delivery: Family::default(),
            mqtt_connected: Gauge::default(),
            mqtt_reconnects: Counter::default(),
            engines: EngineGauges::default(),
            levels: LevelGauges::default(),
        };
        metrics.register(&mut registry);
        metrics.engines.register(&mut registry);
        metrics.levels.register(&mut registry);
        Self { registry, ..metrics }
    }

    fn register(&self, to: &mut Registry) {
        to.register(
            "dicom_associations_active",
            "Associations that are open",
            self.associations_active.clone(),
        );
        to.register(
            "dicom_associations",
            "Associations by how they ended",
            self.associations.clone(),
        );
        to.register(
            "dicom_instances",
            "Objects by what they were answered",
            self.instances.clone(),
        );
        to.register_with_unit(
            "dicom_receive",
            "Bytes of objects that were taken",
            Unit::Bytes,
            self.receive_bytes.clone(),
        );
        to.register_with_unit(
            "dicom_store_duration",
            "From the last byte of an object to its answer",
            Unit::Seconds,
            self.store.clone(),
        );
        to.register("gate_checks", "Checks of the gate by outcome", self.checks.clone());
        to.register("withheld", "Images without findings, by reason", self.withheld.clone());
        to.register_with_unit(
            "stage_duration",
            "Time of each stage of a reading",
            Unit::Seconds,
            self.stages.clone(),
        );
        to.register_with_unit(
            "exam_latency",
            "From an object's receipt to the acknowledgement of a message about it",
            Unit::Seconds,
            self.latency.clone(),
        );
        to.register("findings", "Findings by decision", self.findings.clone());
        to.register(
            "delivery",
            "Acknowledgements of the broker by reason code",
            self.delivery.clone(),
        );
        to.register(
            "mqtt_connected",
            "Has the broker greeted this unit?",
            self.mqtt_connected.clone(),
        );
        to.register("mqtt_reconnects", "Connections that ended", self.mqtt_reconnects.clone());
    }

    /// An association ended.
    pub fn association(&self, result: &str) {
        self.associations.get_or_create(&Of { result: result.into() }).inc();
    }

    /// An object was answered, so long after its last byte.
    pub fn instance(&self, transfer_syntax: &str, result: &str, took: Duration) {
        let labels = OfInstance { transfer_syntax: transfer_syntax.into(), result: result.into() };
        self.instances.get_or_create(&labels).inc();
        self.store.observe(took.as_secs_f64());
    }

    /// A check of the gate.
    pub fn check(&self, check: &str, outcome: &str) {
        self.checks.get_or_create(&OfCheck { check: check.into(), outcome: outcome.into() }).inc();
    }

    /// An image that got no findings.
    pub fn withheld(&self, reason: &str) {
        self.withheld.get_or_create(&OfReason { reason: reason.into() }).inc();
    }

    /// A stage took so long: `decode`, `read`, `store`.
    pub fn stage(&self, stage: &'static str, took: Duration) {
        self.stages.get_or_create(&OfStage { stage }).observe(took.as_secs_f64());
    }

    /// A message of an exam was acknowledged, so long after its image was received.
    pub fn arrived(&self, to: &'static str, after: TimeDelta) {
        let seconds = after.to_std().unwrap_or_default().as_secs_f64();
        self.latency.get_or_create(&OfMessage { to }).observe(seconds);
    }

    /// A finding was decided; `finding` is one of the bundle's.
    pub fn finding(&self, finding: &str, decision: &'static str) {
        self.findings.get_or_create(&OfFinding { finding: finding.into(), decision }).inc();
    }

    /// The broker acknowledged a message with this reason code.
    pub fn delivery(&self, result: &str) {
        self.delivery.get_or_create(&Of { result: result.into() }).inc();
    }

    /// What became of the engines.
    pub fn engines(&self, engines: &[EngineFacts]) {
        self.engines.set(engines);
    }

    /// Everything, as text.
    #[must_use]
    pub fn text(&self, levels: &Levels) -> String {
        self.levels.set(levels);
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics cannot be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stands_in_the_text_with_unit_and_label() {
        let metrics = Metrics::new("1.2.3", "abc", "sha256:00");
        metrics.instance("1.2.840.10008.1.2.1", "0000", Duration::from_millis(20));
        metrics.arrived("gate", TimeDelta::milliseconds(150));
        metrics.receive_bytes.inc_by(7);
        let levels = Levels { alarms: vec!["disk-low"], outbox_depth: 4, ..Levels::default() };
        let text = metrics.text(&levels);
        for line in [
            "clearfilm_build_info{version=\"1.2.3\",commit=\"abc\",bundle=\"sha256:00\"} 1",
            "clearfilm_dicom_instances_total{transfer_syntax=\"1.2.840.10008.1.2.1\",result=\"0000\"} 1",
            "clearfilm_dicom_receive_bytes_total 7",
            "clearfilm_exam_latency_seconds_bucket{le=\"0.2\",to=\"gate\"} 1",
            "clearfilm_outbox_depth 4",
            "clearfilm_alarm{alarm=\"disk-low\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "expected {line}, found\n{text}");
        }
        assert!(!metrics.text(&Levels::default()).contains("disk-low"), "it was cleared");
    }
}
