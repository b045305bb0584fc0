//! Counts what a reading says, for the metrics.

use crate::findings::Decision;
use crate::gate::Outcome;
use crate::metrics::Metrics;
use crate::reading::Reading;

pub(super) fn reading(metrics: &Metrics, reading: &Reading) {
    for check in &reading.gate.checks {
        let outcome = match check.outcome {
            Outcome::Pass => "pass",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
        };
        metrics.check(&check.name, outcome);
    }
    for finding in &reading.findings {
        let decision = match finding.decision {
            Decision::Present => "present",
            Decision::Uncertain => "uncertain",
            Decision::Absent => "absent",
        };
        metrics.finding(&finding.id, decision);
    }
    if let Some((code, _)) = reading.gate.refusal() {
        metrics.withheld(&code);
    }
}
