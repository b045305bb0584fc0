//! From findings to a draft report: one sentence per statement, each with its origin and support.
//!
//! A draft is for a human to accept or change. Nothing here can call it final, sign it, or leave
//! out the watermark, the limitations or the digests.

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Validation};
use crate::config::{Policy, Use};
use crate::decode::View;
use crate::device;
use crate::findings::{Decision, Finding};
use crate::id::LatentIndex;

/// Stands in every draft and on every picture made from one.
pub const WATERMARK: &str = "AI DRAFT - NOT VERIFIED";

/// Text for a human to accept or change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DraftReport {
    /// Draft or withheld; never final.
    pub status: Status,
    /// Why nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld_reason: Option<String>,
    /// [`WATERMARK`].
    pub watermark: String,
    /// Language tag.
    pub language: String,
    /// In reading order.
    pub sections: Vec<Section>,
}

/// How far a draft may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// For a human to accept or change.
    Draft,
    /// Nothing is said, and why.
    Withheld,
}

/// One part of a draft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Which part.
    pub code: SectionCode,
    /// LOINC code of the part, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loinc: Option<String>,
    /// Its sentences.
    pub sentences: Vec<Sentence>,
}

/// The parts of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionCode {
    /// How the image was taken.
    Technique,
    /// What is seen.
    Findings,
    /// What it comes to.
    Impression,
    /// What was not looked at, and what this was made with.
    Limitations,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sentence {
    /// Number within the draft, from 1.
    pub n: u32,
    /// The sentence.
    pub text: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The template it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The findings and features that it stands on.
    pub support: Vec<Support>,
}

/// Where a sentence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A finding that is present or uncertain.
    Finding,
    /// A finding that is absent.
    Absence,
    /// The image's header.
    Metadata,
    /// Said in every draft.
    Boilerplate,
}

/// What a sentence stands on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Support {
    /// Id of the finding.
    pub finding: String,
    /// The features that speak for it.
    pub features: Vec<FeatureSupport>,
    /// Which image of the exam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// One feature that a sentence stands on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSupport {
    /// Which latent.
    pub feature: LatentIndex,
    /// Its name.
    pub label: String,
    /// Its activation.
    pub activation: f64,
}

/// LOINC 59776-5, "Procedure findings Narrative".
const LOINC_FINDINGS: &str = "59776-5";
/// LOINC 19005-8, "Radiology Imaging study [Impression] (narrative)".
const LOINC_IMPRESSION: &str = "19005-8";

/// Writes the draft of an exam whose images have these views.
#[must_use]
pub fn draft(
    bundle: &Bundle,
    policy: &Policy,
    views: &[View],
    findings: &[Finding],
    not_assessed: &[String],
) -> DraftReport {
    let mut number = Number(0);
    let sections = vec![
        technique(bundle, views, &mut number),
        findings_section(bundle, findings, &mut number),
        impression(findings, &mut number),
        limitations(bundle, policy, not_assessed, &mut number),
    ];
    DraftReport {
        status: Status::Draft,
        withheld_reason: None,
        watermark: WATERMARK.into(),
        language: bundle.templates.language.clone(),
        sections,
    }
}

/// The draft that says nothing, and why.
#[must_use]
pub fn withheld(bundle: &Bundle, policy: &Policy, reason: &str) -> DraftReport {
    let section = limitations(bundle, policy, &[], &mut Number(0));
    DraftReport {
        status: Status::Withheld,
        withheld_reason: Some(reason.into()),
        watermark: WATERMARK.into(),
        language: bundle.templates.language.clone(),
        sections: vec![section],
    }
}

/// What must be known beside every result.
#[must_use]
pub fn caveats(bundle: &Bundle, policy: &Policy, findings: &[Finding]) -> Vec<String> {
    let mut caveats = Vec::new();
    match policy.intended {
        Use::Research => caveats.push("research use: not for clinical decisions".into()),
        Use::Shadow => caveats.push("shadow use: not for clinical decisions".into()),
        Use::Clinical => {}
    }
    let manifest = &bundle.manifest;
    if !manifest.clinical {
        caveats.push(format!(
            "bundle {} is not for clinical use: {}",
            manifest.name, manifest.intended_use
        ));
    }
    let phantoms = findings.iter().filter(|f| f.validation == Validation::Phantoms);
    let names: Vec<&str> = phantoms.map(|f| f.code.display.as_str()).collect();
    if !names.is_empty() {
        caveats.push(format!("validated on drawn phantoms only: {}", names.join(", ")));
    }
    caveats
}

