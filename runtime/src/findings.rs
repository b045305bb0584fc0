//! From a sparse code to findings, each with the evidence it stands on.
//!
//! `score = bias + sum(weight * activation)`, `probability = 1 / (1 + exp(-(a * score + b)))`.
//! A feature's share is its signed part of the score: `w_i a_i / sum_j |w_j a_j|`.
//!
//! A finding that is present or uncertain cannot be built without evidence. Numbers are rounded
//! once, here, so that every output says the same digits.

use serde::{Deserialize, Serialize};

use crate::bundle::{
    Bundle, Calibration, Code as CodedConcept, FindingRule, LabelSource, LatentWeight, Validation,
};
use crate::config::Policy;
use crate::id::LatentIndex;
use crate::sparse::SparseCode;

/// A candidate clinical statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Id within the bundle.
    pub id: String,
    /// Its code.
    pub code: CodedConcept,
    /// What follows from the probability.
    pub decision: Decision,
    /// Calibrated, 0..=1, 4 decimals.
    pub probability: f64,
    /// Present from this probability on, 4 decimals.
    pub threshold: f64,
    /// Which calibration gave the probability.
    pub calibration: String,
    /// What the finding was validated on.
    pub validation: Validation,
    /// What it stands on, by falling size of share; not empty unless the finding is absent.
    pub evidence: Vec<Evidence>,
}

/// What follows from a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// At or above the threshold.
    Present,
    /// Below the threshold, but not by enough to call it absent.
    Uncertain,
    /// Below both.
    Absent,
}

/// One feature's part in a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which latent.
    pub feature: LatentIndex,
    /// Its name.
    pub label: String,
    /// Who named it.
    pub label_source: LabelSource,
    /// How well the name holds, AUROC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_auroc: Option<f64>,
    /// Its activation, 4 significant digits.
    pub activation: f64,
    /// Signed part of the finding's score, -1..=1, 4 decimals.
    pub share: f64,
    /// Which image of the exam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where in the image, in source pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// How `points` are meant.
    #[serde(rename = "type")]
    pub shape: Shape,
    /// Box: left, top, right, bottom (columns and rows of the source image).
    pub points: Vec<f64>,
    /// Always source pixels.
    pub space: Space,
}

/// How the points of a region are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Left, top, right, bottom.
    Box,
}

/// In which pixels a region is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// Those of the image as it came.
    SourcePixels,
}

/// What one image's code says, and what it does not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Assessed {
    /// In the bundle's order.
    pub findings: Vec<Finding>,
    /// What nothing is said about, in words.
    pub not_assessed: Vec<String>,
}

/// A finding would be present or uncertain, and no feature speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("finding {0}: expected evidence for a finding that is not absent, found none")]
pub struct NoEvidence(String);

impl Finding {
    /// A finding as its rule and the image's code give it.
    ///
    /// # Errors
    /// It would be present or uncertain without evidence.
    pub fn new(rule: &FindingRule, bundle: &Bundle, code: &SparseCode) -> Result<Self, NoEvidence> {
        let probability = round_4(rule.calibration.probability(score(rule, code)));
        let decision = if probability >= rule.threshold {
            Decision::Present
        } else if probability >= rule.uncertain_from {
            Decision::Uncertain
        } else {
            Decision::Absent
        };
        let evidence = evidence(rule, bundle, code);
        if decision != Decision::Absent && !evidence.iter().any(|e| e.share > 0.0) {
            return Err(NoEvidence(rule.id.clone()));
        }
        Ok(Self {
            id: rule.id.clone(),
            code: rule.code.clone(),
            decision,
            probability,
            threshold: round_4(rule.threshold),
            calibration: rule.calibration.id.clone(),
            validation: rule.validation,
            evidence,
        })
    }
}

