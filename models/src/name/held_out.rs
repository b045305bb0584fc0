//! Names from some patients' pictures, judged on those of others, one picture a request.
//!
//! The judge sees weak firings as well as strong ones, and half of the images on which a feature
//! is silent are those most like the ones on which it fires. Every figure stands beside the same
//! figure of other features' names on the same images. After Delphi's detection score and SAIL's
//! choice of two names out of five.

use rand::seq::SliceRandom as _;
use serde::Serialize;

use super::choose::{Chosen, Pool, Role};
use super::client::Answer;
use super::naming::Material;
use super::plan::HeldOut;
use super::prompts::{self, Concept, Picks, Single};
use super::reply::{Failure, Failures, count};
use super::score::{Beside, Figure, Figures, Judged, Said, dealt, lift, mean, whole};
use super::{Event, NameError, unfit};
use crate::evaluate::bootstrap::Estimate;
use crate::start::{Stream, numbers};

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct HeldOutResult {
    /// Features whose firing rate is in range.
    pub in_range: usize,
    /// Those of them that fire on enough patients of both roles.
    pub candidates: usize,
    /// Those that were drawn of them, by latent.
    pub features: Vec<Feature>,
    /// Mean lift of the balanced accuracy, over features and their images.
    pub lift: Option<Estimate>,
    /// Mean lift of the AUROC of P(1); none where the judge gives no probabilities.
    pub lift_auroc: Option<Estimate>,
    /// Mean balanced accuracy of own names.
    pub balanced_accuracy: Option<Estimate>,
    /// Share of own names among the two that were picked.
    pub contrastive: Option<Estimate>,
    /// That share by chance.
    pub contrastive_chance: f64,
    /// Names that failed.
    pub naming_failures: Failures,
    /// Judgements that failed, of own names.
    pub judging_failures: Failures,
    /// Judgements that failed, of other names.
    pub others_failures: Failures,
    /// Picks that failed.
    pub contrastive_failures: Failures,
}

/// A feature, its name, and what the name is worth.
#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    /// Latent of the dictionary.
    pub latent: usize,
    /// Share of the images on which it fires.
    pub rate: f64,
    /// By which it was judged; none where naming failed.
    pub name: Option<Concept>,
    /// Why it has none.
    pub naming_failure: Option<Failure>,
    /// Of its own name.
    pub own: Option<Figures>,
    /// Of each other feature's name.
    pub others: Vec<Figures>,
    /// Own less the mean of the others, balanced accuracy; the interval over images.
    pub lift: Option<Estimate>,
    /// The same of the AUROC.
    pub lift_auroc: Option<Estimate>,
    /// Whether its name was one of the two picked; none where that failed or was not asked.
    pub picked: Option<bool>,
}

struct One {
    latent: usize,
    chosen: Chosen,
}

type Name = Result<Concept, Failure>;

pub(super) fn run(material: &Material<'_>, how: &HeldOut) -> Result<HeldOutResult, NameError> {
    let (features, in_range, candidates) = features(material, how)?;
    let judged = features.len() * (1 + how.others) * 2 * how.each * how.quantiles;
    let picks = if how.distractors > 0 { features.len() } else { 0 };
    let text = format!(
        "{} of {candidates} features: at most {} requests to name, {judged} to judge and {picks} \
         to pick",
        features.len(),
        features.len()
    );
    (material.tell)(Event::Say(&text));
    let asks: Vec<_> =
        features.iter().map(|one| prompts::name(&material.pictures(&one.chosen.shown))).collect();
    (material.tell)(Event::Asks(asks.len()));
    let answers = material.namer.all(&asks, material.tell)?;
    let mut names: Vec<Name> =
        answers.into_iter().map(|answer| answer.and_then(|reply| reply.read())).collect();
    let fires: Vec<usize> =
        features.iter().map(|one| material.codes.column(one.latent).len()).collect();
    if material.plan.shuffle_names {
        let rounds = dealt(&fires, fires.len(), 1, material.plan.seed ^ 1);
        let moved = rounds[0].iter().enumerate();
        names = moved.map(|(own, other)| names[other.unwrap_or(own)].clone()).collect();
    }
    let rounds = dealt(&fires, how.group, how.others, material.plan.seed);
    let beside = detected(material, &features, &names, &rounds)?;
    let (picked, contrastive_failures) = picked(material, how, &features, &names)?;
    let mut result = result(material, (&features, names), &beside, picked);
    result.in_range = in_range;
    result.candidates = candidates;
    result.contrastive_chance = 2.0 / whole(how.distractors + 1);
    result.contrastive_failures = contrastive_failures;
    Ok(result)
}