/// Counts sentences through all sections.
struct Number(u32);

impl Number {
    fn sentence(&mut self, text: String, origin: Origin, support: Vec<Support>) -> Sentence {
        self.0 += 1;
        Sentence { n: self.0, text, origin, template: None, support }
    }
}

fn technique(bundle: &Bundle, views: &[View], number: &mut Number) -> Section {
    let templates = &bundle.templates.technique;
    let sentences = views
        .iter()
        .map(|view| {
            let text = templates.get(view.name()).or_else(|| templates.get("unknown"));
            let mut sentence =
                number.sentence(text.cloned().unwrap_or_default(), Origin::Metadata, Vec::new());
            sentence.template = Some(format!("technique.{}", view.name()));
            sentence
        })
        .collect();
    Section { code: SectionCode::Technique, loinc: None, sentences }
}

fn findings_section(bundle: &Bundle, findings: &[Finding], number: &mut Number) -> Section {
    let mut sentences = Vec::new();
    // What is there comes first, most probable first; what is not follows in the bundle's order.
    let mut spoken: Vec<&Finding> =
        findings.iter().filter(|f| f.decision != Decision::Absent).collect();
    spoken.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let absent = findings.iter().filter(|f| f.decision == Decision::Absent);
    for finding in spoken.into_iter().chain(absent) {
        let Some(templates) = bundle.templates.findings.get(&finding.id) else { continue };
        let (text, origin, word) = match finding.decision {
            Decision::Present => (&templates.present, Origin::Finding, "present"),
            Decision::Uncertain => (&templates.uncertain, Origin::Finding, "uncertain"),
            Decision::Absent => (&templates.absent, Origin::Absence, "absent"),
        };
        let mut sentence =
            number.sentence(with_validation(text, finding), origin, vec![support(finding)]);
        sentence.template = Some(format!("{}.{word}", finding.id));
        sentences.push(sentence);
    }
    Section { code: SectionCode::Findings, loinc: Some(LOINC_FINDINGS.into()), sentences }
}

/// A finding that was validated on phantoms only says so in its own sentence.
fn with_validation(text: &str, finding: &Finding) -> String {
    match finding.validation {
        Validation::Radiographs => text.into(),
        Validation::Phantoms => {
            format!("{} (validated on drawn phantoms only).", text.trim_end_matches('.'))
        }
    }
}

fn impression(findings: &[Finding], number: &mut Number) -> Section {
    let present: Vec<&Finding> =
        findings.iter().filter(|f| f.decision == Decision::Present).collect();
    let sentence = if present.is_empty() {
        let text = "No assessed finding reaches its threshold.".to_owned();
        number.sentence(text, Origin::Absence, findings.iter().map(support).collect())
    } else {
        let names: Vec<String> = present
            .iter()
            .map(|f| {
                format!(
                    "{} (probability {}, threshold {})",
                    f.code.display, f.probability, f.threshold
                )
            })
            .collect();
        let text = format!("For review: {}.", names.join("; "));
        number.sentence(text, Origin::Finding, present.into_iter().map(support).collect())
    };
    Section {
        code: SectionCode::Impression,
        loinc: Some(LOINC_IMPRESSION.into()),
        sentences: vec![sentence],
    }
}

fn support(finding: &Finding) -> Support {
    let features = finding
        .evidence
        .iter()
        .filter(|e| e.share > 0.0)
        .map(|e| FeatureSupport {
            feature: e.feature,
            label: e.label.clone(),
            activation: e.activation,
        })
        .collect();
    let image = finding.evidence.iter().find_map(|e| e.image.clone());
    Support { finding: finding.id.clone(), features, image }
}

fn limitations(
    bundle: &Bundle,
    policy: &Policy,
    not_assessed: &[String],
    number: &mut Number,
) -> Section {
    let mut texts = bundle.templates.limitations.clone();
    if !not_assessed.is_empty() {
        texts.push(format!("Not assessed: {}.", not_assessed.join(", ")));
    }
    let manifest = &bundle.manifest;
    texts.push(format!(
        "Made by Clearfilm {} ({}) with bundle {} {} ({}) under policy {}.",
        device::VERSION,
        device::COMMIT,
        manifest.name,
        manifest.version,
        bundle.digest,
        policy.digest(),
    ));
    let sentences = texts
        .into_iter()
        .map(|text| number.sentence(text, Origin::Boilerplate, Vec::new()))
        .collect();
    Section { code: SectionCode::Limitations, loinc: None, sentences }
}
