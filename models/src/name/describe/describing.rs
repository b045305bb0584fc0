//! Descriptions of features, and how well each tells other patients' reports apart.

use std::path::Path;

use clearfilm::id::Digest;
use rand::seq::SliceRandom as _;
use serde::Serialize;

use super::material::{LEAST, Material};
use super::phrases::{Phrase, distinctive, score};
use super::plan::{By, Plan};
use super::together::{self, TogetherResult};
use super::words::Said as Words;
use super::writing;
use crate::evaluate::bootstrap::Estimate;
use crate::name::choose::Role;
use crate::name::client::{Account, Client};
use crate::name::reply::{Failure, Failures, count};
use crate::name::score::{Beside, Figure, Figures, Judged, Said, dealt, lift, mean};
use crate::name::{Event, NameError, Tell, prompts, unfit};
use crate::start::{Stream, numbers};

/// The form of `descriptions.json`.
pub const FORMAT: u32 = 1;

/// What a feature means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// In words.
    pub text: String,
    /// What the words are, by `phrases`.
    pub phrases: Vec<Phrase>,
}

/// A feature, and the reports for it; rows of [`Material`].
#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) latent: usize,
    /// R(i).
    pub(super) top: Vec<usize>,
    /// Reports that are alike but for the feature.
    pub(super) contrast: Vec<usize>,
    /// Reports on which it is silent, in a drawn order.
    pub(super) background: Vec<usize>,
    /// Held-out reports, each with whether it fires.
    pub(super) judged: Vec<(usize, bool)>,
}

/// A feature's description and what it is worth.
#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    /// Latent.
    pub latent: usize,
    /// What it was planted for, where that is known.
    pub planted: Option<String>,
    /// Reports on which it fires.
    pub fires: usize,
    /// Sizes of R(i) and of its contrast.
    pub made_from: [usize; 2],
    /// None where it failed.
    pub description: Option<Description>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// On held-out reports.
    pub own: Option<Figures>,
    /// AUROC less the mean of other features' descriptions on the same reports.
    pub lift: Option<Estimate>,
}

/// What a plan came to.
#[derive(Debug, Serialize)]
pub struct Descriptions {
    /// Of this form.
    pub format: u32,
    /// What made it.
    pub software: &'static str,
    /// By which plan; paths as they were written.
    pub plan: Plan,
    /// SHA-256 of that plan as JSON.
    pub plan_digest: Digest,
    /// SHA-256 of every text that a model is told.
    pub prompts: Digest,
    /// Reports with a text: to describe from, and to judge on.
    pub reports: [usize; 2],
    /// What a reader has to know.
    pub warnings: Vec<String>,
    /// Who described.
    pub namer: Option<Account>,
    /// Who judged, where that was another one.
    pub judge: Option<Account>,
    /// Features with enough reports.
    pub candidates: usize,
    /// Those that were drawn of them.
    pub features: Vec<Feature>,
    /// Descriptions that failed.
    pub failures: Failures,
    /// Judgements that failed, of own descriptions.
    pub judging_failures: Failures,
    /// Mean AUROC of own descriptions.
    pub auroc: Option<Estimate>,
    /// Mean lift of the AUROC, over features and their reports.
    pub lift: Option<Estimate>,
    /// The control of features that fire together.
    pub together: Option<TogetherResult>,
}

type Made = Result<Description, Failure>;