/// Features with enough patients, and how many there were to choose from.
fn features(material: &Material<'_>, how: &HeldOut) -> Result<(Vec<One>, usize, usize), NameError> {
    if how.quantiles * how.each * how.shown * how.others == 0 {
        let expected = "shown, quantiles, each and others of 1 or more";
        return Err(unfit("plan: held-out", expected, format!("{how:?}")));
    }
    let seed = material.plan.seed;
    let roles: Vec<Role> = material.patients.iter().map(|p| Role::of(p, seed)).collect();
    let pool = Pool {
        patients: &material.patients,
        roles: &roles,
        embeddings: &material.embeddings,
        d: material.d,
    };
    let codes = &material.codes;
    let rate = |latent: usize| whole(codes.column(latent).len()) / whole(codes.samples);
    let [low, high] = material.plan.rates;
    let in_range: Vec<usize> =
        (0..codes.features()).filter(|l| (low..=high).contains(&rate(*l))).collect();
    let mut features: Vec<One> = in_range
        .iter()
        .filter_map(|latent| {
            let chosen = pool.choose(*latent, codes.column(*latent), how, seed)?;
            Some(One { latent: *latent, chosen })
        })
        .collect();
    let candidates = features.len();
    if candidates == 0 {
        let found = format!("{} in the range of rates, none with enough patients", in_range.len());
        return Err(unfit("features", "some that fire on enough patients of both roles", found));
    }
    features.shuffle(&mut numbers(seed, Stream::Control));
    features.truncate(material.plan.latents_max);
    features.sort_unstable_by_key(|one| one.latent);
    Ok((features, in_range.len(), candidates))
}

/// What the judge says of each feature's images, by its own and by other names.
fn detected(
    material: &Material<'_>,
    features: &[One],
    names: &[Name],
    rounds: &[Vec<Option<usize>>],
) -> Result<Vec<Beside>, NameError> {
    let (mut asks, mut places) = (Vec::new(), Vec::new());
    for (at, one) in features.iter().enumerate() {
        let own = std::iter::once(Some(at));
        let others = rounds.iter().map(|round| round[at]);
        for (round, other) in own.chain(others).enumerate() {
            let Some(Ok(name)) = other.map(|other| &names[other]) else { continue };
            // Without a name of its own, a feature has nothing to compare.
            if names[at].is_err() {
                continue;
            }
            let firing = one.chosen.firing.iter().map(|image| (image, true));
            let silent = one.chosen.silent.iter().map(|image| (image, false));
            for (image, fires) in firing.chain(silent) {
                asks.push(prompts::mark_one(name, &material.images[*image]));
                places.push((at, round, fires));
            }
        }
    }
    (material.tell)(Event::Asks(asks.len()));
    let answers = material.judge.all(&asks, material.tell)?;
    let judged = answers.into_iter().zip(places);
    let judged = judged
        .map(|(answer, (at, round, fires))| (at, round, Judged { fires, said: said(answer) }));
    Ok(Beside::gathered(features.len(), rounds.len(), judged))
}

/// A yes or no, and its probability where the server gives one.
pub(super) fn said(answer: Answer) -> Result<Said, Failure> {
    let reply = answer?;
    Ok(Said { fits: reply.read::<Single>()?.present == 1, score: reply.one })
}

