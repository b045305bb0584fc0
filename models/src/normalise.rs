//! What is done to embeddings before a dictionary sees them, and what they are like.

use serde::{Deserialize, Serialize};

use crate::kernel::{add, dot};

/// Rounds of Weiszfeld's algorithm, at most; it is near after some ten.
const ROUNDS: usize = 100;

/// Samples that the geometric median is taken of, at most: its error is far below their spread.
pub const MEDIAN_SAMPLES: usize = 32_768;

/// A round that moves the median by less than this share of the samples' spread is the last.
const STILL: f64 = 1e-6;

/// `x' = (x - mean) * scale`, with `E ||x'||^2 = d` on the samples that it was made of
/// (MedSAE; Zaigrajew et al. 2025, 2502.20578).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normaliser {
    /// `[d]`.
    pub mean: Vec<f32>,
    /// Finite and > 0.
    pub scale: f32,
}

/// How far samples stand from the origin, and how unlike their dimensions are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Offset {
    /// Length of the mean over the root of the summed variances. Above 0.5 dictionaries trained
    /// on samples that are not centred lose most of their latents.
    pub gamma: f64,
    /// Largest share that one dimension has of the variance.
    pub largest_share: f64,
}

/// Samples that no normaliser can be made of.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NormaliseError {
    /// None at all, or not whole rows.
    #[error("samples: expected rows of {d} values, found {values} values")]
    Shape {
        /// Values of a row.
        d: usize,
        /// Values found.
        values: usize,
    },
    /// All are the same, or some are no numbers.
    #[error("samples: expected a finite spread above 0, found {0}")]
    Spread(f64),
}

impl Normaliser {
    /// Of samples `[n, d]`.
    ///
    /// # Errors
    /// They are none, all alike, or not finite.
    pub fn of(samples: &[f32], d: usize) -> Result<(Self, Offset), NormaliseError> {
        if samples.is_empty() || d == 0 || !samples.len().is_multiple_of(d) {
            return Err(NormaliseError::Shape { d, values: samples.len() });
        }
        let n = count(samples.len() / d);
        let mut mean = vec![0.0_f64; d];
        for row in samples.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x));
        }
        mean.iter_mut().for_each(|mean| *mean /= n);
        let mut variance = vec![0.0_f64; d];
        for row in samples.chunks_exact(d) {
            for ((variance, x), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *variance += (f64::from(*x) - mean).powi(2) / n;
            }
        }
        let spread: f64 = variance.iter().sum();
        if !spread.is_finite() || spread <= 0.0 {
            return Err(NormaliseError::Spread(spread));
        }
        let offset = Offset {
            gamma: (mean.iter().map(|m| m * m).sum::<f64>() / spread).sqrt(),
            largest_share: variance.iter().fold(0.0, |most: f64, v| most.max(v / spread)),
        };
        #[expect(clippy::cast_possible_truncation, reason = "training computes in fp32")]
        let normaliser = Self {
            mean: mean.iter().map(|m| *m as f32).collect(),
            scale: (count(d) / spread).sqrt() as f32,
        };
        Ok((normaliser, offset))
    }

    /// Normalises samples `[n, d]` where they are.
    pub fn apply(&self, samples: &mut [f32]) {
        for row in samples.chunks_exact_mut(self.mean.len()) {
            row.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x = (*x - mean) * self.scale);
        }
    }
}

/// The point with the smallest sum of distances to the samples `[n, d]` (Weiszfeld 1937), by the
/// first [`MEDIAN_SAMPLES`] of them.
#[must_use]
pub fn geometric_median(samples: &[f32], d: usize) -> Vec<f32> {
    let samples = &samples[..samples.len().min(MEDIAN_SAMPLES * d)];
    let n = count(samples.len() / d);
    let mut median = vec![0.0_f32; d];
    #[expect(clippy::cast_possible_truncation, reason = "a share of at most 1")]
    samples.chunks_exact(d).for_each(|row| add(&mut median, (1.0 / n) as f32, row));
    for _ in 0..ROUNDS {
        let (mut sum, mut weight, mut distances) = (vec![0.0_f64; d], 0.0, 0.0);
        for row in samples.chunks_exact(d) {
            let apart: Vec<f32> = row.iter().zip(&median).map(|(x, m)| x - m).collect();
            // A sample on the median would pull with infinite force.
            let distance = f64::from(dot(&apart, &apart)).sqrt().max(1e-12);
            distances += distance;
            weight += 1.0 / distance;
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / distance);
        }
        let mut moved = 0.0;
        for (median, sum) in median.iter_mut().zip(&sum) {
            #[expect(clippy::cast_possible_truncation, reason = "training computes in fp32")]
            let next = (sum / weight) as f32;
            moved += f64::from(next - *median).powi(2);
            *median = next;
        }
        if moved.sqrt() <= STILL * distances / n {
            break;
        }
    }
    median
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 values")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_samples_have_no_mean_and_a_squared_length_of_d() {
        let mut samples = vec![1.0, 10.0, 3.0, 10.0, 5.0, 13.0, 7.0, 7.0];
        let (normaliser, offset) = Normaliser::of(&samples, 2).expect("of samples");
        normaliser.apply(&mut samples);
        let squares: f32 = samples.iter().map(|x| x * x).sum();
        assert!((squares / 4.0 - 2.0).abs() < 1e-5);
        let mean: f32 = samples.chunks_exact(2).map(|row| row[0]).sum();
        assert!(mean.abs() < 1e-5);
        // Mean (4, 10), variances 5 and 4.5.
        assert!((offset.gamma - (116.0_f64 / 9.5).sqrt()).abs() < 1e-9);
        assert!((offset.largest_share - 5.0 / 9.5).abs() < 1e-9);
    }

    #[test]
    fn samples_without_a_spread_are_refused() {
        assert!(matches!(Normaliser::of(&[1.0, 2.0, 1.0, 2.0], 2), Err(NormaliseError::Spread(_))));
        assert!(matches!(
            Normaliser::of(&[1.0, f32::NAN, 3.0, 2.0], 2),
            Err(NormaliseError::Spread(_))
        ));
        assert!(matches!(Normaliser::of(&[1.0], 2), Err(NormaliseError::Shape { .. })));
    }

    #[test]
    fn one_far_sample_moves_the_mean_and_not_the_median() {
        let mut samples: Vec<f32> = Vec::new();
        for (x, y) in [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0), (1000.0, 0.0)] {
            samples.extend([x, y]);
        }
        let median = geometric_median(&samples, 2);
        assert!(median[0].abs() < 1.1 && median[1].abs() < 1e-3, "{median:?}");
    }
}
