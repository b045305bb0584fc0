//! Findings that are nearly always seen together: whose words does each description have?
//!
//! SAE-Rad's referees asked for this. Of two labels that occur together, nearly all reports with
//! one alone are taken away before both are described; the reports taken from other patients tell
//! afterwards which of the two a description speaks of.

use std::collections::HashSet;

use serde::Serialize;

use super::describing::{Description, One, by_phrases};
use super::material::{LEAST, Material};
use super::phrases::score;
use super::plan::{By, Fires, Plan, Together};
use crate::evaluate::bootstrap::{Estimate, Ranked};
use crate::name::choose::Role;
use crate::name::score::mean;
use crate::name::{NameError, unfit};

/// What came out, over all pairs.
#[derive(Debug, Clone, Serialize)]
pub struct TogetherResult {
    /// Pairs with enough reports of each kind.
    pub pairs: usize,
    /// Each label of each pair.
    pub sides: Vec<Side>,
    /// Mean over pairs of [`Side::with`].
    pub with: Option<Estimate>,
    /// Mean over pairs of [`Side::without`].
    pub without: Option<Estimate>,
    /// Mean over pairs of the difference of the two.
    pub difference: Option<Estimate>,
    /// Sides whose description names its own label rather than the other's: with the contrast,
    /// and without.
    pub own: [usize; 2],
    /// Sides whose description names the other's.
    pub others: [usize; 2],
}

/// One label of a pair.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// The label that was described.
    pub label: String,
    /// The one that it stands beside.
    pub beside: String,
    /// Reports with both, with this one alone, and with the other one alone, that it was described
    /// from.
    pub made_from: [usize; 3],
    /// Held-out reports with this one alone, and with the other one alone.
    pub judged: [usize; 2],
    /// AUROC of the description's score, reports with this one alone against those with the other
    /// one alone: above 0.5, it names its own. 0.5 where there is no description.
    pub with: f64,
    /// The same of a description that was made without the contrast.
    pub without: f64,
}

/// Describes both labels of every pair, with the contrast and without.
///
/// # Errors
/// The plan has no planted labels, or describes by a server.
pub(super) fn run(
    plan: &Plan,
    how: &Together,
    material: &Material,
) -> Result<TogetherResult, NameError> {
    if plan.by != By::Phrases || !matches!(plan.codes, Fires::Labels { .. }) {
        return Err(unfit("plan: together", "planted labels, by phrases", "others"));
    }
    let fires: Vec<Vec<bool>> =
        (0..material.codes.features()).map(|latent| material.fires(latent)).collect();
    let (mut sides, mut pairs) = (Vec::new(), Vec::new());
    for a in 0..fires.len() {
        for b in a + 1..fires.len() {
            let both = [[a, b], [b, a]].map(|pair| side(plan, how, material, (pair, &fires)));
            if let [Some(one), Some(other)] = both {
                pairs.push([
                    f64::midpoint(one.with, other.with),
                    f64::midpoint(one.without, other.without),
                ]);
                sides.extend([one, other]);
            }
        }
    }
    let of = |figure: &dyn Fn(&[f64; 2]) -> f64| {
        mean(&pairs.iter().map(figure).collect::<Vec<f64>>(), &plan.bootstrap)
    };
    let count = |is: &dyn Fn(f64) -> bool| {
        [
            sides.iter().filter(|side| is(side.with)).count(),
            sides.iter().filter(|side| is(side.without)).count(),
        ]
    };
    Ok(TogetherResult {
        pairs: pairs.len(),
        with: of(&|pair| pair[0]),
        without: of(&|pair| pair[1]),
        difference: of(&|pair| pair[0] - pair[1]),
        own: count(&|auroc| auroc > 0.5),
        others: count(&|auroc| auroc < 0.5),
        sides,
    })
}

/// One label's descriptions; none where the pair has too few reports.
fn side(
    plan: &Plan,
    how: &Together,
    material: &Material,
    ([own, other], fires): ([usize; 2], &[Vec<bool>]),
) -> Option<Side> {
    let here = |row: &usize, has: [bool; 2]| [fires[own][*row], fires[other][*row]] == has;
    let of = |rows: &[usize], has: [bool; 2]| -> Vec<usize> {
        rows.iter().copied().filter(|row| here(row, has)).collect()
    };
    let firing = material.firing(own, Role::Namer);
    let both = of(&firing, [true, true]);
    let silent = material.silent(own, Role::Namer);
    let (mut alone, mut others) = (of(&firing, [true, false]), of(&silent, [false, true]));
    alone.truncate(how.alone);
    others.truncate(how.alone);
    let judged = [
        of(&material.firing(own, Role::Judge), [true, false]),
        of(&material.silent(own, Role::Judge), [false, true]),
    ];
    if both.len() < how.both_min || judged.iter().any(|rows| rows.len() < how.apart_min) {
        return None;
    }
    let kept: HashSet<usize> = others.iter().copied().collect();
    let is_kept = |row: &usize| !fires[other][*row] || kept.contains(row);
    let background: Vec<usize> = silent.into_iter().filter(is_kept).collect();
    // Those with both first: it is the pair that this is about.
    let top: Vec<usize> = both.iter().chain(&alone).copied().take(plan.shown).collect();
    let figure = |contrast: Vec<usize>| {
        let background = background.clone();
        let one = One { latent: own, top: top.clone(), contrast, background, judged: Vec::new() };
        by_phrases(material, &one).map_or(0.5, |made| apart(material, &made, &judged))
    };
    Some(Side {
        label: material.planted[own].clone(),
        beside: material.planted[other].clone(),
        made_from: [both.len(), alone.len(), others.len()],
        judged: [judged[0].len(), judged[1].len()],
        with: figure(material.alike(&top, &background, (plan.contrast, LEAST))),
        without: figure(Vec::new()),
    })
}

/// AUROC of a description between reports with its own label alone and with the other's.
fn apart(material: &Material, made: &Description, [own, other]: &[Vec<usize>; 2]) -> f64 {
    let rows = own.iter().chain(other);
    let scores: Vec<f64> = rows.map(|row| score(&made.phrases, &material.said[*row])).collect();
    let fires: Vec<Option<bool>> = (0..scores.len()).map(|at| Some(at < own.len())).collect();
    Ranked::of(&scores, &fires).plain(scores.len()).unwrap_or(0.5)
}
