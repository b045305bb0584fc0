//! Monosemanticity (Pach et al., arXiv 2504.02821): do the images that a feature fires on look
//! alike to an encoder?
//!
//! `MS = sum_{i<l} a_i a_l cos(e_i, e_l) / sum_{i<l} a_i a_l` over all pairs of images, with each
//! feature's values brought to 0..1. With unit embeddings the sum over pairs is a difference of
//! two sums over images, so no pair is ever formed:
//! `(||sum a_i e_i||^2 - sum a_i^2) / ((sum a_i)^2 - sum a_i^2)`.
//!
//! Radiographs of one kind are all alike to their encoder, so a feature that fires anywhere gets a
//! high score. What chance gives, the mean over all pairs of images, is the expectation over every
//! order of a feature's values; what is above it is the feature's own.

use rayon::prelude::*;
use serde::Serialize;

use super::reconstruct::mean;
use crate::codes::{Codes, Value};
use crate::kernel::{add, dot};

/// Features that fire on fewer images have a score of a few pairs.
pub const FIRINGS_MIN: usize = 30;

/// Values above this share of a feature's positive values are cut off, so that one image cannot
/// set the scale of all.
const CUT: f64 = 0.995;

/// A feature's score, in several forms; none where it fires on fewer than two images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// As published.
    pub published: Option<f64>,
    /// Above chance.
    pub lift: Option<f64>,
    /// With the mean embedding taken away first, so that chance is near 0.
    pub centred: Option<f64>,
    /// With the largest values cut off.
    pub cut: Option<f64>,
    /// Without pairs of one patient, whose images are alike for another reason.
    pub between_patients: Option<f64>,
    /// Images on which the feature is not 0.
    pub firings: usize,
}

/// Scores of features, and what chance gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Monosemanticity {
    /// Mean cosine of all pairs of images.
    pub chance: f64,
    /// By feature.
    pub scores: Vec<Score>,
}

/// Unit embeddings that judge, as they are and centred.
struct Judge {
    d: usize,
    unit: Vec<f32>,
    centred: Vec<f32>,
    patients: Vec<u32>,
}

/// Judges by embeddings `[n, d]` of the same images, better of another encoder than the one that
/// the features come from; `patients` are theirs.
#[must_use]
pub fn monosemanticity(
    codes: &Codes,
    embeddings: &[f32],
    d: usize,
    patients: &[u32],
) -> Monosemanticity {
    let unit = units(embeddings.to_vec(), d);
    let all = vec![1.0; codes.samples];
    let everything: Vec<u32> = (0..).take(codes.samples).collect();
    let mean = mean(embeddings, d);
    let mut centred = embeddings.to_vec();
    centred.chunks_exact_mut(d).for_each(|row| add(row, -1.0, &mean));
    let centred = units(centred, d);
    let chance = pairs(&everything, &all, &unit, d).unwrap_or(f64::NAN);
    let judge = Judge { d, unit, centred, patients: patients.to_vec() };
    let scores = codes.columns().map(|column| judge.score(column, codes.samples, chance));
    Monosemanticity { chance, scores: scores.collect() }
}

impl Judge {
    fn score(&self, column: &[Value], samples: usize, chance: f64) -> Score {
        let (images, values) = scaled(column, samples, 1.0);
        let published = pairs(&images, &values, &self.unit, self.d);
        let (cut_images, cut_values) = scaled(column, samples, CUT);
        Score {
            published,
            lift: published.map(|score| score - chance),
            centred: pairs(&images, &values, &self.centred, self.d),
            cut: pairs(&cut_images, &cut_values, &self.unit, self.d),
            between_patients: self.between(&images, &values),
            firings: column.len(),
        }
    }

    /// The same over pairs of different patients only: what each patient's own images give is
    /// taken from both sums.
    fn between(&self, images: &[u32], values: &[f64]) -> Option<f64> {
        let mut order: Vec<usize> = (0..images.len()).collect();
        let patient = |at: &usize| self.patients[images[*at] as usize];
        order.sort_unstable_by_key(|at| (patient(at), images[*at]));
        let whole = Sums::of(images, values, &self.unit, self.d);
        let (mut cosines, mut weights) = (whole.length, whole.sum * whole.sum);
        for own in order.chunk_by(|a, b| patient(a) == patient(b)) {
            let (images, values): (Vec<u32>, Vec<f64>) =
                own.iter().map(|at| (images[*at], values[*at])).unzip();
            let sums = Sums::of(&images, &values, &self.unit, self.d);
            cosines -= sums.length;
            weights -= sums.sum * sums.sum;
        }
        (weights > f64::EPSILON * whole.sum * whole.sum).then_some(cosines / weights)
    }
}

/// A feature's values brought to 0..1 over *all* images, the zeros too, as the reference does; a
/// `share` below 1 cuts the largest positive values off.
fn scaled(column: &[Value], samples: usize, share: f64) -> (Vec<u32>, Vec<f64>) {
    let low = column.first().map_or(0.0, |v| f64::from(v.value));
    let low = if column.len() < samples { low.min(0.0) } else { low };
    let positive: Vec<f64> =
        column.iter().map(|v| f64::from(v.value)).filter(|v| *v > 0.0).collect();
    let high = if share < 1.0 {
        super::bootstrap::quantile(&positive, share)
    } else {
        column.last().map_or(0.0, |v| f64::from(v.value))
    };
    let high = if column.len() < samples { high.max(0.0) } else { high };
    let range = if high > low { high - low } else { 1.0 };
    if low < 0.0 {
        // Zeros are no longer the lowest: every image has a value.
        let mut all = vec![-low / range; samples];
        for v in column {
            all[v.sample as usize] = ((f64::from(v.value) - low) / range).min(1.0);
        }
        return ((0..).take(samples).collect(), all);
    }
    // Over positive values alone the lowest is the zero of an image where it does not fire.
    column
        .iter()
        .map(|v| (v.sample, ((f64::from(v.value) - low) / range).min(1.0)))
        .filter(|(_, value)| *value > 0.0)
        .unzip()
}

