//! The spine: one pure function from a frame to a reading.

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Code};
use crate::config::{OodPolicy, Policy};
use crate::decode::{Frame, View};
use crate::encode::{self, EncodeError, Encoder};
use crate::evidence::{self, Encoded};
use crate::findings::{self, Finding, significant_4};
use crate::gate::{self, Check, Judgement, Outcome};
use crate::id::LatentIndex;
use crate::ood::{self, Likeness, Ood};
use crate::preprocess;
use crate::report::{self, DraftReport};
use crate::sparse::{self, SparseCode};

/// Version of the stored form of a reading.
pub const READING_VERSION: u32 = 1;

/// What was read in one instance: findings and draft, or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// [`READING_VERSION`].
    pub v: u32,
    /// Header value, where it is one that the gate lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// How the image was taken.
    pub view: View,
    /// May this image be read?
    pub gate: Judgement,
    /// Is it like what the bundle was measured on? None where the gate refused it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ood: Option<Ood>,
    /// What each feature says: the active latents, activations with 4 significant digits.
    pub features: Vec<ActiveFeature>,
    /// Candidate statements.
    pub findings: Vec<Finding>,
    /// What nothing is said about.
    pub not_assessed: Vec<String>,
    /// What must be known beside the findings.
    pub caveats: Vec<String>,
    /// Text for a human to accept or change, or why there is none.
    pub draft: DraftReport,
}

/// One active latent as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ActiveFeature {
    /// Which latent.
    pub feature: LatentIndex,
    /// How strongly, 4 significant digits.
    pub activation: f64,
}

/// Why a frame could not be read; a refusal is not an error but a [`Reading`] that says why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Reads one instance: pixels in, findings and a draft report out.
///
/// Pure: no clock, no file, no network. Same instance, bundle and policy (the few configured
/// choices of gate and report; their digest is in every message), same reading.
///
/// # Errors
/// The engine fails; everything else that can be wrong with an image is part of the reading.
pub fn read(
    frame: &Frame,
    bundle: &Bundle,
    policy: &Policy,
    encoder: &mut dyn Encoder,
) -> Result<Reading, Error> {
    let picture = preprocess::render(frame);
    let mut gate = gate::judge(frame, &picture, &policy.gate);
    if !gate.accept {
        return Ok(refused(frame, bundle, policy, gate));
    }
    let input = preprocess::input_of(&picture, &bundle.manifest.input);
    let tokens = encoder.encode(&input)?;
    let embedding = encode::embed(&tokens, &bundle.head);
    let code = sparse::encode(&bundle.sae, &tokens, &embedding);
    let ood = ood::judge(&tokens, &embedding, &code, &bundle.sae, &bundle.ood);
    gate.add(likeness(&ood, policy.gate.ood));
    if !gate.accept {
        let reading = refused(frame, bundle, policy, gate);
        return Ok(Reading { ood: Some(rounded(ood)), features: features(&code.image), ..reading });
    }
    let mut assessed = findings::assess(bundle, policy, &code.image);
    let encoded = Encoded { tokens: &tokens, embedding: &embedding, code: &code };
    evidence::locate(&mut assessed.findings, bundle, encoded, &input.placement);
    let views = [frame.facts.view];
    let mut caveats = report::caveats(bundle, policy, &assessed.findings);
    if ood.decision != Likeness::In {
        caveats.push(format!(
            "unlike the images that the bundle was measured on: {}",
            word(ood.decision)
        ));
    }
    Ok(Reading {
        v: READING_VERSION,
        modality: frame.facts.modality.clone(),
        view: frame.facts.view,
        gate,
        ood: Some(rounded(ood)),
        features: features(&code.image),
        draft: report::draft(bundle, policy, &views, &assessed.findings, &assessed.not_assessed),
        caveats,
        findings: assessed.findings,
        not_assessed: assessed.not_assessed,
    })
}

impl Reading {
    /// Was the image read, or only looked at and refused?
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.gate.accept
    }

    /// Is the image refused because it is unlike what the bundle was measured on?
    #[must_use]
    pub fn withheld(&self) -> bool {
        !self.gate.accept && self.ood.as_ref().is_some_and(|o| o.decision == Likeness::Out)
    }
}

