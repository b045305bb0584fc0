//! A finding as a few latents, each of which may only speak for it.
//!
//! `score = bias + sum(weight * activation)` with `weight >= 0`, so that what a reader sees of a
//! finding's evidence never has to be turned round in the mind.

use serde::{Deserialize, Serialize};

use crate::codes::{Codes, Value};
use crate::measure::whole;

/// How a rule is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fit {
    /// Latents of a rule, at most: few enough to be looked at one by one.
    pub latents_max: usize,
    /// Weight of the squared weights, in units of a latent's standard deviation, beside the mean
    /// loss of an image.
    pub ridge: f64,
    /// Latents that fire on a smaller share of the images are left out: what they would tell hangs
    /// on a handful.
    pub rate_min: f64,
}

impl Default for Fit {
    /// A dozen latents fit on a screen. The ridge is the slice's; it was never tuned.
    fn default() -> Self {
        Self { latents_max: 12, ridge: 1e-3, rate_min: 0.01 }
    }
}

/// Weights over latents.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Latent and weight per unit of activation, by rising latent; every weight above 0.
    pub weights: Vec<(usize, f64)>,
    /// The score where none of them is active.
    pub bias: f64,
}

/// Rounds over all latents at most, and the movement (standard deviations of a latent) below which
/// a round is the last.
const ROUNDS: usize = 2000;
const STILL: f64 = 1e-4;

impl Rule {
    /// Fits on the images whose label is known (`[images]`); both kinds count as much as each other.
    ///
    /// All latents are fitted together, the largest are fitted again alone. None where there is
    /// only one kind, or where no latent speaks for the label.
    #[must_use]
    pub fn fit(codes: &Codes, label: &[Option<bool>], how: &Fit) -> Option<Self> {
        let problem = Problem::of(codes, label)?;
        let least = how.rate_min * problem.known;
        let asked: Vec<usize> = (0..codes.features())
            .filter(|latent| problem.firings(codes.column(*latent)) >= least.max(1.0))
            .collect();
        let (mut found, _) = problem.solved(codes, &asked, how.ridge);
        // The largest part in a score first; among equals the first latent.
        found.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.latent.cmp(&b.latent)));
        found.truncate(how.latents_max);
        let mut few: Vec<usize> = found.iter().map(|weight| weight.latent).collect();
        few.sort_unstable();
        let (found, bias) = problem.solved(codes, &few, how.ridge);
        let weights: Vec<(usize, f64)> =
            found.iter().map(|weight| (weight.latent, weight.per_unit)).collect();
        (!weights.is_empty()).then_some(Self { weights, bias })
    }

    /// The score of every image.
    #[must_use]
    pub fn scores(&self, codes: &Codes) -> Vec<f64> {
        let mut scores = vec![self.bias; codes.samples];
        for (latent, weight) in &self.weights {
            for value in codes.column(*latent) {
                scores[value.sample as usize] += weight * f64::from(value.value);
            }
        }
        scores
    }
}

/// A weight that was found.
struct Weight {
    latent: usize,
    per_unit: f64,
    /// In standard deviations of the latent.
    strength: f64,
}

/// Images, and what each of them counts.
struct Problem {
    /// Share of the loss; 0 where the label is not known.
    counts: Vec<f64>,
    positive: Vec<bool>,
    /// Images with a known label.
    known: f64,
}

impl Problem {
    fn of(codes: &Codes, label: &[Option<bool>]) -> Option<Self> {
        let of = |kind: bool| label.iter().filter(|known| **known == Some(kind)).count();
        let [positives, negatives] = [of(true), of(false)];
        if positives == 0 || negatives == 0 || label.len() != codes.samples {
            return None;
        }
        let count = |known: &Option<bool>| match known {
            Some(true) => 0.5 / whole(positives),
            Some(false) => 0.5 / whole(negatives),
            None => 0.0,
        };
        Some(Self {
            counts: label.iter().map(count).collect(),
            positive: label.iter().map(|known| *known == Some(true)).collect(),
            known: whole(positives + negatives),
        })
    }

    fn firings(&self, column: &[Value]) -> f64 {
        whole(column.iter().filter(|value| self.counts[value.sample as usize] > 0.0).count())
    }

    /// Minimises the mean cross-entropy, one latent after the other: a step by the loss's largest
    /// curvature (Boehning and Lindsay 1988), cut off at 0, never makes it larger.
    fn solved(&self, codes: &Codes, asked: &[usize], ridge: f64) -> (Vec<Weight>, f64) {
        let spreads: Vec<f64> =
            asked.iter().map(|latent| self.spread(codes.column(*latent))).collect();
        let mut strengths = vec![0.0; asked.len()];
        let mut scores = vec![0.0; codes.samples];
        let mut bias = 0.0;
        for _ in 0..ROUNDS {
            let mut moved = self.step(&mut scores, &mut bias);
            for ((latent, spread), strength) in asked.iter().zip(&spreads).zip(&mut strengths) {
                let column = codes.column(*latent);
                let (mut slope, mut curvature) = (2.0 * ridge * *strength, 2.0 * ridge);
                for value in column {
                    let image = value.sample as usize;
                    let x = f64::from(value.value) / spread;
                    slope += x * self.slope(image, scores[image]);
                    curvature += self.counts[image] * x * x / 4.0;
                }
                let next = (*strength - slope / curvature).max(0.0);
                let by = next - *strength;
                if by != 0.0 {
                    column.iter().for_each(|value| {
                        scores[value.sample as usize] += by * f64::from(value.value) / spread;
                    });
                    *strength = next;
                    moved = moved.max(by.abs());
                }
            }
            if moved < STILL {
                break;
            }
        }
        let found = asked.iter().zip(&spreads).zip(strengths);
        let found = found.filter(|(_, strength)| *strength > 0.0).map(|((latent, spread), s)| {
            Weight { latent: *latent, per_unit: s / spread, strength: s }
        });
        (found.collect(), bias)
    }

