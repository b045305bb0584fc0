//! What chance alone would find: labels exchanged between patients of the same kind.
//!
//! Patients who have as many images in each stratum (say, AP images of men at one pixel spacing)
//! take each other's labels. So the labels of one patient stay together, each stratum keeps its
//! prevalence, and what is left of an agreement is what goes beyond patients and strata. Who is
//! like nobody else keeps their labels, and tells nothing.
//!
//! Each agreement is measured in standard deviations from its own mean over the permutations, and
//! held against the largest of all agreements in each permutation (Westfall and Young 1993): the
//! share of permutations that reach it bounds the chance that *any* pair is named by mistake.

use std::collections::BTreeMap;

use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::auroc::{TwiceWon, totals, twice_won};
use super::labels::{LANES, Labels, Lanes};
use crate::codes::Codes;
use crate::start::{Stream, numbers};

/// How chance is asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Permutations {
    /// How many; p-values cannot fall below one over them.
    pub count: usize,
    /// Features that fire on fewer images are left out.
    pub firings_min: usize,
    /// Labels with fewer positive images are left out.
    pub positives_min: usize,
    /// Same seed, same permutations.
    pub seed: u64,
}

impl Default for Permutations {
    fn default() -> Self {
        Self { count: 1000, firings_min: 30, positives_min: 10, seed: 0 }
    }
}

/// One feature and one label, beside chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Chance {
    /// Standard deviations that the agreement lies above what permuted labels give; below: < 0.
    pub z: f64,
    /// Chance that any pair of all lies as far off (family-wise error).
    pub p_family: f64,
    /// Expected share of mistakes among the pairs that lie as far off (Benjamini and Hochberg
    /// 1995, on ranks pooled over all pairs).
    pub q: f64,
}

/// Which images belong together, and which may change places.
///
/// Whole patients do, and only with those who have as many images in each stratum. Dealt out
/// otherwise, a patient's labels would fall on parts of several others, chance would look narrower
/// than it is, and shuffled labels were found (`data.shuffle`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Patients who are alike, each with the images by stratum: `[alike][patients][images]`.
    alike: Vec<Vec<Vec<u32>>>,
    samples: usize,
}

impl Blocks {
    /// By a patient and a stratum for each image.
    #[must_use]
    pub fn of(patients: &[u32], strata: &[u32]) -> Self {
        let mut images: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for (image, (patient, stratum)) in (0..).zip(patients.iter().zip(strata)) {
            images.entry(*patient).or_default().push((*stratum, image));
        }
        let mut alike: BTreeMap<Vec<u32>, Vec<Vec<u32>>> = BTreeMap::new();
        for mut own in images.into_values() {
            own.sort_unstable();
            let (strata, images) = own.into_iter().unzip();
            alike.entry(strata).or_default().push(images);
        }
        Self { alike: alike.into_values().collect(), samples: patients.len() }
    }

    /// The image whose labels each image gets in one permutation.
    #[must_use]
    pub fn permuted(&self, seed: u64, number: u64) -> Vec<u32> {
        let mut random = numbers(seed, Stream::Labels(number));
        let mut from = vec![0; self.samples];
        for patients in &self.alike {
            let mut order: Vec<&Vec<u32>> = patients.iter().collect();
            order.shuffle(&mut random);
            let dealt = order.into_iter().flatten();
            for (to, from_image) in patients.iter().flatten().zip(dealt) {
                from[*to as usize] = *from_image;
            }
        }
        from
    }
}

/// Sum and sum of squares of what one pair won over the permutations.
type Moments = [[f64; LANES]; 2];

