//! How well a feature's value tells images with a label from those without: exact, and without
//! looking at the zeros one by one.
//!
//! A pair of a positive and a negative image is won where the positive one has the larger value,
//! and half won where both are alike; the AUROC is the share that is won (Mann and Whitney 1947).
//! Twice the number won is a whole number, so nothing is rounded before the last division.

use rayon::prelude::*;
use serde::Serialize;

use super::labels::{LANES, Labels, Lanes};
use crate::codes::{Codes, Value};

/// Twice the pairs won, for each of [`LANES`] labels.
pub type TwiceWon = [u64; LANES];

/// How one feature and one label go together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Share of the pairs won, 0..1; 0.5 is chance.
    pub auroc: f64,
    /// The most that a feature could reach which fires on as few images: `1/2 + f / (2 p)` for a
    /// share `f` of firings below the prevalence `p`.
    pub cap: f64,
    /// Average precision: the precision at each value, weighted by the recall that it adds.
    pub average_precision: f64,
    /// Rank correlation (Spearman) of value and label.
    pub spearman: f64,
    /// Images with the label.
    pub positives: usize,
    /// Images without.
    pub negatives: usize,
}

/// Each feature's agreement with each label, `[features][labels]`; none where a label has only
/// one kind of image.
#[must_use]
pub fn agreements(codes: &Codes, labels: &Labels) -> Vec<Vec<Option<Agreement>>> {
    let lanes = labels.lanes();
    let totals: Vec<[[u32; LANES]; 2]> = lanes.iter().map(totals).collect();
    codes
        .columns()
        .map(|column| {
            let groups = lanes.iter().zip(&totals);
            let found = groups.flat_map(|(lanes, totals)| agreement(column, lanes, totals));
            found.take(labels.names.len()).collect()
        })
        .collect()
}

fn agreement(
    column: &[Value],
    lanes: &Lanes,
    totals: &[[u32; LANES]; 2],
) -> [Option<Agreement>; LANES] {
    let won = twice_won(column, lanes, totals);
    let precision = average_precision(column, lanes, totals);
    let ties = Ties::of(column, lanes, totals);
    std::array::from_fn(|lane| {
        let [n1, n0] = totals.map(|t| f64::from(t[lane]));
        if n1 < 1.0 || n0 < 1.0 {
            return None;
        }
        let auroc = whole(won[lane]) / (2.0 * n1 * n0);
        let share = ties.fired[lane] / (n1 + n0);
        Some(Agreement {
            auroc,
            cap: (0.5 + share / (2.0 * n1 / (n1 + n0))).min(1.0),
            average_precision: precision[lane],
            spearman: ties.spearman(lane, auroc, n1, n0),
            positives: totals[0][lane] as usize,
            negatives: totals[1][lane] as usize,
        })
    })
}

/// How many images are positive and negative, for each label.
#[must_use]
pub fn totals(lanes: &Lanes) -> [[u32; LANES]; 2] {
    [&lanes.positive, &lanes.negative].map(|of| {
        let mut sum = [0; LANES];
        of.iter().for_each(|image| add(&mut sum, image));
        sum
    })
}

/// Twice the pairs that a feature wins, by its values in rising order.
#[must_use]
pub fn twice_won(column: &[Value], lanes: &Lanes, [n1, n0]: &[[u32; LANES]; 2]) -> TwiceWon {
    let (mut won, mut below) = ([0_u64; LANES], [0_u32; LANES]);
    let negatives = column.partition_point(|v| v.value < 0.0);
    let (low, high) = column.split_at(negatives);
    climb(&mut won, &mut below, low, lanes);
    // Everything that is not in the column is alike, and stands between the two.
    let (mut zeros1, mut zeros0) = (*n1, *n0);
    for value in column {
        let sample = value.sample as usize;
        for lane in 0..LANES {
            zeros1[lane] -= u32::from(lanes.positive[sample][lane]);
            zeros0[lane] -= u32::from(lanes.negative[sample][lane]);
        }
    }
    put(&mut won, &mut below, &zeros1, &zeros0);
    climb(&mut won, &mut below, high, lanes);
    won
}

fn climb(won: &mut TwiceWon, below: &mut [u32; LANES], column: &[Value], lanes: &Lanes) {
    for alike in column.chunk_by(|a, b| a.value.total_cmp(&b.value).is_eq()) {
        let (mut positive, mut negative) = ([0; LANES], [0; LANES]);
        for value in alike {
            add(&mut positive, &lanes.positive[value.sample as usize]);
            add(&mut negative, &lanes.negative[value.sample as usize]);
        }
        put(won, below, &positive, &negative);
    }
}

