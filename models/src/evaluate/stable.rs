//! Do other seeds find the same features?
//!
//! A feature's partner in another dictionary is the one that is nearest to it by decoder row while
//! it is nearest to the partner (mutual nearest neighbours). At 16,384 latents an assignment of
//! all at once would take two gigabytes and tells nearly the same.

use clearfilm::bundle::{Sae, Weights};
use rayon::prelude::*;
use serde::Serialize;

use super::pca::project;
use crate::codes::Codes;
use crate::kernel::{dot, norm};
use crate::measure::whole;

/// Cosine of both rows from which on a partner is the same feature.
pub const SAME: f32 = 0.7;

/// Share of the other seeds in which a stable feature is found again.
pub const OFTEN: f64 = 0.8;

/// One dictionary beside others of the same recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stability {
    /// Dictionaries that it was held against.
    pub others: usize,
    /// Share of the features that fire and are found again in most others.
    pub stable: f64,
    /// Mean over features and others of the decoder's cosine with the nearest row.
    pub cosine: f64,
    /// Mean correlation of the values of partners on the same images.
    pub correlation: f64,
    /// Share of the others in which each feature is found again.
    #[serde(skip)]
    pub found: Vec<f64>,
}

/// Holds a dictionary against others; `codes` are its own and theirs on the same images.
#[must_use]
pub fn stability(own: (&Sae, &Codes), others: &[(&Sae, &Codes)]) -> Stability {
    let features = own.0.b_enc.len();
    let mut found = vec![0.0; features];
    let (mut cosines, mut correlations, mut partners) = (0.0, 0.0, 0.0);
    for other in others {
        let (pairs, nearest) = matched(&own.0.w_dec, &other.0.w_dec);
        cosines += nearest.iter().map(|c| f64::from(*c)).sum::<f64>() / whole(features);
        for (feature, partner) in pairs.iter().enumerate() {
            let Some((partner, decoder)) = *partner else { continue };
            let encoder = cosine(&own.0.w_enc.row(feature), &other.0.w_enc.row(partner));
            if decoder >= SAME && encoder >= SAME {
                found[feature] += 1.0 / whole(others.len());
            }
            if !own.1.column(feature).is_empty() && !other.1.column(partner).is_empty() {
                correlations += correlation(own.1, feature, other.1, partner);
                partners += 1.0;
            }
        }
    }
    let alive: Vec<usize> = (0..features).filter(|f| !own.1.column(*f).is_empty()).collect();
    let stable = alive.iter().filter(|feature| found[**feature] >= OFTEN - 1e-9).count();
    Stability {
        others: others.len(),
        stable: whole(stable) / whole(alive.len().max(1)),
        cosine: cosines / whole(others.len().max(1)),
        correlation: if partners > 0.0 { correlations / partners } else { 0.0 },
        found,
    }
}

/// Rows that are compared with all others at once.
const ROWS: usize = 256;

/// Each row's partner and their cosine, and the cosine of the nearest row.
fn matched(a: &Weights, b: &Weights) -> (Vec<Option<(usize, f32)>>, Vec<f32>) {
    let (unit_a, d) = units(a);
    let (unit_b, _) = units(b);
    let forward = nearest(&unit_a, &unit_b, d);
    let back = nearest(&unit_b, &unit_a, d);
    let pairs = forward.iter().enumerate().map(|(own, (partner, cosine))| {
        (back.get(*partner).is_some_and(|(of, _)| *of == own)).then_some((*partner, *cosine))
    });
    (pairs.collect(), forward.iter().map(|(_, cosine)| *cosine).collect())
}

fn nearest(from: &[f32], to: &[f32], d: usize) -> Vec<(usize, f32)> {
    let blocks = from.par_chunks(ROWS * d);
    blocks
        .flat_map_iter(|rows| {
            let cosines = project(rows, d, to);
            let each = cosines.chunks_exact(to.len() / d).map(|row| {
                let largest = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                largest.map_or((usize::MAX, 0.0), |(at, cosine)| (at, *cosine))
            });
            each.collect::<Vec<_>>()
        })
        .collect()
}

/// Rows of a matrix at length 1, and how long they are.
#[must_use]
pub fn units(weights: &Weights) -> (Vec<f32>, usize) {
    let mut d = 0;
    let mut out = Vec::new();
    for row in 0..weights.rows() {
        let row = weights.row(row);
        let length = norm(&row);
        d = row.len();
        out.extend(row.iter().map(|x| if length > 0.0 { x / length } else { 0.0 }));
    }
    (out, d)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let lengths = norm(a) * norm(b);
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// Pearson's correlation of two features on the same images.
fn correlation(a: &Codes, feature: usize, b: &Codes, partner: usize) -> f64 {
    let n = whole(a.samples);
    let other = b.spread(partner);
    let (mut sums, mut common) = ([[0.0; 2]; 2], 0.0);
    for value in a.column(feature) {
        let v = f64::from(value.value);
        sums[0] = [sums[0][0] + v / n, sums[0][1] + v * v / n];
        common += v * f64::from(other[value.sample as usize]) / n;
    }
    for v in other {
        let v = f64::from(v);
        sums[1] = [sums[1][0] + v / n, sums[1][1] + v * v / n];
    }
    let spread = sums.map(|[mean, square]| square - mean * mean);
    let spread = (spread[0] * spread[1]).max(0.0).sqrt();
    if spread > 0.0 { (common - sums[0][0] * sums[1][0]) / spread } else { 0.0 }
}

/// How alike the rows of one dictionary are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Redundancy {
    /// Mean over the rows of the largest cosine with another.
    pub nearest: f64,
    /// The largest cosine of any two (the dictionary's coherence).
    pub coherence: f64,
    /// Share of the rows with another nearer than a cosine of 0.9.
    pub twins: f64,
}

/// Two rows nearer than this are the same feature twice.
const TWIN: f32 = 0.9;

/// Of a dictionary's decoder.
#[must_use]
pub fn redundancy(dictionary: &Weights) -> Redundancy {
    let (unit, d) = units(dictionary);
    let rows = unit.len() / d.max(1);
    let largest: Vec<f32> = unit
        .par_chunks(ROWS * d)
        .enumerate()
        .flat_map_iter(|(block, chunk)| {
            let mut cosines = project(chunk, d, &unit);
            let each = cosines.chunks_exact_mut(rows).enumerate().map(|(at, row)| {
                row[block * ROWS + at] = f32::NEG_INFINITY;
                row.iter().fold(f32::NEG_INFINITY, |most, c| most.max(*c))
            });
            each.collect::<Vec<_>>()
        })
        .filter(|cosine| cosine.is_finite())
        .collect();
    let n = whole(largest.len().max(1));
    Redundancy {
        nearest: largest.iter().map(|c| f64::from(*c)).sum::<f64>() / n,
        coherence: f64::from(largest.iter().fold(-1.0_f32, |most, c| most.max(*c))),
        twins: whole(largest.iter().filter(|c| **c > TWIN).count()) / n,
    }
}