/// Whether each feature's name was among the two picked for five of its pictures.
fn picked(
    material: &Material<'_>,
    how: &HeldOut,
    features: &[One],
    names: &[Name],
) -> Result<(Vec<Option<bool>>, Failures), NameError> {
    let mut picked = vec![None; features.len()];
    let mut failures = Failures::new();
    let (mut asks, mut places) = (Vec::new(), Vec::new());
    for (at, one) in features.iter().enumerate().filter(|_| how.distractors > 0) {
        let Ok(own) = &names[at] else { continue };
        let mut random = numbers(material.plan.seed, Stream::Shown(one.latent as u64));
        let mut others: Vec<&Concept> =
            names.iter().flatten().filter(|name| *name != own).collect();
        others.sort_unstable_by(|a, b| {
            (&a.concept, &a.description).cmp(&(&b.concept, &b.description))
        });
        others.dedup();
        others.shuffle(&mut random);
        others.truncate(how.distractors);
        if others.len() < how.distractors {
            continue;
        }
        others.push(own);
        others.shuffle(&mut random);
        // One of each quantile, so that weak firings are among them.
        let shown: Vec<usize> = one.chosen.firing.iter().copied().step_by(how.each).collect();
        asks.push(prompts::pick(&others, &material.pictures(&shown)));
        places.push((at, 1 + others.iter().position(|name| *name == own).unwrap_or_default()));
    }
    (material.tell)(Event::Asks(asks.len()));
    let answers = material.judge.all(&asks, material.tell)?;
    for (answer, (at, right)) in answers.into_iter().zip(places) {
        match answer.and_then(|reply| reply.read::<Picks>()) {
            Ok(Picks { picks: [a, b] }) if a != b => {
                picked[at] = Some([a, b].iter().any(|pick| *pick as usize == right));
            }
            Ok(_) => count(&mut failures, Failure::Shape),
            Err(failure) => count(&mut failures, failure),
        }
    }
    Ok((picked, failures))
}

fn result(
    material: &Material<'_>,
    (features, names): (&[One], Vec<Name>),
    beside: &[Beside],
    picked: Vec<Option<bool>>,
) -> HeldOutResult {
    let how = &material.plan.bootstrap;
    let (mut naming_failures, mut judging_failures) = (Failures::new(), Failures::new());
    let mut others_failures = Failures::new();
    let (mut all, mut accuracies) = (Vec::new(), Vec::new());
    for (((one, name), beside), picked) in features.iter().zip(names).zip(beside).zip(&picked) {
        if let Some(failure) = name.as_ref().err() {
            count(&mut naming_failures, *failure);
        }
        let failed = |judged: &Judged| judged.said.err();
        beside.own.iter().filter_map(failed).for_each(|f| count(&mut judging_failures, f));
        let others = beside.others.iter().flatten();
        others.filter_map(failed).for_each(|f| count(&mut others_failures, f));
        let own = (!beside.own.is_empty()).then(|| Figures::of(&beside.own));
        accuracies.extend(own.as_ref().and_then(|own| own.balanced_accuracy));
        all.push(Feature {
            latent: one.latent,
            rate: whole(material.codes.column(one.latent).len()) / whole(material.codes.samples),
            naming_failure: name.as_ref().err().copied(),
            name: name.ok(),
            own,
            others: beside.others.iter().map(|other| Figures::of(other)).collect(),
            lift: beside.estimate(Figure::BalancedAccuracy, how),
            lift_auroc: beside.estimate(Figure::Auroc, how),
            picked: *picked,
        });
    }
    let picked: Vec<f64> = picked.iter().flatten().map(|p| f64::from(u8::from(*p))).collect();
    HeldOutResult {
        in_range: 0,
        candidates: 0,
        features: all,
        lift: lift(beside, Figure::BalancedAccuracy, how),
        lift_auroc: lift(beside, Figure::Auroc, how),
        balanced_accuracy: mean(&accuracies, how),
        contrastive: mean(&picked, how),
        contrastive_chance: 0.0,
        naming_failures,
        judging_failures,
        others_failures,
        contrastive_failures: Failures::new(),
    }
}