/// What pairs are made of.
struct Sums {
    /// `|| sum a_i e_i ||^2`.
    length: f64,
    /// `sum a_i`.
    sum: f64,
    /// `sum a_i^2`.
    squares: f64,
}

impl Sums {
    fn of(images: &[u32], values: &[f64], unit: &[f32], d: usize) -> Self {
        let mut direction = vec![0.0_f64; d];
        for (image, value) in images.iter().zip(values) {
            let row = &unit[*image as usize * d..][..d];
            direction.iter_mut().zip(row).for_each(|(sum, e)| *sum += value * f64::from(*e));
        }
        Self {
            length: direction.iter().map(|x| x * x).sum(),
            sum: values.iter().sum(),
            squares: values.iter().map(|value| value * value).sum(),
        }
    }
}

/// The weighted mean cosine of all pairs; none where no two images have a value.
fn pairs(images: &[u32], values: &[f64], unit: &[f32], d: usize) -> Option<f64> {
    let sums = Sums::of(images, values, unit, d);
    // Lengths of fp32 unit rows differ from 1 by some 1e-7; what pairs of an image with itself
    // give is taken at the length that the rows have.
    let own: f64 = images
        .iter()
        .zip(values)
        .map(|(image, value)| {
            let row = &unit[*image as usize * d..][..d];
            let length: f64 = row.iter().map(|e| f64::from(*e) * f64::from(*e)).sum();
            value * value * length
        })
        .sum();
    let weights = sums.sum * sums.sum - sums.squares;
    (weights > f64::EPSILON * sums.sum * sums.sum).then_some((sums.length - own) / weights)
}

fn units(mut rows: Vec<f32>, d: usize) -> Vec<f32> {
    rows.par_chunks_exact_mut(d).for_each(|row| {
        let length = dot(row, row).sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x /= length);
        }
    });
    rows
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom as _;
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;
    use crate::start::{Stream, numbers};

    #[test]
    fn the_linear_form_is_the_sum_over_all_pairs() {
        let (n, d, features) = (60, 8, 5);
        let mut random = numbers(5, Stream::Samples);
        let mut normal = |count: usize| -> Vec<f32> {
            (0..count).map(|_| StandardNormal.sample(&mut random)).collect()
        };
        let embeddings: Vec<f32> = normal(n * d).iter().map(|x| x + 1.0).collect();
        // Two features of both signs, three that are 0 on most images.
        let mut matrix = normal(n * features);
        for row in matrix.chunks_exact_mut(features) {
            row[2..].iter_mut().for_each(|v| *v = (*v - 0.8).max(0.0));
        }
        let codes = Codes::dense(&matrix, features);
        let patients: Vec<u32> = (0..60).map(|i| i / 2).collect();
        let found = monosemanticity(&codes, &embeddings, d, &patients);
        let unit = units(embeddings.clone(), d);
        for feature in 0..features {
            let column: Vec<f64> =
                matrix.chunks_exact(features).map(|row| f64::from(row[feature])).collect();
            let low = column.iter().fold(f64::INFINITY, |low, v| low.min(*v));
            let high = column.iter().fold(f64::NEG_INFINITY, |high, v| high.max(*v));
            let a: Vec<f64> = column.iter().map(|v| (v - low) / (high - low)).collect();
            let (mut sum, mut weight, mut apart) = (0.0, 0.0, (0.0, 0.0));
            for i in 0..n {
                for l in 0..i {
                    let cosine = f64::from(dot(&unit[i * d..][..d], &unit[l * d..][..d]));
                    sum += a[i] * a[l] * cosine;
                    weight += a[i] * a[l];
                    if patients[i] != patients[l] {
                        apart = (apart.0 + a[i] * a[l] * cosine, apart.1 + a[i] * a[l]);
                    }
                }
            }
            let score = found.scores[feature];
            let close = |found: Option<f64>, pairs: f64| {
                let found = found.expect("a score");
                assert!((found - pairs).abs() < 1e-6, "feature {feature}: {found}, pairs {pairs}");
            };
            close(score.published, sum / weight);
            close(score.between_patients, apart.0 / apart.1);
        }
    }

    #[test]
    fn chance_is_what_values_in_any_order_give() {
        let (n, d) = (80, 4);
        let mut random = numbers(6, Stream::Samples);
        let embeddings: Vec<f32> = (0..n * d)
            .map(|_| {
                let x: f32 = StandardNormal.sample(&mut random);
                x + 0.5
            })
            .collect();
        let mut values: Vec<f32> = (0_u16..80).map(|i| f32::from(i.saturating_sub(60))).collect();
        let patients: Vec<u32> = (0..80).collect();
        let (mut sum, mut chance) = (0.0, 0.0);
        for _ in 0..400 {
            values.shuffle(&mut random);
            let found = monosemanticity(&Codes::dense(&values, 1), &embeddings, d, &patients);
            sum += found.scores[0].published.expect("fires") / 400.0;
            chance = found.chance;
        }
        assert!((sum - chance).abs() < 0.01, "mean of 400 orders {sum}, chance {chance}");
    }

    #[test]
    fn a_feature_of_one_image_has_no_score() {
        let codes = Codes::dense(&[0.0, 0.0, 3.0], 1);
        let found = monosemanticity(&codes, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], 2, &[0, 1, 2]);
        assert_eq!(found.scores[0].published, None);
        assert_eq!(found.scores[0].between_patients, None);
    }
}
