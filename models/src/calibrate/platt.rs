//! From a score to a probability.
//!
//! Platt's two numbers (Platt 1999), because a finding here has tens of positive images: an
//! isotonic step function of so few would be steps of single patients.

use crate::measure::whole;

/// `probability = 1 / (1 + exp(-(a * score + b)))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Platt {
    /// Slope, above 0.
    pub a: f64,
    /// Offset.
    pub b: f64,
}

/// Rounds of Newton's method, and the movement that ends them.
const ROUNDS: usize = 100;
const STILL: f64 = 1e-10;

impl Platt {
    /// Maximum likelihood on Platt's smoothed targets, `(n1 + 1) / (n1 + 2)` and `1 / (n0 + 2)`,
    /// which keep the slope finite where both kinds are apart.
    ///
    /// None with one kind only, with scores that are all alike, or where a higher score makes the
    /// label less likely.
    #[must_use]
    pub fn fit(scores: &[f64], label: &[Option<bool>]) -> Option<Self> {
        let known: Vec<(f64, bool)> = scores
            .iter()
            .zip(label)
            .filter_map(|(score, known)| Some((*score, (*known)?)))
            .collect();
        let positives = known.iter().filter(|(_, positive)| *positive).count();
        let negatives = known.len() - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        let targets = [1.0 / whole(negatives + 2), whole(positives + 1) / whole(positives + 2)];
        let (mean, deviation) = moments(&known)?;
        let rows: Vec<(f64, f64)> = (known.iter())
            .map(|(score, positive)| ((score - mean) / deviation, targets[usize::from(*positive)]))
            .collect();
        let mut found = [0.0, (whole(positives) / whole(negatives)).ln()];
        for _ in 0..ROUNDS {
            let step = newton(&rows, found)?;
            // Half steps until the loss falls, so that certain images cannot throw it far off.
            let before = loss(&rows, found);
            let mut share = 1.0;
            let mut next = found;
            for _ in 0..60 {
                next = [found[0] - share * step[0], found[1] - share * step[1]];
                if loss(&rows, next) <= before {
                    break;
                }
                share /= 2.0;
            }
            found = next;
            if step.iter().all(|by| by.abs() < STILL) {
                break;
            }
        }
        let a = found[0] / deviation;
        (a > 0.0).then(|| Self { a, b: found[1] - a * mean })
    }

    /// Of a score, 0..=1.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.a * score + self.b)).exp())
    }
}

fn moments(known: &[(f64, bool)]) -> Option<(f64, f64)> {
    let n = whole(known.len());
    let mean = known.iter().map(|(score, _)| score).sum::<f64>() / n;
    let variance = known.iter().map(|(score, _)| (score - mean).powi(2)).sum::<f64>() / n;
    (variance > 1e-24).then(|| (mean, variance.sqrt()))
}

/// Summed cross-entropy, in the form that no large score overflows.
fn loss(rows: &[(f64, f64)], [a, b]: [f64; 2]) -> f64 {
    let of = |(x, target): &(f64, f64)| {
        let z = a * x + b;
        z.max(0.0) - z * target + (-z.abs()).exp().ln_1p()
    };
    rows.iter().map(of).sum()
}

/// Where Newton's method goes from here; none where the loss is flat.
fn newton(rows: &[(f64, f64)], [a, b]: [f64; 2]) -> Option<[f64; 2]> {
    let (mut slope, mut bend) = ([0.0; 2], [0.0; 3]);
    for (x, target) in rows {
        let p = 1.0 / (1.0 + (-(a * x + b)).exp());
        let (by, weight) = (p - target, p * (1.0 - p));
        slope = [slope[0] + by * x, slope[1] + by];
        bend = [bend[0] + weight * x * x, bend[1] + weight * x, bend[2] + weight];
    }
    let determinant = bend[0] * bend[2] - bend[1] * bend[1];
    (determinant > 1e-18).then(|| {
        [
            (bend[2] * slope[0] - bend[1] * slope[1]) / determinant,
            (bend[0] * slope[1] - bend[1] * slope[0]) / determinant,
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_images_give_the_odds_that_they_were_drawn_with() {
        // At each score s of 0..4, 1000 images, of which sigmoid(0.8 s - 2) are positive.
        let (mut scores, mut label) = (Vec::new(), Vec::new());
        for s in 0..5_u32 {
            let share = 1.0 / (1.0 + (-(0.8 * f64::from(s) - 2.0)).exp());
            for image in 0..1000 {
                scores.push(f64::from(s));
                label.push(Some(f64::from(image) < 1000.0 * share));
            }
        }
        let found = Platt::fit(&scores, &label).expect("both kinds");
        assert!((found.a - 0.8).abs() < 0.01 && (found.b + 2.0).abs() < 0.02, "{found:?}");
        assert!((found.probability(2.5) - 0.5).abs() < 0.01);
    }

    #[test]
    fn kinds_that_are_apart_are_not_called_certain() {
        let scores: Vec<f64> = (0..40).map(f64::from).collect();
        let label: Vec<Option<bool>> = (0..40).map(|i| Some(i >= 30)).collect();
        let found = Platt::fit(&scores, &label).expect("both kinds");
        let highest = found.probability(39.0);
        // Ten positives: no more than eleven of twelve, a little more where others lie lower.
        assert!(highest > 0.85 && highest < 0.95, "{highest}");
    }

    #[test]
    fn a_score_that_speaks_against_its_label_is_refused() {
        let label = [Some(true), Some(true), None, Some(false), Some(false), Some(true)];
        assert_eq!(Platt::fit(&[0.0, 1.0, 9.0, 4.0, 5.0, 2.0], &label), None);
        assert_eq!(Platt::fit(&[1.0; 6], &label), None);
        assert_eq!(Platt::fit(&[1.0, 2.0], &[Some(true), None]), None);
    }
}