    /// Moves the bias; gives by how much.
    fn step(&self, scores: &mut [f64], bias: &mut f64) -> f64 {
        let slope: f64 =
            scores.iter().enumerate().map(|(image, score)| self.slope(image, *score)).sum();
        // The counts sum to 1, so the largest curvature is a quarter.
        let by = -4.0 * slope;
        scores.iter_mut().for_each(|score| *score += by);
        *bias += by;
        by.abs()
    }

    fn slope(&self, image: usize, score: f64) -> f64 {
        let p = 1.0 / (1.0 + (-score).exp());
        self.counts[image] * (p - f64::from(self.positive[image]))
    }

    /// Standard deviation of a latent over the known images; 1 where it is the same on all.
    fn spread(&self, column: &[Value]) -> f64 {
        let known = column.iter().filter(|value| self.counts[value.sample as usize] > 0.0);
        let (sum, squares) = known.fold((0.0, 0.0), |(sum, squares), value| {
            let x = f64::from(value.value);
            (sum + x, squares + x * x)
        });
        let mean = sum / self.known;
        let variance = squares / self.known - mean * mean;
        if variance > 1e-12 { variance.sqrt() } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: Fit = Fit { latents_max: 2, ridge: 1e-3, rate_min: 0.0 };

    /// Latent 0 speaks for the label, 1 against it, 2 for it but less, 3 always fires.
    fn codes() -> (Codes, Vec<Option<bool>>) {
        let mut values = Vec::new();
        let label: Vec<Option<bool>> = (0..80).map(|i| Some(i % 4 == 0)).collect();
        for image in 0..80_u32 {
            let positive = image % 4 == 0;
            if positive || image % 9 == 1 {
                values.push((0, image, 2.0));
            }
            if !positive {
                values.push((1, image, 1.0));
            }
            if positive && image % 8 == 0 || image % 5 == 0 {
                values.push((2, image, 0.5));
            }
            values.push((3, image, 1.5));
        }
        (Codes::listed(80, 4, &values), label)
    }

    #[test]
    fn only_latents_that_speak_for_a_label_are_in_its_rule() {
        let (codes, label) = codes();
        let rule = Rule::fit(&codes, &label, &HOW).expect("a rule");
        let latents: Vec<usize> = rule.weights.iter().map(|(latent, _)| *latent).collect();
        assert_eq!(latents, [0, 2]);
        assert!(rule.weights.iter().all(|(_, weight)| *weight > 0.0));
        let scores = rule.scores(&codes);
        assert!(scores[0] > 0.0 && scores[2] < 0.0, "{scores:?}");
    }

    #[test]
    fn no_weight_can_be_moved_to_make_the_loss_smaller() {
        let (codes, label) = codes();
        let rule = Rule::fit(&codes, &label, &HOW).expect("a rule");
        let problem = Problem::of(&codes, &label).expect("both kinds");
        let scores = rule.scores(&codes);
        for (latent, weight) in &rule.weights {
            let column = codes.column(*latent);
            let spread = problem.spread(column);
            let along = column.iter().map(|value| {
                let image = value.sample as usize;
                f64::from(value.value) / spread * problem.slope(image, scores[image])
            });
            let slope: f64 = along.sum::<f64>() + 2.0 * HOW.ridge * weight * spread;
            assert!(slope.abs() < 1e-3, "latent {latent}: {slope}");
        }
        let slope: f64 = (0..80).map(|image| problem.slope(image, scores[image])).sum();
        assert!(slope.abs() < 1e-3, "bias: {slope}");
    }

    #[test]
    fn images_of_unknown_label_teach_nothing() {
        let (codes, label) = codes();
        let mut fewer = label.clone();
        fewer.iter_mut().skip(40).for_each(|known| *known = None);
        let rule = Rule::fit(&codes, &fewer, &HOW);
        let own: Vec<usize> = (0..40).collect();
        assert_eq!(rule, Rule::fit(&codes.only(&own), &label[..40], &HOW));
    }

    #[test]
    fn one_kind_alone_gives_no_rule() {
        let (codes, _) = codes();
        assert_eq!(Rule::fit(&codes, &[Some(true); 80], &HOW), None);
        let mut against = vec![Some(false); 80];
        against[1] = Some(true);
        let how = Fit { rate_min: 0.9, ..HOW };
        assert_eq!(Rule::fit(&codes, &against, &how), None, "no latent fires often enough");
    }
}