/// Puts images of one value above those that were put before.
fn put(
    won: &mut TwiceWon,
    below: &mut [u32; LANES],
    positive: &[u32; LANES],
    negative: &[u32; LANES],
) {
    for lane in 0..LANES {
        let beaten = 2 * u64::from(below[lane]) + u64::from(negative[lane]);
        won[lane] += u64::from(positive[lane]) * beaten;
        below[lane] += negative[lane];
    }
}

fn add(sum: &mut [u32; LANES], one: &[u8; LANES]) {
    sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += u32::from(*one));
}

/// Average precision as scikit-learn defines it: images of one value enter together.
fn average_precision(
    column: &[Value],
    lanes: &Lanes,
    [n1, n0]: &[[u32; LANES]; 2],
) -> [f64; LANES] {
    let (mut sum, mut above1, mut above0) = ([0.0; LANES], [0_u32; LANES], [0_u32; LANES]);
    let mut enter = |positive: [u32; LANES], negative: [u32; LANES]| {
        for lane in 0..LANES {
            above1[lane] += positive[lane];
            above0[lane] += negative[lane];
            if positive[lane] > 0 {
                let precision = f64::from(above1[lane]) / f64::from(above1[lane] + above0[lane]);
                sum[lane] += precision * f64::from(positive[lane]) / f64::from(n1[lane]);
            }
        }
        [above1, above0]
    };
    let groups = |column: &[Value]| -> Vec<[[u32; LANES]; 2]> {
        let alike = column.chunk_by(|a, b| a.value.total_cmp(&b.value).is_eq());
        alike
            .map(|alike| {
                let mut group = [[0; LANES]; 2];
                for value in alike {
                    add(&mut group[0], &lanes.positive[value.sample as usize]);
                    add(&mut group[1], &lanes.negative[value.sample as usize]);
                }
                group
            })
            .collect()
    };
    let (low, high) = column.split_at(column.partition_point(|v| v.value < 0.0));
    let mut entered = [[0; LANES]; 2];
    for [positive, negative] in groups(high).into_iter().rev() {
        entered = enter(positive, negative);
    }
    let low = groups(low);
    let last = low.iter().fold(entered, |[p, n], group| {
        [std::array::from_fn(|l| p[l] + group[0][l]), std::array::from_fn(|l| n[l] + group[1][l])]
    });
    let rest = |of: &[u32; LANES], seen: [u32; LANES]| std::array::from_fn(|l| of[l] - seen[l]);
    enter(rest(n1, last[0]), rest(n0, last[1]));
    for [positive, negative] in low.into_iter().rev() {
        enter(positive, negative);
    }
    sum
}

/// How many images have the same value: what ranks are corrected by.
struct Ties {
    /// Images on which the feature is not 0.
    fired: [f64; LANES],
    /// `sum t^3 - t` over groups of `t` images that are alike.
    cubes: [f64; LANES],
}

impl Ties {
    fn of(column: &[Value], lanes: &Lanes, [n1, n0]: &[[u32; LANES]; 2]) -> Self {
        let (mut fired, mut cubes) = ([0.0; LANES], [0.0; LANES]);
        for alike in column.chunk_by(|a, b| a.value.total_cmp(&b.value).is_eq()) {
            let mut group = [0; LANES];
            for value in alike {
                add(&mut group, &lanes.positive[value.sample as usize]);
                add(&mut group, &lanes.negative[value.sample as usize]);
            }
            for lane in 0..LANES {
                let t = f64::from(group[lane]);
                fired[lane] += t;
                cubes[lane] += t * t * t - t;
            }
        }
        for lane in 0..LANES {
            let zeros = f64::from(n1[lane]) + f64::from(n0[lane]) - fired[lane];
            cubes[lane] += zeros * zeros * zeros - zeros;
        }
        Self { fired, cubes }
    }

    /// Correlation of mid-ranks with a label: the AUROC on another scale. 0 where all is alike.
    fn spearman(&self, lane: usize, auroc: f64, n1: f64, n0: f64) -> f64 {
        let n = n1 + n0;
        // Variances of the mid-ranks and of the label, and what they have in common.
        let ranks = (n * n * n - n - self.cubes[lane]) / (12.0 * n);
        let label = n1 * n0 / (n * n);
        let common = (auroc - 0.5) * n1 * n0 / n;
        if ranks <= 0.0 { 0.0 } else { common / (ranks * label).sqrt() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "pairs of fewer than 2^26 images")]
fn whole(n: u64) -> f64 {
    n as f64
}