/// Assesses every finding of the bundle that the policy shows.
#[must_use]
pub fn assess(bundle: &Bundle, policy: &Policy, code: &SparseCode) -> Assessed {
    let mut assessed = Assessed { findings: Vec::new(), not_assessed: Vec::new() };
    for rule in &bundle.rules.findings {
        if rule.validation == Validation::Phantoms && !policy.unvalidated {
            assessed
                .not_assessed
                .push(format!("{} (validated on phantoms only)", lower(&rule.code.display)));
            continue;
        }
        match Finding::new(rule, bundle, code) {
            Ok(finding) => assessed.findings.push(finding),
            Err(NoEvidence(_)) => {
                assessed
                    .not_assessed
                    .push(format!("{} (no feature speaks for it)", lower(&rule.code.display)));
            }
        }
    }
    assessed.not_assessed.extend(bundle.rules.not_assessed.iter().cloned());
    assessed
}

/// `bias + sum(weight * activation)`, summed in the rule's order.
#[must_use]
pub fn score(rule: &FindingRule, code: &SparseCode) -> f64 {
    let part = |w: &LatentWeight| w.weight * f64::from(code.activation(w.latent));
    rule.weights.iter().map(part).fold(rule.bias, |sum, part| sum + part)
}

impl Calibration {
    /// The calibrated probability of a score, 0..=1.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.a * score + self.b)).exp())
    }
}

fn evidence(rule: &FindingRule, bundle: &Bundle, code: &SparseCode) -> Vec<Evidence> {
    let parts: Vec<(LatentIndex, f32, f64)> = rule
        .weights
        .iter()
        .map(|w| {
            (w.latent, code.activation(w.latent), w.weight * f64::from(code.activation(w.latent)))
        })
        .filter(|(_, activation, _)| *activation > 0.0)
        .collect();
    let total: f64 = parts.iter().map(|(_, _, part)| part.abs()).sum();
    let mut evidence: Vec<Evidence> = parts
        .into_iter()
        .filter(|(_, _, part)| *part != 0.0)
        .map(|(latent, activation, part)| {
            let feature = bundle.features.get(latent);
            Evidence {
                feature: latent,
                label: feature.map_or_else(|| format!("latent {latent}"), |f| f.name.clone()),
                label_source: feature.map_or(LabelSource::Auto, |f| f.label_source),
                label_auroc: feature.and_then(|f| f.label_auroc).map(round_4),
                activation: significant_4(activation),
                share: round_4(part / total),
                image: None,
                region: None,
            }
        })
        .collect();
    evidence
        .sort_by(|a, b| b.share.abs().total_cmp(&a.share.abs()).then(a.feature.cmp(&b.feature)));
    evidence
}

/// Rounded to 4 decimals; probabilities, shares, thresholds.
#[must_use]
pub fn round_4(value: f64) -> f64 {
    // Adding 0 turns -0 into 0, which would otherwise print as "-0.0".
    (value * 1e4).round() / 1e4 + 0.0
}

/// Rounded to 4 significant digits; activations.
#[must_use]
pub fn significant_4(value: f32) -> f64 {
    format!("{value:.3e}").parse().expect("a formatted number parses")
}

fn lower(display: &str) -> String {
    display.to_lowercase()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the values are exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_every_output_says_them() {
        assert_eq!(round_4(0.123_449_9), 0.1234);
        assert_eq!(round_4(-0.000_01).to_string(), "0");
        assert_eq!(significant_4(7.310_29), 7.31);
        assert_eq!(significant_4(0.000_123_456), 0.000_123_5);
        assert_eq!(significant_4(123_456.0), 123_500.0);
    }

    #[test]
    fn a_score_of_zero_at_no_offset_is_even_odds() {
        let calibration = Calibration { id: "c".into(), a: 2.0, b: 0.0 };
        assert_eq!(calibration.probability(0.0), 0.5);
        assert!(calibration.probability(3.0) > 0.99);
        assert_eq!(calibration.probability(-1e6), 0.0);
    }
}
