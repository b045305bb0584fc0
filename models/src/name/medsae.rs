//! MedSAE's naming and scoring, as its code does them (`assign_names_VLM.py`, `naming_eval.py`).
//!
//! Its three arms: the dictionary's features, the embedding's own dimensions, and the first ones'
//! names among each other's features. Namer and judge see some of the same images, so that these
//! figures are higher than those on other patients.

use rand::seq::SliceRandom as _;
use serde::Serialize;

use super::choose::{medsae_judged, medsae_shown};
use super::client::Answer;
use super::naming::Material;
use super::plan::Medsae;
use super::prompts::{self, Concept, Marks};
use super::reply::{Failure, Failures, count};
use super::score::{Figures, Judged, Said, dealt, mean};
use super::{Event, NameError};
use crate::codes::{Codes, Value};
use crate::evaluate::bootstrap::{Bootstrap, Estimate};
use crate::start::{Stream, numbers};

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct MedsaeResult {
    /// The dictionary's features.
    pub sae: Arm,
    /// Dimensions of the embedding.
    pub raw: Arm,
    /// The dictionary's features by each other's names.
    pub shuffled: Arm,
}

/// One arm.
#[derive(Debug, Clone, Serialize)]
pub struct Arm {
    /// Features that fire on enough images.
    pub candidates: usize,
    /// Those that were drawn of them, by index.
    pub features: Vec<Feature>,
    /// Means over those that have a figure.
    pub means: Option<Means>,
    /// Names that failed.
    pub naming_failures: Failures,
    /// Judgements that failed, in images.
    pub judging_failures: Failures,
}

/// A feature, its name and figures.
#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    /// Latent of the dictionary, or dimension of the embedding.
    pub index: usize,
    /// Images on which it fires.
    pub fires: usize,
    /// By which it was judged; none where naming failed.
    pub name: Option<Concept>,
    /// Why it has none.
    pub naming_failure: Option<Failure>,
    /// Over the images that have an answer.
    pub figures: Option<Figures>,
    /// The paper's: images without an answer count as zeros.
    pub with_zeros: Option<Figures>,
}

/// Means over features, with intervals by feature.
#[derive(Debug, Clone, Serialize)]
pub struct Means {
    /// Of the images that have an answer.
    pub accuracy: Estimate,
    /// The paper's.
    pub accuracy_with_zeros: Estimate,
    /// Of the images that have an answer.
    pub precision: Estimate,
    /// Of the images that have an answer.
    pub recall: Estimate,
    /// Of the images that have an answer.
    pub f1: Estimate,
}

type Name = Result<Concept, Failure>;

pub(super) fn run(material: &Material<'_>, how: &Medsae) -> Result<MedsaeResult, NameError> {
    let raw = positive(&Codes::dense(&material.embeddings, material.d));
    let (of_sae, of_raw) =
        (Arms::of(material, &material.codes, how), Arms::of(material, &raw, how));
    let requests = |arm: &Arms<'_>| arm.features.len() * (2 * how.judged).div_ceil(how.at_once);
    let named = of_sae.features.len() + of_raw.features.len();
    let judged = 2 * requests(&of_sae) + requests(&of_raw);
    let text = format!(
        "{} of {} features and {} of {} dimensions: at most {named} requests to name and {judged} \
         to judge",
        of_sae.features.len(),
        of_sae.candidates,
        of_raw.features.len(),
        of_raw.candidates
    );
    (material.tell)(Event::Say(&text));
    let names = of_sae.names(how)?;
    let fires: Vec<usize> = of_sae.features.iter().map(|f| of_sae.codes.column(*f).len()).collect();
    let rounds = dealt(&fires, fires.len(), 1, material.plan.seed);
    let others: Vec<Name> = rounds[0]
        .iter()
        .map(|other| other.map_or(Err(Failure::Refusal), |other| names[other].clone()))
        .collect();
    let raw_names = of_raw.names(how)?;
    Ok(MedsaeResult {
        sae: of_sae.judged(names, how)?,
        raw: of_raw.judged(raw_names, how)?,
        shuffled: of_sae.judged(others, how)?,
    })
}

/// Only what lies above 0, as activations of a dictionary do.
fn positive(codes: &Codes) -> Codes {
    let mut values: Vec<(u32, u32, f32)> = Vec::new();
    for (feature, at) in (0_u32..).zip(0..codes.features()) {
        let above = codes.column(at).iter().filter(|value| value.value > 0.0);
        values.extend(above.map(|value: &Value| (feature, value.sample, value.value)));
    }
    values.sort_unstable_by_key(|(_, sample, _)| *sample);
    Codes::listed(codes.samples, codes.features(), &values)
}

