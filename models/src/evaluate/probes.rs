//! What a label's readout from one, two, five or all values comes to on other patients.

use std::collections::HashMap;

use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::labels::{Labels, Mark};
use super::logistic::Logistic;
use crate::codes::Codes;
use crate::measure::whole;
use crate::start::{Stream, numbers};

/// How readouts are fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probing {
    /// Sizes of the sparse readouts.
    pub sizes: Vec<usize>,
    /// Weight of the squared weights; the values are standardised.
    pub ridge: f64,
    /// The same for readouts of a whole embedding.
    pub ridge_dense: f64,
    /// Where there are some, readouts of all values take the best of these instead, by
    /// cross-fitting among the patients that they are fitted on.
    pub ridges: Vec<f64>,
    /// A readout is fitted on at most so many images; drawn by the seed where there are more.
    pub images_max: usize,
    /// 0: fitted on the training split, measured on the test split. Otherwise all patients of both
    /// are dealt into so many parts, and each part is read by what the others taught.
    pub folds: usize,
    /// Same seed, same parts.
    pub seed: u64,
}

impl Default for Probing {
    fn default() -> Self {
        Self {
            sizes: vec![1, 2, 5],
            ridge: 1.0,
            ridge_dense: 10.0,
            ridges: Vec::new(),
            images_max: 10_000,
            folds: 0,
            seed: 0,
        }
    }
}

/// Images to fit on and others to read, both by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Fitted on.
    pub fit: Vec<usize>,
    /// Read.
    pub read: Vec<usize>,
}

/// All folds; no patient is on both sides of one.
#[must_use]
pub fn folds(train: &[usize], test: &[usize], patients: &[u32], how: &Probing) -> Vec<Fold> {
    if how.folds < 2 {
        return vec![Fold { fit: drawn(train.to_vec(), how), read: test.to_vec() }];
    }
    let mut all: Vec<usize> = train.iter().chain(test).copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut names: Vec<u32> = all.iter().map(|image| patients[*image]).collect();
    names.sort_unstable();
    names.dedup();
    names.shuffle(&mut numbers(how.seed, Stream::Control));
    let dealt = names.iter().enumerate().map(|(at, name)| (*name, at % how.folds));
    let part: HashMap<u32, usize> = dealt.collect();
    let of = |image: &usize| part[&patients[*image]];
    (0..how.folds)
        .map(|number| {
            let (read, fit) = all.iter().partition(|image| of(image) == number);
            Fold { fit: drawn(fit, how), read }
        })
        .collect()
}

fn drawn(mut fit: Vec<usize>, how: &Probing) -> Vec<usize> {
    if fit.len() > how.images_max {
        fit.shuffle(&mut numbers(how.seed, Stream::Control));
        fit.truncate(how.images_max);
        fit.sort_unstable();
    }
    fit
}

/// A readout's log odds for every image that a fold read; no number elsewhere.
pub type Scores = Vec<f64>;

/// Reads rows `[n, d]` by what each fold taught.
#[must_use]
pub fn read(taught: &[Logistic], rows: &[f64], d: usize, folds: &[Fold]) -> Scores {
    let mut scores = vec![f64::NAN; rows.len() / d];
    for (fold, taught) in folds.iter().zip(taught) {
        fold.read.iter().for_each(|i| scores[*i] = taught.score(&rows[i * d..][..d]));
    }
    scores
}

/// Reads a label from the `size` features whose standardised class means differ most on the
/// images that are fitted on (SAEBench's and 2502.16681's sparse probe). Gives the features of
/// the first fold too.
#[must_use]
pub fn read_sparse(
    codes: &Codes,
    label: &[Mark],
    folds: &[Fold],
    (size, ridge): (usize, f64),
) -> Option<(Scores, Vec<usize>)> {
    let mut scores = vec![f64::NAN; label.len()];
    let mut first = None;
    for fold in folds {
        let known = known(&fold.fit, label);
        let chosen = most_different(codes, label, &known, size)?;
        let d = chosen.len();
        let mut rows = vec![0.0; codes.samples * d];
        for (at, feature) in chosen.iter().enumerate() {
            for value in codes.column(*feature) {
                rows[value.sample as usize * d + at] = f64::from(value.value);
            }
        }
        let picked: Vec<f64> =
            known.iter().flat_map(|image| &rows[image * d..][..d]).copied().collect();
        let fitted = Logistic::fit(&picked, d, &positive(&known, label), ridge)?;
        fold.read.iter().for_each(|i| scores[*i] = fitted.score(&rows[i * d..][..d]));
        first.get_or_insert(chosen);
    }
    first.map(|chosen| (scores, chosen))
}

