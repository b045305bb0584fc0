//! How far two files or engines are apart in what a reader is told.

use clearfilm::bundle::Bundle;
use clearfilm::findings::{Decision, Finding, round_4};
use clearfilm::ood;
use serde::Serialize;

use super::through::Passed;
use crate::evaluate::bootstrap::quantile;
use crate::measure::whole;

/// A probability may move by so much before it counts as moved.
pub const MOVED: f64 = 0.02;

/// What differs between two passes of the same images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Apart {
    /// What differs.
    pub name: String,
    /// Images that were compared.
    pub images: usize,
    /// Cosine of the embeddings: mean, 5th percentile, worst.
    pub cosine: [f64; 3],
    /// The same after the mean is taken off both.
    pub centred: [f64; 3],
    /// Share of images where no finding's probability moves by more than [`MOVED`].
    pub still: f64,
    /// The largest move of any probability.
    pub most: f64,
    /// Finding by finding.
    pub findings: Vec<Moved>,
    /// Images where the decision on likeness is another.
    pub likeness: usize,
}

/// How far a finding's probability moves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// Which finding.
    pub id: String,
    /// Share of images where it moves by no more than [`MOVED`].
    pub still: f64,
    /// Its largest move.
    pub most: f64,
    /// Images where the decision is another.
    pub differ: usize,
}

/// Two passes of the same images in the same order, by two bundles that differ in one thing.
#[must_use]
pub fn apart(
    name: &str,
    (one, passed): (&Bundle, &[&Passed]),
    (other, others): (&Bundle, &[&Passed]),
) -> Apart {
    let centre = mean(passed);
    let raw: Vec<f64> = cosines(passed, others, None);
    let centred = cosines(passed, others, Some(&centre));
    let said = |bundle: &Bundle, p: &Passed| -> Vec<(f64, Option<Decision>)> {
        let of = |rule| match Finding::new(rule, bundle, &p.code.image) {
            Ok(finding) => (finding.probability, Some(finding.decision)),
            Err(_) => (f64::NAN, None),
        };
        bundle.rules.findings.iter().map(of).collect()
    };
    let both: Vec<_> = (passed.iter().zip(others))
        .map(|(a, b)| said(one, a).into_iter().zip(said(other, b)).collect::<Vec<_>>())
        .collect();
    let move_of = |((p, _), (q, _)): &((f64, _), (f64, _))| -> f64 { (p - q).abs() };
    let worst = |image: &Vec<_>| image.iter().map(move_of).fold(0.0, f64::max);
    let likeness = |bundle: &Bundle, p: &Passed| {
        ood::judge(&p.tokens, &p.embedding, &p.code, &bundle.sae, &bundle.ood).decision
    };
    let findings = one.rules.findings.iter().enumerate().map(|(at, rule)| {
        let moves = || both.iter().map(|image| move_of(&image[at]));
        Moved {
            id: rule.id.clone(),
            still: share(moves().filter(|by| *by <= MOVED).count(), both.len()),
            most: round_4(moves().fold(0.0, f64::max)),
            differ: both.iter().filter(|image| image[at].0.1 != image[at].1.1).count(),
        }
    });
    Apart {
        name: name.to_owned(),
        images: passed.len(),
        cosine: three(raw),
        centred: three(centred),
        still: share(both.iter().filter(|image| worst(image) <= MOVED).count(), both.len()),
        most: round_4(both.iter().map(worst).fold(0.0, f64::max)),
        findings: findings.collect(),
        likeness: (passed.iter().zip(others))
            .filter(|(a, b)| likeness(one, a) != likeness(other, b))
            .count(),
    }
}

fn share(some: usize, all: usize) -> f64 {
    round_4(whole(some) / whole(all.max(1)))
}

fn mean(passed: &[&Passed]) -> Vec<f64> {
    let d = passed.first().map_or(0, |p| p.embedding.values.len());
    let mut sum = vec![0.0; d];
    for p in passed {
        sum.iter_mut().zip(&p.embedding.values).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sum.iter().map(|sum| sum / whole(passed.len().max(1))).collect()
}

fn cosines(passed: &[&Passed], others: &[&Passed], centre: Option<&[f64]>) -> Vec<f64> {
    let row = |p: &Passed| -> Vec<f64> {
        let values = p.embedding.values.iter().enumerate();
        values.map(|(at, x)| f64::from(*x) - centre.map_or(0.0, |c| c[at])).collect()
    };
    let cosine = |(a, b): (&&Passed, &&Passed)| {
        let (a, b) = (row(a), row(b));
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt().max(f64::MIN_POSITIVE)
    };
    passed.iter().zip(others).map(cosine).collect()
}

/// Mean, 5th percentile and worst.
fn three(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / whole(values.len().max(1));
    let worst = values.first().copied().unwrap_or(f64::NAN);
    [mean, quantile(&values, 0.05), worst].map(|x| (x * 1e6).round() / 1e6)
}
