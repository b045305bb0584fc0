//! Names for the features of a dictionary, and everything that is known of how good they are.

use std::path::Path;

use clearfilm::bundle::{Level, Sae};
use clearfilm::id::Digest;
use serde::Serialize;

use super::client::{Account, Client};
use super::held_out::{self, HeldOutResult};
use super::medsae::{self, MedsaeResult};
use super::plan::{Plan, Procedure};
use super::show::Source;
use super::vocabulary::{self, Match};
use super::{Event, NameError, Tell, prompts, unfit};
use crate::codes::Codes;
use crate::evaluate::evaluation::Loaded;

/// The form of `names.json`.
pub const FORMAT: u32 = 1;

/// What a plan came to.
#[derive(Debug, Serialize)]
pub struct Named {
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
    /// Images that were used.
    pub images: usize,
    /// What a reader has to know.
    pub warnings: Vec<String>,
    /// Who named; none with a vocabulary.
    pub namer: Option<Account>,
    /// Who judged; none where it was the namer.
    pub judge: Option<Account>,
    /// Names and figures.
    pub result: Outcome,
}

/// Names and figures, by procedure.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// MedSAE's.
    Medsae(Box<MedsaeResult>),
    /// Judged on other patients.
    HeldOut(Box<HeldOutResult>),
    /// Nearest words.
    Vocabulary(Vec<Match>),
}

/// Everything that a procedure works on.
pub(super) struct Material<'a> {
    pub(super) plan: &'a Plan,
    /// Names of the images, below the collection's root.
    pub(super) images: Vec<String>,
    pub(super) patients: Vec<String>,
    /// `[n, d]`; of tokens, each image's mean.
    pub(super) embeddings: Vec<f32>,
    pub(super) d: usize,
    pub(super) codes: Codes,
    pub(super) namer: &'a Client<'a>,
    pub(super) judge: &'a Client<'a>,
    pub(super) tell: Tell<'a>,
}

/// Names features: `loaded` are embeddings and their table, `source` their pictures; replies are
/// kept below `out`. `written` is the plan with its paths as they were written.
///
/// # Errors
/// A limit of the plan is reached, a server is away, or a file does not fit.
pub fn name(
    (plan, written): (&Plan, &Plan),
    (loaded, sae): (&Loaded, &Sae),
    source: &Source,
    out: &Path,
    tell: Tell<'_>,
) -> Result<Named, NameError> {
    let json = serde_json::to_vec(written).map_err(NameError::Forming)?;
    let mut named = Named {
        format: FORMAT,
        software: concat!("clearfilm-models ", env!("CARGO_PKG_VERSION")),
        plan: written.clone(),
        plan_digest: Digest::of(&json),
        prompts: prompts::digest(),
        images: 0,
        warnings: Vec::new(),
        namer: None,
        judge: None,
        result: Outcome::Vocabulary(Vec::new()),
    };
    if plan.procedure == Procedure::Vocabulary {
        let words = plan.vocabulary.as_ref();
        let words = words.ok_or_else(|| unfit("plan", "a section [vocabulary]", "none"))?;
        named.images = loaded.columns.image.len();
        named.result = Outcome::Vocabulary(vocabulary::matched(sae, words)?);
        return Ok(named);
    }
    let asked = plan.namer.as_ref();
    let server = asked.ok_or_else(|| unfit("plan", "a section [namer]", "none"))?;
    let namer = Client::new(server, out, Some(source))?;
    let other = plan.judge.as_ref().map(|judge| Client::new(judge, out, Some(source)));
    let other = other.transpose()?;
    if plan.judge.as_ref().is_none_or(|judge| judge.model == server.model) {
        named.warnings.push(format!(
            "{} judged the names that it gave itself: a model agrees with itself more than others \
             would",
            server.model
        ));
    }
    let judge = other.as_ref().unwrap_or(&namer);
    let material = material(plan, (loaded, sae), (&namer, judge), tell)?;
    named.images = material.images.len();
    tell(Event::Say(&format!("{} replies are kept from earlier runs", namer.kept())));
    named.result = if plan.procedure == Procedure::Medsae {
        Outcome::Medsae(Box::new(medsae::run(&material, &plan.medsae)?))
    } else {
        Outcome::HeldOut(Box::new(held_out::run(&material, &plan.held_out)?))
    };
    named.namer = Some(namer.account());
    named.judge = other.as_ref().map(Client::account);
    if plan.shuffle_names {
        named.warnings.push("a control: names were judged on other features' images".into());
    }
    let sent = namer.sent() + other.as_ref().map_or(0, Client::sent);
    let spent = namer.spent() + other.as_ref().map_or(0.0, Client::spent);
    tell(Event::Say(&format!("{sent} requests were sent in this run, at a cost of {spent:.4}")));
    Ok(named)
}

fn material<'a>(
    plan: &'a Plan,
    (loaded, sae): (&Loaded, &Sae),
    (namer, judge): (&'a Client<'a>, &'a Client<'a>),
    tell: Tell<'a>,
) -> Result<Material<'a>, NameError> {
    let (columns, d) = (&loaded.columns, sae.b_dec.len());
    let fits = match plan.level {
        Level::Embedding => loaded.d == d,
        Level::Tokens => loaded.d.is_multiple_of(d),
    };
    if !fits {
        let (expected, found) = (format!("vectors of {d} values"), loaded.d.to_string());
        return Err(unfit(plan.vectors.display().to_string(), expected, found));
    }
    let wanted = |row: &usize| {
        let split = columns.split[*row].as_ref();
        plan.splits.is_empty() || split.is_some_and(|split| plan.splits.contains(split))
    };
    let kept: Vec<usize> = (0..columns.image.len()).filter(wanted).collect();
    if kept.is_empty() {
        let expected = format!("images of the splits {:?}", plan.splits);
        return Err(unfit(plan.vectors.display().to_string(), expected, "none"));
    }
    let all = match plan.level {
        Level::Embedding => Codes::of(sae, &loaded.embeddings),
        Level::Tokens => Codes::pooled(sae, &loaded.embeddings, loaded.d / d),
    };
    let mut embeddings = Vec::with_capacity(kept.len() * d);
    for row in &kept {
        let own = &loaded.embeddings[row * loaded.d..][..loaded.d];
        let mut mean = vec![0.0; d];
        for token in own.chunks_exact(d) {
            mean.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
        }
        let count = f32::from(u16::try_from(loaded.d / d).unwrap_or(u16::MAX));
        embeddings.extend(mean.iter().map(|sum| sum / count));
    }
    let text = |of: &[String]| kept.iter().map(|row| of[*row].clone()).collect();
    Ok(Material {
        plan,
        images: text(&columns.image),
        patients: text(&columns.patient),
        embeddings,
        d,
        codes: all.only(&kept),
        namer,
        judge,
        tell,
    })
}

impl Material<'_> {
    /// Names of some of the images.
    pub(super) fn pictures(&self, images: &[usize]) -> Vec<&str> {
        images.iter().map(|at| self.images[*at].as_str()).collect()
    }
}
