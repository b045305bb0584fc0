//! The parts of a bundle that are words and rules: features, findings and report templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::LatentIndex;

/// `features.json`: what latents were named, how, and how well the name holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Version of the file's form.
    pub format: u32,
    /// How names were given, in words.
    pub named_by: String,
    /// Features by latent.
    pub features: Vec<Feature>,
}

/// A latent that has a name, a description and evidence for both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Which latent.
    pub latent: LatentIndex,
    /// Short name.
    pub name: String,
    /// What it was seen to go with.
    pub description: String,
    /// Who named it.
    pub label_source: LabelSource,
    /// How well the latent alone tells what its name says, AUROC on held-out images, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_auroc: Option<f64>,
    /// Share of calibration images where it is active, 0..=1.
    pub firing_rate: f64,
}

/// Who named a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelSource {
    /// A clinician.
    #[serde(rename = "clinician")]
    Clinician,
    /// A program.
    #[serde(rename = "auto")]
    Auto,
    /// A program, checked by a clinician.
    #[serde(rename = "auto+clinician")]
    AutoChecked,
}

impl Features {
    /// The feature of a latent, where it has a name.
    #[must_use]
    pub fn get(&self, latent: LatentIndex) -> Option<&Feature> {
        self.features.iter().find(|f| f.latent == latent)
    }
}

/// `findings.json`: how findings follow from latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingRules {
    /// Version of the file's form.
    pub format: u32,
    /// One rule per finding.
    pub findings: Vec<FindingRule>,
    /// What this bundle never says anything about.
    pub not_assessed: Vec<String>,
}

/// One finding: `score = bias + sum(weight * activation)`, calibrated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingRule {
    /// Id within the bundle, also the key of its sentences.
    pub id: String,
    /// Its code.
    pub code: Code,
    /// Sparse weights over latents.
    pub weights: Vec<LatentWeight>,
    /// Score of an image in which none of the latents is active.
    pub bias: f64,
    /// From score to probability.
    pub calibration: Calibration,
    /// Present from this probability on.
    pub threshold: f64,
    /// Uncertain from this probability on.
    pub uncertain_from: f64,
    /// What it was validated on.
    pub validation: Validation,
    /// How it did there.
    pub validated_on: ValidatedOn,
}

/// A coded concept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Coding system, a URI or a DICOM coding scheme designator.
    pub system: String,
    /// Code value.
    pub code: String,
    /// Its meaning in words.
    pub display: String,
}

/// Weight of one latent in a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentWeight {
    /// Which latent.
    pub latent: LatentIndex,
    /// Weight, per unit of activation.
    pub weight: f64,
}

/// `probability = 1 / (1 + exp(-(a * score + b)))` (Platt).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Name of this calibration; stands in every finding.
    pub id: String,
    /// Slope.
    pub a: f64,
    /// Offset.
    pub b: f64,
}

/// What a finding was validated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Radiographs of patients.
    Radiographs,
    /// Drawings only.
    Phantoms,
}

/// How a finding did where it was validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatedOn {
    /// Which images, in words.
    pub what: String,
    /// Images.
    pub n: u32,
    /// Of them positive.
    pub positives: u32,
    /// Area under the receiver operating characteristic.
    pub auroc: f64,
    /// Lower end of its 95 % interval.
    pub auroc_low: f64,
    /// Upper end of its 95 % interval.
    pub auroc_high: f64,
}

/// `report.json`: whole sentences, one per statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// Version of the file's form.
    pub format: u32,
    /// Language tag of the sentences.
    pub language: String,
    /// Technique sentence by view (`PA`, `AP`, `LL`, `RL`, `unknown`).
    pub technique: BTreeMap<String, String>,
    /// Sentences by finding id.
    pub findings: BTreeMap<String, Sentences>,
    /// Said in every draft.
    pub limitations: Vec<String>,
}

/// The sentences of one finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentences {
    /// When it is present.
    pub present: String,
    /// When it is uncertain.
    pub uncertain: String,
    /// When it is absent.
    pub absent: String,
}