/// Describes features and judges the descriptions; replies are kept below `out`. `written` is the
/// plan with its paths as they were written.
///
/// # Errors
/// A limit of the plan is reached, a server is away, or a file does not fit.
pub fn describe(
    (plan, written): (&Plan, &Plan),
    material: &Material,
    out: &Path,
    tell: Tell<'_>,
) -> Result<Descriptions, NameError> {
    let clients = clients(plan, out)?;
    let (features, candidates) = features(plan, material)?;
    let json = serde_json::to_vec(written).map_err(NameError::Forming)?;
    let server = clients.as_ref();
    let say = format!(
        "{} of {candidates} features; at most {} requests",
        features.len(),
        server.map_or(0, |_| {
            let reports: usize = features.iter().map(|one| one.judged.len()).sum();
            2 * features.len() + reports * (1 + plan.others)
        })
    );
    tell(Event::Say(&say));
    let mut made: Vec<Made> = match server {
        Some((namer, _)) => writing::written(namer, material, &features, plan.random, tell)?,
        None => features.iter().map(|one| by_phrases(material, one)).collect(),
    };
    let fires: Vec<usize> =
        features.iter().map(|one| material.codes.column(one.latent).len()).collect();
    if plan.shuffle_names {
        let rounds = dealt(&fires, fires.len(), 1, plan.seed ^ 1);
        let moved = rounds[0].iter().enumerate();
        made = moved.map(|(own, other)| made[other.unwrap_or(own)].clone()).collect();
    }
    let rounds = dealt(&fires, plan.group, plan.others.max(1), plan.seed);
    let judge = server.map(|(namer, judge)| judge.as_ref().unwrap_or(namer));
    let beside = beside((material, &features, &made), &rounds, judge, tell)?;
    let roles = |role: Role| material.roles.iter().filter(|own| **own == role).count();
    let mut result = Descriptions {
        format: FORMAT,
        software: concat!("clearfilm-models ", env!("CARGO_PKG_VERSION")),
        plan: written.clone(),
        plan_digest: Digest::of(&json),
        prompts: prompts::digest(),
        reports: [roles(Role::Namer), roles(Role::Judge)],
        warnings: warnings(plan),
        namer: server.map(|(namer, _)| namer.account()),
        judge: server.and_then(|(_, judge)| judge.as_ref()).map(Client::account),
        candidates,
        features: Vec::new(),
        failures: Failures::new(),
        judging_failures: Failures::new(),
        auroc: None,
        lift: lift(&beside, Figure::Auroc, &plan.bootstrap),
        together: None,
    };
    for ((one, made), beside) in features.iter().zip(made).zip(&beside) {
        result.add(material, one, made, beside);
    }
    let own = result.features.iter().filter_map(|feature| feature.own.as_ref()?.auroc);
    result.auroc = mean(&own.collect::<Vec<f64>>(), &plan.bootstrap);
    result.together =
        plan.together.as_ref().map(|t| together::run(plan, t, material)).transpose()?;
    Ok(result)
}

type Clients<'a> = (Client<'a>, Option<Client<'a>>);

fn clients<'a>(plan: &'a Plan, out: &Path) -> Result<Option<Clients<'a>>, NameError> {
    if plan.by == By::Phrases {
        return Ok(None);
    }
    let namer = plan.namer.as_ref().ok_or_else(|| unfit("plan", "a section [namer]", "none"))?;
    let judge = plan.judge.as_ref().map(|judge| Client::new(judge, out, None)).transpose()?;
    Ok(Some((Client::new(namer, out, None)?, judge)))
}

fn warnings(plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let model = plan.namer.as_ref().map(|server| &server.model);
    let same = plan.judge.as_ref().is_none_or(|judge| Some(&judge.model) == model);
    if plan.by == By::Server && same {
        warnings.push("the judge is the model that described: it agrees with itself".to_owned());
    }
    if plan.shuffle_names {
        warnings.push("a control: descriptions were judged on other features' reports".to_owned());
    }
    if plan.contrast == 0 {
        warnings.push("a control: nothing was held against what fires along".to_owned());
    }
    warnings
}