/// Each feature with each label, `[features][labels]`; none for those that are left out.
#[must_use]
pub fn chances(
    codes: &Codes,
    labels: &Labels,
    blocks: &Blocks,
    how: &Permutations,
) -> Vec<Vec<Option<Chance>>> {
    let features = codes.features();
    let fires =
        |feature: &usize| codes.column(*feature).len() >= how.firings_min.min(codes.samples);
    let asked: Vec<usize> = (0..features).filter(fires).collect();
    let groups: Vec<Group<'_>> =
        labels.lanes().into_iter().map(|lanes| Group::of(codes, &asked, lanes, how)).collect();
    let standards: Vec<Vec<Standard>> =
        groups.iter().map(|group| group.standards(blocks, how)).collect();
    let mut tail = Tail::new();
    for number in 0..how.count as u64 {
        let from = blocks.permuted(how.seed, number);
        let all: Vec<Vec<[f64; LANES]>> = (groups.iter().zip(&standards))
            .map(|(group, standard)| group.scores(&group.lanes.moved(&from), standard))
            .collect();
        tail.add(&all);
    }
    let observed: Vec<Vec<[f64; LANES]>> = (groups.iter().zip(&standards))
        .map(|(group, standard)| group.scores(&group.lanes, standard))
        .collect();
    let found = tail.judge(&observed);
    let mut out = vec![vec![None; labels.names.len()]; features];
    for (group, judged) in found.into_iter().enumerate() {
        for (feature, lanes) in asked.iter().zip(judged) {
            for (lane, chance) in lanes.into_iter().enumerate() {
                if let Some(place) = out[*feature].get_mut(group * LANES + lane) {
                    *place = chance;
                }
            }
        }
    }
    out
}

/// [`LANES`] labels, and what does not change when they are permuted.
struct Group<'a> {
    codes: &'a Codes,
    asked: &'a [usize],
    lanes: Lanes,
    totals: [[u32; LANES]; 2],
    /// Has the label enough images of both kinds?
    enough: [bool; LANES],
}

/// What permuted labels give one feature: mean and one over the standard deviation, by label.
type Standard = [[f64; LANES]; 2];

impl<'a> Group<'a> {
    fn of(codes: &'a Codes, asked: &'a [usize], lanes: Lanes, how: &Permutations) -> Self {
        let totals = totals(&lanes);
        let least = how.positives_min.max(1);
        let enough = std::array::from_fn(|lane| totals.iter().all(|of| of[lane] as usize >= least));
        Self { codes, asked, lanes, totals, enough }
    }

    fn won(&self, lanes: &Lanes) -> Vec<TwiceWon> {
        let one = |feature: &usize| twice_won(self.codes.column(*feature), lanes, &self.totals);
        self.asked.par_iter().map(one).collect()
    }