/// The features whose means differ most between both kinds, in pooled standard deviations.
fn most_different(
    codes: &Codes,
    label: &[Mark],
    known: &[usize],
    size: usize,
) -> Option<Vec<usize>> {
    // 1: positive, 0: negative, 2: not among them.
    let mut side = vec![2_usize; codes.samples];
    known.iter().for_each(|image| side[*image] = usize::from(label[*image] == Mark::Positive));
    let counts = [0, 1].map(|s| whole(side.iter().filter(|side| **side == s).count()));
    if counts.contains(&0.0) {
        return None;
    }
    let difference = |feature: usize| {
        let mut sums = [[0.0; 2]; 3];
        for value in codes.column(feature) {
            let v = f64::from(value.value);
            let sum = &mut sums[side[value.sample as usize]];
            sum[0] += v;
            sum[1] += v * v;
        }
        let mean = [0, 1].map(|s| sums[s][0] / counts[s]);
        let pooled: f64 = (0..2).map(|s| sums[s][1] - counts[s] * mean[s] * mean[s]).sum();
        let deviation = (pooled / (counts[0] + counts[1])).max(0.0).sqrt();
        let apart = (mean[1] - mean[0]).abs();
        // A feature that is the same on all images of a kind tells them apart for certain.
        if deviation > 0.0 {
            apart / deviation
        } else if apart > 0.0 {
            f64::INFINITY
        } else {
            0.0
        }
    };
    let mut all: Vec<(f64, usize)> =
        (0..codes.features()).into_par_iter().map(|f| (difference(f), f)).collect();
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    all.retain(|(difference, _)| *difference > 0.0);
    all.truncate(size);
    (!all.is_empty()).then(|| all.into_iter().map(|(_, feature)| feature).collect())
}

pub(super) fn known(images: &[usize], label: &[Mark]) -> Vec<usize> {
    images.iter().copied().filter(|image| label[*image] != Mark::Unknown).collect()
}

pub(super) fn positive(known: &[usize], label: &[Mark]) -> Vec<bool> {
    known.iter().map(|image| label[*image] == Mark::Positive).collect()
}

/// A readout of one feature with a bias (MedSAE's code), on as many images of both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Single {
    /// The feature that reads the label best, by F1.
    pub feature: usize,
    /// Share of what is called positive that is.
    pub precision: f64,
    /// Share of what is positive that is called so.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// Images of each kind that MedSAE's probes see (its code).
const EACH: usize = 200;

/// MedSAE's probes: for each label the best feature, as in its code fitted and measured on the
/// same images, at most 200 of each kind.
#[must_use]
pub fn singles(codes: &Codes, labels: &Labels, seed: u64) -> Vec<Option<Single>> {
    let one = |label: usize| {
        let marks = labels.column(label);
        let mut random = numbers(seed, Stream::Control);
        let mut of = |mark: Mark| {
            let mut images: Vec<usize> = (0..marks.len()).filter(|i| marks[*i] == mark).collect();
            images.shuffle(&mut random);
            images
        };
        let (mut with, mut without) = (of(Mark::Positive), of(Mark::Negative));
        let each = EACH.min(with.len()).min(without.len());
        if each == 0 {
            return None;
        }
        with.truncate(each);
        without.truncate(each);
        let mut side = vec![None; codes.samples];
        with.iter().for_each(|image| side[*image] = Some(true));
        without.iter().for_each(|image| side[*image] = Some(false));
        let fitted = (0..codes.features()).into_par_iter().filter_map(|feature| {
            let values: Vec<(f64, bool)> = codes
                .column(feature)
                .iter()
                .filter_map(|v| Some((f64::from(v.value), side[v.sample as usize]?)))
                .collect();
            single(feature, &values, each)
        });
        fitted.max_by(|a, b| a.f1.total_cmp(&b.f1).then_with(|| b.feature.cmp(&a.feature)))
    };
    (0..labels.names.len()).map(one).collect()
}

