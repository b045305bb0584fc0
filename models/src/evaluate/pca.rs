//! Principal components: what any dictionary has to beat.

use faer::{Mat, Side};

/// Orthonormal directions of embeddings by falling variance, and how much each holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// `[d]`, of the images that it was made of.
    pub mean: Vec<f32>,
    /// `[d, d]`, one direction a row.
    pub directions: Vec<f32>,
    /// `[d]`, >= 0, falling.
    pub variances: Vec<f64>,
}

/// Rows that enter the product at once.
const ROWS: usize = 4096;

impl Pca {
    /// Of embeddings `[n, d]`; none where they are no numbers.
    #[must_use]
    pub fn of(embeddings: &[f32], d: usize) -> Option<Self> {
        let mean = super::reconstruct::mean(embeddings, d);
        let mut covariance = Mat::<f64>::zeros(d, d);
        for rows in embeddings.chunks(ROWS * d) {
            let centred = Mat::from_fn(rows.len() / d, d, |row, column| {
                f64::from(rows[row * d + column]) - f64::from(mean[column])
            });
            covariance += centred.transpose() * &centred;
        }
        let found = covariance.self_adjoint_eigen(Side::Lower).ok()?;
        let (vectors, values) = (found.U(), found.S().column_vector());
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 images")]
        let n = (embeddings.len() / d) as f64;
        let mut directions = Vec::with_capacity(d * d);
        let mut variances = Vec::with_capacity(d);
        // faer gives rising values.
        for column in (0..d).rev() {
            #[expect(clippy::cast_possible_truncation, reason = "embeddings are fp32")]
            directions.extend((0..d).map(|row| vectors[(row, column)] as f32));
            variances.push((values[column] / n).max(0.0));
        }
        Some(Self { mean, directions, variances })
    }

    /// One direction `[d]`, by falling variance.
    #[must_use]
    pub fn component(&self, at: usize) -> &[f32] {
        let d = self.mean.len();
        &self.directions[at * d..][..d]
    }

    /// Projections of embeddings on the first directions, `[n, count]`.
    #[must_use]
    pub fn project(&self, embeddings: &[f32], count: usize) -> Vec<f32> {
        let d = self.mean.len();
        let count = count.min(d);
        let mut centred = embeddings.to_vec();
        for row in centred.chunks_exact_mut(d) {
            row.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x -= mean);
        }
        project(&centred, d, &self.directions[..count * d])
    }

    /// Share of the variance of other embeddings that the first components leave, for each number
    /// of them from 0 to `d`.
    #[must_use]
    pub fn unexplained(&self, embeddings: &[f32]) -> Vec<f64> {
        let d = self.mean.len();
        let projected = self.project(embeddings, d);
        let mut held = vec![0.0_f64; d];
        for row in projected.chunks_exact(d) {
            held.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
        }
        let all: f64 = held.iter().sum();
        let mut left = vec![1.0];
        let mut sum = 0.0;
        for held in held {
            sum += held;
            left.push((1.0 - sum / all).max(0.0));
        }
        left
    }
}

/// Rows `[n, d]` on directions `[m, d]`: `[n, m]`.
#[must_use]
pub fn project(rows: &[f32], d: usize, directions: &[f32]) -> Vec<f32> {
    use crate::kernel::{Rows, product};
    let (x, w) = (Rows::dense(rows, d), Rows::dense(directions, d));
    let mut out = vec![0.0; x.count * w.count];
    product(&mut out, x, w);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_explain_the_variance_that_they_hold() {
        // Variances 4, 1 and 0 along the axes, around (1, 2, 3).
        let rows: Vec<f32> = [(2.0, 1.0), (2.0, -1.0), (-2.0, 1.0), (-2.0, -1.0)]
            .into_iter()
            .flat_map(|(x, y)| [1.0 + x, 2.0 + y, 3.0])
            .collect();
        let pca = Pca::of(&rows, 3).expect("numbers");
        for (found, expected) in pca.variances.iter().zip([4.0, 1.0, 0.0]) {
            assert!((found - expected).abs() < 1e-9);
        }
        for (found, expected) in pca.unexplained(&rows).iter().zip([1.0, 0.2, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
    }
}
