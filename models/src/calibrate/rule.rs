//! A finding as a few latents, each of which may only speak for it.
//!
//! `score = bias + sum(weight * activation)` with `weight >= 0`, so that what a reader sees of a
//! finding's evidence never has to be turned round in the mind.

use faer::Mat;
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
    /// A dozen latents fit on a screen. The ridge is the best of 0.001 to 1 on the demo's
    /// patients (`docs/calibration.md`); in units of the summed loss it is 100 at 500 images, about what
    /// readouts of a whole embedding choose for themselves.
    fn default() -> Self {
        Self { latents_max: 12, ridge: 0.1, rate_min: 0.01 }
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

/// Latents that a fit looks at, at most: those whose activation goes with the label most. Its cost
/// rises with their square.
const LATENTS: usize = 256;

/// Rounds of Newton's method, and the movement (standard deviations of a latent) below which a round
/// is the last.
const ROUNDS: usize = 50;
const STILL: f64 = 1e-6;

/// The same for the quadratic problem within a round.
const INNER_ROUNDS: usize = 1000;
const INNER_STILL: f64 = 1e-8;

impl Rule {
    /// Fits on the images whose label is known (`[images]`); both kinds count as much as each other.
    ///
    /// All latents are fitted together, the largest are fitted again alone. None where there is
    /// only one kind, or where no latent speaks for the label.
    #[must_use]
    pub fn fit(codes: &Codes, label: &[Option<bool>], how: &Fit) -> Option<Self> {
        let images = Images::of(codes, label)?;
        let least = (how.rate_min * images.known()).max(1.0);
        let asked = images.strongest(codes, least);
        let (mut found, _) = Problem::of(codes, &asked, &images, how.ridge).solved();
        // The largest part in a score first; among equals the first latent.
        found.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.latent.cmp(&b.latent)));
        found.truncate(how.latents_max);
        let mut few: Vec<usize> = found.iter().map(|weight| weight.latent).collect();
        few.sort_unstable();
        let (found, bias) = Problem::of(codes, &few, &images, how.ridge).solved();
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

/// Images whose label is known.
struct Images {
    /// Of each image of the code, its place among these.
    place: Vec<Option<usize>>,
    positive: Vec<bool>,
    /// Share of each in the loss: both kinds come to one half.
    counts: Vec<f64>,
}

impl Images {
    fn of(codes: &Codes, label: &[Option<bool>]) -> Option<Self> {
        let positive: Vec<bool> = label.iter().copied().flatten().collect();
        let positives = positive.iter().filter(|positive| **positive).count();
        let negatives = positive.len() - positives;
        if positives == 0 || negatives == 0 || label.len() != codes.samples {
            return None;
        }
        let mut next = 0..;
        let place = label.iter().map(|known| known.and_then(|_| next.next())).collect();
        let share = [0.5 / whole(negatives), 0.5 / whole(positives)];
        let counts = positive.iter().map(|positive| share[usize::from(*positive)]).collect();
        Some(Self { place, positive, counts })
    }

    fn known(&self) -> f64 {
        whole(self.positive.len())
    }

    /// A latent's activations on these images.
    fn column<'a>(&'a self, values: &'a [Value]) -> impl Iterator<Item = (usize, f64)> + 'a {
        let of = |value: &Value| Some((self.place[value.sample as usize]?, f64::from(value.value)));
        values.iter().filter_map(of)
    }

    /// Latents that fire often enough, those that go with the label most, by rising latent.
    fn strongest(&self, codes: &Codes, least: f64) -> Vec<usize> {
        let mut all: Vec<(f64, usize)> = Vec::new();
        for latent in 0..codes.features() {
            let (mut firings, mut along) = (0_u32, 0.0);
            for (image, x) in self.column(codes.column(latent)) {
                let sign = if self.positive[image] { 1.0 } else { -1.0 };
                firings += 1;
                along += sign * self.counts[image] * x;
            }
            if f64::from(firings) >= least {
                all.push((along / self.spread(codes.column(latent)), latent));
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(LATENTS);
        let mut latents: Vec<usize> = all.into_iter().map(|(_, latent)| latent).collect();
        latents.sort_unstable();
        latents
    }

    /// Standard deviation of a latent; 1 where it is the same on all.
    fn spread(&self, values: &[Value]) -> f64 {
        let (sum, squares) = self
            .column(values)
            .fold((0.0, 0.0), |(sum, squares), (_, x)| (sum + x, squares + x * x));
        let mean = sum / self.known();
        let variance = squares / self.known() - mean * mean;
        if variance > 1e-12 { variance.sqrt() } else { 1.0 }
    }
}

/// A logistic regression with weights of 0 or more and a free bias.
struct Problem<'a> {
    images: &'a Images,
    latents: &'a [usize],
    spreads: Vec<f64>,
    /// Activations in standard deviations, and a column of ones behind them.
    x: Mat<f64>,
    ridge: f64,
}

impl<'a> Problem<'a> {
    fn of(codes: &Codes, latents: &'a [usize], images: &'a Images, ridge: f64) -> Self {
        let mut x = Mat::zeros(images.positive.len(), latents.len() + 1);
        let mut spreads = Vec::with_capacity(latents.len());
        for (at, latent) in latents.iter().enumerate() {
            let values = codes.column(*latent);
            let spread = images.spread(values);
            images.column(values).for_each(|(image, value)| x[(image, at)] = value / spread);
            spreads.push(spread);
        }
        (0..x.nrows()).for_each(|image| x[(image, latents.len())] = 1.0);
        Self { images, latents, spreads, x, ridge }
    }

    /// Minimises the mean cross-entropy by Newton's method; within a round the quadratic problem is
    /// solved one weight after the other, cut off at 0, and its step is halved until the loss falls.
    fn solved(&self) -> (Vec<Weight>, f64) {
        let count = self.latents.len();
        let mut weights = vec![0.0; count + 1];
        let mut loss = self.loss(&weights);
        for _ in 0..ROUNDS {
            let step = self.step(&weights);
            let mut share = 1.0;
            let (next, after) = loop {
                let along = weights.iter().zip(&step).map(|(w, by)| w + share * by);
                let next: Vec<f64> = along.collect();
                let after = self.loss(&next);
                if after <= loss || share < 1e-6 {
                    break (next, after);
                }
                share /= 2.0;
            };
            if after > loss {
                break;
            }
            (weights, loss) = (next, after);
            if step.iter().all(|by| by.abs() < STILL) {
                break;
            }
        }
        let found = self.latents.iter().zip(&self.spreads).zip(&weights);
        let found =
            found.filter(|(_, weight)| **weight > STILL).map(|((latent, spread), weight)| Weight {
                latent: *latent,
                per_unit: weight / spread,
                strength: *weight,
            });
        (found.collect(), weights[count])
    }

    /// Log odds of every image.
    fn scores(&self, weights: &[f64]) -> Vec<f64> {
        let column = Mat::from_fn(weights.len(), 1, |row, _| weights[row]);
        let scores = &self.x * &column;
        (0..scores.nrows()).map(|row| scores[(row, 0)]).collect()
    }

    /// Mean cross-entropy, and the ridge.
    fn loss(&self, weights: &[f64]) -> f64 {
        let scores = self.scores(weights);
        let images = scores.iter().zip(&self.images.positive).zip(&self.images.counts);
        let entropy: f64 = images
            .map(|((score, positive), count)| {
                let z = if *positive { -score } else { *score };
                count * (z.max(0.0) + (-z.abs()).exp().ln_1p())
            })
            .sum();
        let squares: f64 = weights[..self.latents.len()].iter().map(|w| w * w).sum();
        entropy + self.ridge * squares
    }

    /// Slope of the loss, and its curvature.
    fn bend(&self, weights: &[f64]) -> (Vec<f64>, Mat<f64>) {
        let p: Vec<f64> =
            self.scores(weights).iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect();
        let counts = &self.images.counts;
        let (rows, columns) = (self.x.nrows(), self.x.ncols());
        let off = Mat::from_fn(rows, 1, |row, _| {
            counts[row] * (p[row] - f64::from(self.images.positive[row]))
        });
        let weighted = Mat::from_fn(rows, columns, |row, column| {
            (counts[row] * p[row] * (1.0 - p[row])).sqrt() * self.x[(row, column)]
        });
        let slope = self.x.transpose() * &off;
        let mut curvature = weighted.transpose() * &weighted;
        let mut slope: Vec<f64> = (0..columns).map(|row| slope[(row, 0)]).collect();
        for at in 0..self.latents.len() {
            slope[at] += 2.0 * self.ridge * weights[at];
            curvature[(at, at)] += 2.0 * self.ridge;
        }
        curvature[(columns - 1, columns - 1)] += f64::EPSILON;
        (slope, curvature)
    }

    /// Where the quadratic that touches the loss here is least.
    fn step(&self, weights: &[f64]) -> Vec<f64> {
        let (mut slope, curvature) = self.bend(weights);
        let mut step = vec![0.0; weights.len()];
        for _ in 0..INNER_ROUNDS {
            let mut moved = 0.0_f64;
            for at in 0..weights.len() {
                let free = step[at] - slope[at] / curvature[(at, at)];
                let bias = at == self.latents.len();
                let to = if bias { free } else { free.max(-weights[at]) };
                let by = to - step[at];
                if by != 0.0 {
                    step[at] = to;
                    let column = curvature.col(at);
                    slope.iter_mut().zip(column.iter()).for_each(|(s, c)| *s += by * c);
                    moved = moved.max(by.abs());
                }
            }
            if moved < INNER_STILL {
                break;
            }
        }
        step
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
        let images = Images::of(&codes, &label).expect("both kinds");
        let latents: Vec<usize> = rule.weights.iter().map(|(latent, _)| *latent).collect();
        let problem = Problem::of(&codes, &latents, &images, HOW.ridge);
        let parts = rule.weights.iter().zip(&problem.spreads);
        let mut weights: Vec<f64> = parts.map(|((_, weight), spread)| weight * spread).collect();
        weights.push(rule.bias);
        let (slope, _) = problem.bend(&weights);
        assert!(slope.iter().all(|slope| slope.abs() < 1e-6), "{slope:?}");
        // The latent that was left out would have to speak against the label.
        let all = Problem::of(&codes, &[0, 1, 2, 3], &images, HOW.ridge);
        let (slope, _) = all.bend(&[weights[0], 0.0, weights[1], 0.0, rule.bias]);
        assert!(slope[1] > 0.0, "{slope:?}");
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
