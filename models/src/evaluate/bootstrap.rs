//! How far a figure would move with other patients: patients are drawn with replacement, and all
//! images of one come along (cluster bootstrap; Davison and Hinkley 1997, 3.8).

use rand::RngExt as _;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::start::{Stream, numbers};

/// How patients are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    /// How often.
    pub count: usize,
    /// Share of the draws between the ends of an interval.
    pub level: f64,
    /// Same seed, same draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { count: 1000, level: 0.95, seed: 0 }
    }
}

/// A figure and the interval that other patients would give.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// On the patients at hand.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The draws themselves: how often each image counts, so that figures that are held against each
/// other see the same patients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draws {
    /// `[draws][images]`.
    weights: Vec<Vec<u16>>,
}

impl Draws {
    /// By a patient for each image.
    #[must_use]
    pub fn of(patients: &[u32], how: &Bootstrap) -> Self {
        let mut names = patients.to_vec();
        names.sort_unstable();
        names.dedup();
        let places: Vec<usize> =
            patients.iter().map(|p| names.partition_point(|name| name < p)).collect();
        let draw = |number: u64| {
            let mut random = numbers(how.seed, Stream::Patients(number));
            let mut times = vec![0_u16; names.len()];
            for _ in 0..names.len() {
                times[random.random_range(0..names.len())] += 1;
            }
            places.iter().map(|place| times[*place]).collect()
        };
        Self { weights: (0..how.count as u64).into_par_iter().map(draw).collect() }
    }

    /// The interval of a figure of weighted images; draws that have none are left out.
    #[must_use]
    pub fn estimate(
        &self,
        value: f64,
        level: f64,
        figure: impl Fn(&[u16]) -> Option<f64> + Sync,
    ) -> Estimate {
        let mut drawn: Vec<f64> =
            self.weights.par_iter().filter_map(|weights| figure(weights)).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let outside = (1.0 - level) / 2.0;
        Estimate { value, low: quantile(&drawn, outside), high: quantile(&drawn, 1.0 - outside) }
    }
}

/// A quantile of sorted values, between the two nearest; no number where there are none.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 values")]
    let at = share.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=last")]
    let below = at as usize;
    let above = (below + 1).min(last);
    sorted[below] + (at - at.floor()) * (sorted[above] - sorted[below])
}

/// One value per image, ready for the AUROC of any weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// By rising score: image, positive or not, and whether the next is as high.
    order: Vec<(u32, bool, bool)>,
}

impl Ranked {
    /// Of the images whose label is known.
    #[must_use]
    pub fn of(scores: &[f64], positive: &[Option<bool>]) -> Self {
        let known = (0_u32..).zip(scores.iter().zip(positive));
        let mut all: Vec<(f64, u32, bool)> =
            known.filter_map(|(i, (score, p))| Some((*score, i, (*p)?))).collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let next = |at: usize| all.get(at + 1).is_some_and(|n| n.0.total_cmp(&all[at].0).is_eq());
        let order = all.iter().enumerate().map(|(at, (_, image, p))| (*image, *p, next(at)));
        Self { order: order.collect() }
    }

    /// The AUROC where each image counts so often; none without images of both kinds.
    #[must_use]
    pub fn auroc(&self, weights: &[u16]) -> Option<f64> {
        let (mut won, mut below, mut positives) = (0_u64, 0_u64, 0_u64);
        let (mut p, mut n) = (0_u64, 0_u64);
        for &(image, positive, alike) in &self.order {
            let weight = u64::from(weights[image as usize]);
            if positive {
                p += weight
            } else {
                n += weight
            }
            if !alike {
                won += p * (2 * below + n);
                below += n;
                positives += p;
                (p, n) = (0, 0);
            }
        }
        let pairs = 2 * positives * below;
        #[expect(clippy::cast_precision_loss, reason = "pairs of fewer than 2^26 images")]
        let share = won as f64 / pairs as f64;
        (pairs > 0).then_some(share)
    }

    /// The AUROC where each image counts once.
    #[must_use]
    pub fn plain(&self, samples: usize) -> Option<f64> {
        self.auroc(&vec![1; samples])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_images_of_a_patient_are_drawn_together() {
        let draws = Draws::of(&[3, 3, 9, 3], &Bootstrap { count: 40, ..Bootstrap::default() });
        for weights in &draws.weights {
            assert_eq!(weights[0], weights[1]);
            assert_eq!(weights[0], weights[3]);
            assert_eq!(weights[0] + weights[2], 2);
        }
    }

    #[test]
    fn an_interval_of_many_patients_is_narrower() {
        let width = |count: u32| {
            let scores: Vec<f64> = (0..count).map(|i| f64::from(i * 7 % 13)).collect();
            let positive: Vec<Option<bool>> = (0..count).map(|i| Some(i % 3 == 0)).collect();
            let ranked = Ranked::of(&scores, &positive);
            let patients: Vec<u32> = (0..count).collect();
            let draws = Draws::of(&patients, &Bootstrap::default());
            let value = ranked.plain(count as usize).expect("both kinds");
            let found = draws.estimate(value, 0.95, |weights| ranked.auroc(weights));
            assert!(found.low <= value && value <= found.high);
            found.high - found.low
        };
        assert!(width(900) < 0.5 * width(90));
    }
}