/// Rounds of Newton's method for two numbers.
const ROUNDS: usize = 30;

/// Kept small, so that separable values stay finite.
const RIDGE: f64 = 1e-3;

fn single(feature: usize, values: &[(f64, bool)], each: usize) -> Option<Single> {
    let scale = values.iter().fold(0.0_f64, |most, (v, _)| most.max(v.abs()));
    if scale <= 0.0 {
        return None;
    }
    // What is not in the column is 0; there are so many of each kind.
    let with = values.iter().filter(|(_, positive)| *positive).count();
    let zeros = [whole(each - (values.len() - with)), whole(each - with)];
    let (mut weight, mut bias) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        let (mut g, mut h) = ([RIDGE * weight, 0.0], [RIDGE, 0.0, 1e-9]);
        let mut see = |v: f64, positive: bool, times: f64| {
            let p = 1.0 / (1.0 + (-(weight * v + bias)).exp());
            let (rest, curve) = ((p - f64::from(positive)) * times, p * (1.0 - p) * times);
            g = [g[0] + rest * v, g[1] + rest];
            h = [h[0] + curve * v * v, h[1] + curve * v, h[2] + curve];
        };
        values.iter().for_each(|(v, positive)| see(v / scale, *positive, 1.0));
        see(0.0, false, zeros[0]);
        see(0.0, true, zeros[1]);
        let determinant = h[0] * h[2] - h[1] * h[1];
        if determinant <= 0.0 {
            break;
        }
        let step =
            [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
        let damp = (5.0 / step[0].abs().max(step[1].abs())).min(1.0);
        weight -= damp * step[0];
        bias -= damp * step[1];
        if step[0].abs() + step[1].abs() < 1e-8 {
            break;
        }
    }
    let called = |v: f64| weight * v / scale + bias > 0.0;
    let count = |wanted: bool| {
        let seen = values.iter().filter(|(v, positive)| *positive == wanted && called(*v)).count();
        whole(seen) + if bias > 0.0 { zeros[usize::from(wanted)] } else { 0.0 }
    };
    let (hits, wrong) = (count(true), count(false));
    let precision = if hits + wrong > 0.0 { hits / (hits + wrong) } else { 0.0 };
    let recall = hits / whole(each);
    let f1 = if hits > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    Some(Single { feature, precision, recall, f1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_patient_is_on_both_sides_of_a_fold() {
        let patients: Vec<u32> = (0..40).map(|i| i / 3).collect();
        let (train, test): (Vec<usize>, Vec<usize>) = ((0..30).collect(), (30..40).collect());
        let how = Probing { folds: 4, ..Probing::default() };
        let found = folds(&train, &test, &patients, &how);
        let mut read: Vec<usize> = found.iter().flat_map(|fold| fold.read.clone()).collect();
        read.sort_unstable();
        assert_eq!(read, (0..40).collect::<Vec<usize>>(), "every image is read once");
        for fold in &found {
            let fits = |image: &usize| fold.fit.iter().any(|f| patients[*f] == patients[*image]);
            assert!(!fold.read.iter().any(fits));
        }
    }

    #[test]
    fn a_sparse_readout_finds_the_feature_that_carries_the_label() {
        // Feature 1 fires where the label is; feature 0 everywhere; feature 2 at random.
        let rows: Vec<f32> = (0..60_u16)
            .flat_map(|i| {
                [1.0 + f32::from(i % 5), f32::from(u8::from(i % 3 == 0)), f32::from(i % 2)]
            })
            .collect();
        let codes = Codes::dense(&rows, 3);
        let label: Vec<Mark> =
            (0..60).map(|i| if i % 3 == 0 { Mark::Positive } else { Mark::Negative }).collect();
        let fold = Fold { fit: (0..30).collect(), read: (30..60).collect() };
        let (scores, chosen) = read_sparse(&codes, &label, &[fold], (1, 1.0)).expect("a readout");
        assert_eq!(chosen, [1]);
        assert!(scores[33] > scores[34] && scores[0].is_nan());
        let labels = Labels::of(vec![("a".into(), label)]);
        let best = singles(&codes, &labels, 0)[0].expect("a probe");
        assert_eq!((best.feature, best.f1), (1, 1.0));
    }
}