    fn standards(&self, blocks: &Blocks, how: &Permutations) -> Vec<Standard> {
        let mut moments: Vec<Moments> = vec![[[0.0; LANES]; 2]; self.asked.len()];
        for number in 0..how.count as u64 {
            let lanes = self.lanes.moved(&blocks.permuted(how.seed, number));
            for (moments, won) in moments.iter_mut().zip(self.won(&lanes)) {
                for lane in 0..LANES {
                    let share = self.share(won[lane], lane);
                    moments[0][lane] += share;
                    moments[1][lane] += share * share;
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let n = how.count as f64;
        let standard = |[sum, squares]: Moments| {
            let mean = sum.map(|sum| sum / n);
            let deviation: [f64; LANES] =
                std::array::from_fn(|l| (squares[l] / n - mean[l] * mean[l]).max(0.0).sqrt());
            [mean, std::array::from_fn(|l| self.inverse(deviation[l], l))]
        };
        moments.into_iter().map(standard).collect()
    }

    /// An AUROC less one half. Labels are moved whole, and strata keep theirs; so are the numbers
    /// of positive and negative images the same in every permutation.
    fn share(&self, won: u64, lane: usize) -> f64 {
        let [n1, n0] = self.totals.map(|of| f64::from(of[lane]));
        #[expect(clippy::cast_precision_loss, reason = "pairs of fewer than 2^26 images")]
        let won = won as f64;
        won / (2.0 * n1 * n0).max(1.0) - 0.5
    }

    /// 0 for what is left out, and for what no permutation moves.
    fn inverse(&self, deviation: f64, lane: usize) -> f64 {
        if self.enough[lane] && deviation > STILL { 1.0 / deviation } else { 0.0 }
    }

    fn scores(&self, lanes: &Lanes, standards: &[Standard]) -> Vec<[f64; LANES]> {
        let won = self.won(lanes);
        let scores = won.iter().zip(standards).map(|(won, [mean, inverse])| {
            std::array::from_fn(|l| (self.share(won[l], l) - mean[l]) * inverse[l])
        });
        scores.collect()
    }
}

/// An AUROC that moves by less is not moved: fewer than one pair of 10^9.
const STILL: f64 = 1e-9;

/// Scores of permutations are counted in steps of this, up to [`STEPS`] of them; a score is held
/// against all that reach its step, which never makes a p-value too small.
const STEP: f64 = 1.0 / 256.0;
const STEPS: usize = 1 << 14;

/// What permutations came to.
struct Tail {
    /// The largest of each permutation.
    largest: Vec<f64>,
    /// How many scores of all permutations fall into each step.
    steps: Vec<u64>,
}

impl Tail {
    fn new() -> Self {
        Self { largest: Vec::new(), steps: vec![0; STEPS] }
    }

    fn add(&mut self, scores: &[Vec<[f64; LANES]>]) {
        let mut largest = 0.0_f64;
        for score in scores.iter().flatten().flatten().filter(|score| **score != 0.0) {
            largest = largest.max(score.abs());
            self.steps[step(*score)] += 1;
        }
        self.largest.push(largest);
    }

    fn judge(mut self, observed: &[Vec<[f64; LANES]>]) -> Vec<Vec<[Option<Chance>; LANES]>> {
        self.largest.sort_unstable_by(f64::total_cmp);
        let mut above = self.steps.clone();
        (1..STEPS).rev().for_each(|at| above[at - 1] += above[at]);
        let of_all = |above: u64| (1.0 + whole(above)) / (1.0 + whole(self.steps.iter().sum()));
        let mut pooled: Vec<(f64, f64)> = (observed.iter().flatten().flatten())
            .filter(|score| **score != 0.0)
            .map(|score| (score.abs(), of_all(above[step(*score)])))
            .collect();
        pooled.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let pairs = pooled.len() as u64;
        // From the least to the most extreme pair, so that q never rises towards the extreme.
        let mut q = 1.0_f64;
        let mut by_score: Vec<(f64, f64)> = Vec::with_capacity(pooled.len());
        for (before, (score, p)) in pooled.iter().enumerate().rev() {
            q = q.min(p * whole(pairs) / whole(before as u64 + 1));
            by_score.push((*score, q));
        }
        let judge = |score: f64| {
            (score != 0.0).then(|| {
                let reach = self.largest.len()
                    - self.largest.partition_point(|largest| *largest < score.abs());
                let at = by_score.partition_point(|(other, _)| *other < score.abs());
                Chance {
                    z: score,
                    p_family: (1.0 + whole(reach as u64))
                        / (1.0 + whole(self.largest.len() as u64)),
                    q: by_score[at.min(by_score.len() - 1)].1,
                }
            })
        };
        observed.iter().map(|group| group.iter().map(|lanes| lanes.map(judge)).collect()).collect()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut off at the end")]
fn step(score: f64) -> usize {
    ((score.abs() / STEP) as usize).min(STEPS - 1)
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 things")]
fn whole(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_keeps_strata_and_moves_a_patient_whole() {
        // Patients 1 to 4 have an image in each stratum, 5 and 6 two in one, and nobody is like 7.
        let patients = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7];
        let strata = [0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1];
        let blocks = Blocks::of(&patients, &strata);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..200 {
            let from = blocks.permuted(7, number);
            let mut sorted = from.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..15).collect::<Vec<u32>>(), "every image's labels go somewhere");
            for (to, from) in from.iter().enumerate() {
                assert_eq!(strata[to], strata[*from as usize]);
            }
            // Labels of one patient go to one patient.
            for own in patients.iter().zip(&from).collect::<Vec<_>>().chunk_by(|a, b| a.0 == b.0) {
                let giver = patients[*own[0].1 as usize];
                assert!(own.iter().all(|(_, from)| patients[**from as usize] == giver), "{from:?}");
            }
            assert_eq!(from[12..], [12, 13, 14]);
            seen.insert(from);
        }
        assert!(seen.len() > 40, "found {} of 48 orders", seen.len());
    }
}