/// Features with enough reports, and how many there were to choose from.
fn features(plan: &Plan, material: &Material) -> Result<(Vec<One>, usize), NameError> {
    let enough = |latent: &usize| {
        [Role::Namer, Role::Judge]
            .into_iter()
            .all(|role| material.firing(*latent, role).len() >= plan.reports_min.max(1))
    };
    let mut latents: Vec<usize> = (0..material.codes.features()).filter(enough).collect();
    let candidates = latents.len();
    if candidates == 0 {
        let expected = format!("some that fire on {} reports of both roles", plan.reports_min);
        return Err(unfit("latents", expected, "none"));
    }
    latents.shuffle(&mut numbers(plan.seed, Stream::Control));
    latents.truncate(plan.latents_max);
    latents.sort_unstable();
    let one = |latent: usize| {
        let mut top = material.firing(latent, Role::Namer);
        top.truncate(plan.shown);
        let background = material.silent(latent, Role::Namer);
        let contrast = material.alike(&top, &background, (plan.contrast, LEAST));
        let mut firing = material.firing(latent, Role::Judge);
        firing.truncate(plan.judged);
        let silent = material.silent(latent, Role::Judge);
        // Half of them are like those that fire, else it would do to know what is normal.
        let mut against = material.alike(&firing, &silent, (firing.len() / 2, 0.0));
        let rest = silent.into_iter().filter(|row| !against.contains(row));
        let rest: Vec<usize> = rest.take(firing.len() - against.len()).collect();
        against.extend(rest);
        let judged = firing.into_iter().map(|row| (row, true));
        let judged = judged.chain(against.into_iter().map(|row| (row, false))).collect();
        One { latent, top, contrast, background, judged }
    };
    Ok((latents.into_iter().map(one).collect(), candidates))
}

/// A description of phrases; one that finds none is a failure, not an empty text.
pub(super) fn by_phrases(material: &Material, one: &One) -> Made {
    let said =
        |rows: &[usize]| -> Vec<&Words> { rows.iter().map(|row| &material.said[*row]).collect() };
    let phrases = distinctive(&said(&one.top), &said(&one.contrast), &said(&one.background));
    let text: Vec<&str> = phrases.iter().map(|phrase| phrase.phrase.as_str()).collect();
    let text = text.join("; ");
    if phrases.is_empty() { Err(Failure::Refusal) } else { Ok(Description { text, phrases }) }
}

/// Each feature's held-out reports by its own and by other descriptions.
fn beside(
    (material, features, made): (&Material, &[One], &[Made]),
    rounds: &[Vec<Option<usize>>],
    judge: Option<&Client<'_>>,
    tell: Tell<'_>,
) -> Result<Vec<Beside>, NameError> {
    let (mut pairs, mut places) = (Vec::new(), Vec::new());
    for (at, one) in features.iter().enumerate().filter(|(at, _)| made[*at].is_ok()) {
        let others = rounds.iter().map(|round| round[at]);
        for (round, other) in std::iter::once(Some(at)).chain(others).enumerate() {
            let Some(Ok(description)) = other.map(|other| &made[other]) else { continue };
            pairs.extend(one.judged.iter().map(|(row, fires)| (description, *row, *fires)));
            places.extend(std::iter::repeat_n((at, round), one.judged.len()));
        }
    }
    let answers = match judge {
        Some(client) => writing::judged(client, material, &pairs, tell)?,
        None => pairs.iter().map(|(d, row, fires)| overlap(material, d, *row, *fires)).collect(),
    };
    let judged = answers.into_iter().zip(places);
    let judged = judged.map(|(judged, (at, round))| (at, round, judged));
    Ok(Beside::gathered(features.len(), rounds.len(), judged))
}

fn overlap(material: &Material, description: &Description, row: usize, fires: bool) -> Judged {
    let score = score(&description.phrases, &material.said[row]);
    Judged { fires, said: Ok(Said { fits: score > 0.0, score: Some(score) }) }
}

impl Descriptions {
    fn add(&mut self, material: &Material, one: &One, made: Made, beside: &Beside) {
        if let Some(failure) = made.as_ref().err() {
            count(&mut self.failures, *failure);
        }
        let failed = beside.own.iter().filter_map(|judged| judged.said.err());
        failed.for_each(|failure| count(&mut self.judging_failures, failure));
        self.features.push(Feature {
            latent: one.latent,
            planted: material.planted.get(one.latent).cloned(),
            fires: material.codes.column(one.latent).len(),
            made_from: [one.top.len(), one.contrast.len()],
            failure: made.as_ref().err().copied(),
            description: made.ok(),
            own: (!beside.own.is_empty()).then(|| Figures::of(&beside.own)),
            lift: beside.estimate(Figure::Auroc, &self.plan.bootstrap),
        });
    }
}