/// Features of one kind.
struct Arms<'a> {
    material: &'a Material<'a>,
    codes: &'a Codes,
    candidates: usize,
    features: Vec<usize>,
}

impl<'a> Arms<'a> {
    fn of(material: &'a Material<'a>, codes: &'a Codes, how: &Medsae) -> Self {
        let enough = |feature: &usize| codes.column(*feature).len() > 2 * how.shown;
        let mut features: Vec<usize> = (0..codes.features()).filter(enough).collect();
        let candidates = features.len();
        features.shuffle(&mut numbers(material.plan.seed, Stream::Control));
        features.truncate(material.plan.latents_max);
        features.sort_unstable();
        Self { material, codes, candidates, features }
    }

    fn names(&self, how: &Medsae) -> Result<Vec<Name>, NameError> {
        let ask = |feature: &usize| {
            let shown = medsae_shown(*feature, self.codes.column(*feature), how);
            prompts::name(&self.material.pictures(&shown))
        };
        let asks: Vec<_> = self.features.iter().map(ask).collect();
        (self.material.tell)(Event::Asks(asks.len()));
        let answers = self.material.namer.all(&asks, self.material.tell)?;
        Ok(answers.into_iter().map(|answer| answer.and_then(|reply| reply.read())).collect())
    }

    fn judged(&self, names: Vec<Name>, how: &Medsae) -> Result<Arm, NameError> {
        let (mut asks, mut parts) = (Vec::new(), Vec::new());
        for (at, (feature, name)) in self.features.iter().zip(&names).enumerate() {
            let Ok(name) = name else { continue };
            let column = self.codes.column(*feature);
            let images = medsae_judged(*feature, column, self.codes.samples, how);
            for part in images.chunks(how.at_once.max(1)) {
                let shown: Vec<usize> = part.iter().map(|(image, _)| *image).collect();
                asks.push(prompts::mark_each(name, &self.material.pictures(&shown)));
                parts.push((at, part.iter().map(|(_, fires)| *fires).collect::<Vec<bool>>()));
            }
        }
        (self.material.tell)(Event::Asks(asks.len()));
        let answers = self.material.judge.all(&asks, self.material.tell)?;
        let mut judged = vec![Vec::new(); self.features.len()];
        for (answer, (at, fires)) in answers.into_iter().zip(parts) {
            judged[at].extend(marks(answer, &fires));
        }
        Ok(self.arm(names, &judged))
    }

    fn arm(&self, names: Vec<Name>, judged: &[Vec<Judged>]) -> Arm {
        let (mut naming_failures, mut judging_failures) = (Failures::new(), Failures::new());
        let mut features = Vec::new();
        for ((index, name), judged) in self.features.iter().zip(names).zip(judged) {
            let figures = (!judged.is_empty()).then(|| Figures::of(judged));
            if let Some(failure) = name.as_ref().err() {
                count(&mut naming_failures, *failure);
            }
            judged
                .iter()
                .filter_map(|j| j.said.err())
                .for_each(|f| count(&mut judging_failures, f));
            features.push(Feature {
                index: *index,
                fires: self.codes.column(*index).len(),
                naming_failure: name.as_ref().err().copied(),
                name: name.ok(),
                with_zeros: figures.is_some().then(|| Figures::with_zeros(judged)),
                figures,
            });
        }
        let means = means(&features, &self.material.plan.bootstrap);
        Arm { candidates: self.candidates, features, means, naming_failures, judging_failures }
    }
}

/// What was said of each picture of a request.
fn marks(answer: Answer, fires: &[bool]) -> Vec<Judged> {
    let marks = answer.and_then(|reply| reply.read::<Marks>());
    let said = |at: usize| match &marks {
        Ok(marks) => Ok(Said { fits: marks.present[at] == 1, score: None }),
        Err(failure) => Err(*failure),
    };
    fires.iter().enumerate().map(|(at, fires)| Judged { fires: *fires, said: said(at) }).collect()
}

fn means(features: &[Feature], how: &Bootstrap) -> Option<Means> {
    let of = |figure: &dyn Fn(&Figures) -> f64, zeros: bool| {
        let all =
            features.iter().filter_map(|f| if zeros { &f.with_zeros } else { &f.figures }.as_ref());
        let judged = all.filter(|figures| figures.judged > 0);
        mean(&judged.map(figure).collect::<Vec<f64>>(), how)
    };
    Some(Means {
        accuracy: of(&|f| f.accuracy, false)?,
        accuracy_with_zeros: of(&|f| f.accuracy, true)?,
        precision: of(&|f| f.precision, false)?,
        recall: of(&|f| f.recall, false)?,
        f1: of(&|f| f.f1, false)?,
    })
}