/// The reading of an image that is not read: no finding, and a draft that says why.
fn refused(frame: &Frame, bundle: &Bundle, policy: &Policy, gate: Judgement) -> Reading {
    let (code, detail) = gate.refusal().unwrap_or_default();
    let reason = format!("{code}: {detail}");
    let modality = frame.facts.modality.clone().filter(|m| policy.gate.modalities.contains(m));
    Reading {
        v: READING_VERSION,
        modality,
        view: frame.facts.view,
        gate,
        ood: None,
        features: Vec::new(),
        findings: Vec::new(),
        not_assessed: Vec::new(),
        caveats: report::caveats(bundle, policy, &[]),
        draft: report::withheld(bundle, policy, &reason),
    }
}

/// The out-of-distribution answer as a check of the gate.
fn likeness(ood: &Ood, policy: OodPolicy) -> Check {
    let outcome = match (ood.decision, policy) {
        (Likeness::In, _) => Outcome::Pass,
        (Likeness::Out, OodPolicy::Withhold) => Outcome::Fail,
        (Likeness::Out, OodPolicy::Flag) | (Likeness::Borderline, _) => Outcome::Warn,
    };
    let detail =
        format!("expected a score of at most {:.4}, found {:.4}", ood.threshold, ood.score);
    Check {
        name: "ood".into(),
        outcome,
        code: None::<Code>,
        detail: (outcome != Outcome::Pass).then_some(detail),
    }
}

fn word(likeness: Likeness) -> &'static str {
    match likeness {
        Likeness::In => "in distribution",
        Likeness::Borderline => "borderline",
        Likeness::Out => "out of distribution",
    }
}

fn rounded(ood: Ood) -> Ood {
    let round = findings::round_4;
    Ood { score: round(ood.score), threshold: round(ood.threshold), decision: ood.decision }
}

fn features(code: &SparseCode) -> Vec<ActiveFeature> {
    let entries = code.entries().iter();
    entries
        .map(|a| ActiveFeature { feature: a.latent, activation: significant_4(a.activation) })
        .collect()
}

/// What all images of an exam say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// Per finding the image that speaks for it most clearly.
    pub findings: Vec<Finding>,
    /// What no image says anything about.
    pub not_assessed: Vec<String>,
    /// What must be known beside the findings of any image.
    pub caveats: Vec<String>,
    /// One draft over all of them, or why there is none.
    pub draft: DraftReport,
}

/// Combines the readings of an exam's images, each with its name within the exam.
///
/// A finding is that of the image where its probability is highest; every piece of evidence names
/// its image. Pure, like [`read`]: the same readings in the same order give the same exam.
#[must_use]
pub fn combine(images: &[(&str, &Reading)], bundle: &Bundle, policy: &Policy) -> Combined {
    let read: Vec<&(&str, &Reading)> =
        images.iter().filter(|(_, reading)| reading.accepted()).collect();
    let mut findings: Vec<Finding> = Vec::new();
    for (name, reading) in &read {
        for finding in &reading.findings {
            let finding = on_image(finding, name);
            match findings.iter_mut().find(|f| f.id == finding.id) {
                None => findings.push(finding),
                Some(other) if finding.probability > other.probability => *other = finding,
                Some(_) => {}
            }
        }
    }
    let order = |f: &Finding| bundle.rules.findings.iter().position(|rule| rule.id == f.id);
    findings.sort_by_key(order);
    let said: Vec<String> = findings.iter().map(|f| f.code.display.to_lowercase()).collect();
    let unsaid = |text: &String| said.iter().all(|s| !text.starts_with(s.as_str()));
    let not_assessed =
        union(read.iter().flat_map(|(_, r)| &r.not_assessed).filter(|text| unsaid(text)));
    let caveats = union(images.iter().flat_map(|(_, r)| &r.caveats));
    let views: Vec<View> = read.iter().map(|(_, r)| r.view).collect();
    let draft = match (read.is_empty(), images.last()) {
        (true, Some((_, last))) => last.draft.clone(),
        _ => report::draft(bundle, policy, &views, &findings, &not_assessed),
    };
    Combined { findings, not_assessed, caveats, draft }
}

fn on_image(finding: &Finding, name: &str) -> Finding {
    let mut finding = finding.clone();
    for evidence in &mut finding.evidence {
        evidence.image = Some(name.to_owned());
    }
    finding
}

/// Each text once, in the order of its first appearance.
fn union<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut union: Vec<String> = Vec::new();
    for text in texts {
        if !union.contains(text) {
            union.push(text.clone());
        }
    }
    union
}
