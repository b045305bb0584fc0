//! Rounds rows of weights to int8 so that what they give stays, not each weight for itself.
//!
//! Weights are rounded one value of the input at a time; what a rounding moves is taken up by the
//! weights that are not rounded yet, by how the values of usual vectors go together (Frantar et al.,
//! GPTQ, arXiv 2210.17323, eq. 2-3). A dictionary's latents have thresholds: to the nearest, one
//! latent of a vector was switched on or off in nine vectors, in this way in eighteen.

use faer::linalg::solvers::Solve as _;
use faer::{Mat, Side};

use super::int8::MOST;
use crate::measure::whole;

/// Shares of the largest weight that a row's scale is tried at; what lies beyond is cut off.
const CLIPS: [f64; 11] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5];

/// Added to the values' own moments, as a share of their mean (the paper's 1 %).
const DAMPING: f64 = 0.01;

/// Vectors that enter the product at once.
const ROWS: usize = 4096;

/// How the values of usual vectors go together.
#[derive(Debug)]
pub struct Together {
    /// Mean square of each value.
    squares: Vec<f64>,
    /// Values by falling mean square: what matters most first, while most is left to make up with.
    order: Vec<usize>,
    /// Column `i` says how the values behind the `i`th take up what it lost.
    factor: Mat<f64>,
}

impl Together {
    /// Of vectors `[n, d]`; none where they are no numbers.
    #[must_use]
    pub fn of(vectors: &[f32], d: usize) -> Option<Self> {
        let mut moments = Mat::<f64>::zeros(d, d);
        for rows in vectors.chunks(ROWS * d) {
            let x = Mat::from_fn(rows.len() / d, d, |row, at| f64::from(rows[row * d + at]));
            moments += x.transpose() * &x;
        }
        let n = whole(vectors.len() / d);
        let squares: Vec<f64> = (0..d).map(|at| moments[(at, at)] / n).collect();
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|a, b| squares[*b].total_cmp(&squares[*a]).then(a.cmp(b)));
        let damping = DAMPING * squares.iter().sum::<f64>() / whole(d);
        let ordered = Mat::from_fn(d, d, |row, column| {
            let own = moments[(order[row], order[column])] / n;
            if row == column { own + damping } else { own }
        });
        let identity = Mat::from_fn(d, d, |row, column| if row == column { 1.0 } else { 0.0 });
        let inverse = ordered.llt(Side::Lower).ok()?.solve(&identity);
        let factor = inverse.llt(Side::Lower).ok()?.L().to_owned();
        Some(Self { squares, order, factor })
    }

    /// Integers and the scale of a row of weights.
    #[must_use]
    pub fn rounded(&self, weights: &[f32]) -> (Vec<i8>, f32) {
        let scale = self.scale(weights);
        let mut left: Vec<f64> = self.order.iter().map(|at| f64::from(weights[*at])).collect();
        let mut integers = vec![0; weights.len()];
        for (at, place) in self.order.iter().enumerate() {
            let q = nearest(left[at], f64::from(scale));
            let lost = (left[at] - q * f64::from(scale)) / self.factor[(at, at)];
            for (behind, left) in left.iter_mut().enumerate().skip(at + 1) {
                *left -= lost * self.factor[(behind, at)];
            }
            #[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
            let q = q as i8;
            integers[*place] = q;
        }
        (integers, scale)
    }

    /// Where the rounded weights are nearest, each by its value's mean square.
    fn scale(&self, weights: &[f32]) -> f32 {
        let most = weights.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
        // A row of zeros is 0 at any scale; a bundle wants scales above 0.
        let whole = if most > 0.0 { f64::from(most) / f64::from(MOST) } else { 1.0 };
        let off = |scale: f64| -> f64 {
            let each = weights.iter().map(|w| f64::from(*w)).zip(&self.squares);
            each.map(|(w, square)| square * (nearest(w, scale) * scale - w).powi(2)).sum()
        };
        let tried = CLIPS.map(|clip| (off(clip * whole), clip * whole));
        let best = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        #[expect(clippy::cast_possible_truncation, reason = "a bundle holds fp32")]
        let scale = best.map_or(whole, |(_, scale)| scale) as f32;
        scale
    }
}

/// The integer beside a weight.
fn nearest(weight: f64, scale: f64) -> f64 {
    (weight / scale).round().clamp(-f64::from(MOST), f64::from(MOST))
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;
    use crate::start::{Stream, numbers};

    /// Root mean square of what rounding moves in a row's products with vectors.
    fn moved(vectors: &[f32], weights: &[f32], integers: &[i8], scale: f32) -> f64 {
        let off = |row: &[f32]| -> f64 {
            let each = row.iter().zip(weights).zip(integers);
            each.map(|((x, w), q)| f64::from(*x) * f64::from(f32::from(*q) * scale - w)).sum()
        };
        let d = weights.len();
        let sum: f64 = vectors.chunks_exact(d).map(|row| off(row).powi(2)).sum();
        (sum / whole(vectors.len() / d)).sqrt()
    }

    #[test]
    fn what_goes_together_makes_up_for_rounding() {
        // Sixteen values that are mixtures of four, and a little of their own.
        let mut random = numbers(5, Stream::Control);
        let mut draw = || -> f32 { StandardNormal.sample(&mut random) };
        let mixture: Vec<f32> = (0..64).map(|_| draw()).collect();
        let mut vectors = Vec::new();
        for _ in 0..2000 {
            let parts = [draw(), draw(), draw(), draw()];
            for mixed in mixture.chunks_exact(4) {
                let sum: f32 = mixed.iter().zip(parts).map(|(m, p)| m * p).sum();
                vectors.push(sum + 0.05 * draw());
            }
        }
        let weights: Vec<f32> = (0..16).map(|_| draw()).collect();
        let together = Together::of(&vectors, 16).expect("numbers");
        let (integers, scale) = together.rounded(&weights);
        let plain: Vec<i8> = weights
            .iter()
            .map(|w| {
                #[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
                let q = nearest(f64::from(*w), f64::from(scale)) as i8;
                q
            })
            .collect();
        let [ours, nearest] =
            [&integers, &plain].map(|integers| moved(&vectors, &weights, integers, scale));
        assert!(ours < 0.5 * nearest, "{ours} {nearest}");
    }

    #[test]
    fn a_row_of_zeros_stays_one() {
        let together = Together::of(&[1.0, 2.0, 3.0, 4.0, 5.0, -6.0], 2).expect("numbers");
        assert_eq!(together.rounded(&[0.0, 0.0]), (vec![0, 0], 1.0));
    }
}
