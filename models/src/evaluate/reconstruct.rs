//! How much of the embeddings a dictionary explains, beside what other ways explain with as many
//! numbers.
//!
//! "Explained variance" is not one number: where the mean lies off the origin, forms that are not
//! centred call 0.975 what is 0.75. Here the variance is taken from the mean of the *training*
//! images, and both sums are finished before they are divided.

use clearfilm::bundle::Sae;
use serde::Serialize;

use crate::codes::Codes;
use crate::kernel::add;
use crate::measure::whole;

/// A dictionary's reconstruction of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reconstruction {
    /// Fraction of variance unexplained.
    pub fvu: f64,
    /// `1 - fvu`.
    pub explained: f64,
    /// MedSAE's: `1 - var(x - x_hat) / var(x)` with the variances summed over the values. It does
    /// not see a constant error.
    pub explained_medsae: f64,
    /// Mean cosine of a centred embedding and its centred reconstruction.
    pub cosine: f64,
    /// Mean length of a centred reconstruction over that of the embedding.
    pub length_ratio: f64,
    /// `E ||r||^2 / E <x, r>`: below 1 where the reconstruction shrinks (2404.16014, eq. 10).
    pub relative_bias: f64,
}

/// What a dictionary makes of the codes, `[n, d]`.
#[must_use]
pub fn reconstructions(sae: &Sae, codes: &Codes) -> Vec<f32> {
    let d = sae.b_dec.len();
    let mut out: Vec<f32> =
        std::iter::repeat_n(sae.b_dec.as_slice(), codes.samples).flatten().copied().collect();
    for latent in 0..codes.features() {
        let column = codes.column(latent);
        if !column.is_empty() {
            let row = sae.w_dec.row(latent);
            for value in column {
                add(&mut out[value.sample as usize * d..][..d], value.value, &row);
            }
        }
    }
    out
}

/// Figures of reconstructions `[n, d]` of embeddings `[n, d]`; `mean` `[d]` is the training images'.
#[must_use]
pub fn reconstruction(embeddings: &[f32], reconstructed: &[f32], mean: &[f32]) -> Reconstruction {
    let d = mean.len();
    let n = whole(embeddings.len() / d);
    let (mut error, mut variance, mut common, mut squares) = (0.0, 0.0, 0.0, 0.0);
    let (mut cosine, mut ratio) = (0.0, 0.0);
    let mut moments = [vec![0.0; d], vec![0.0; d], vec![0.0; d], vec![0.0; d]];
    for (x, r) in embeddings.chunks_exact(d).zip(reconstructed.chunks_exact(d)) {
        let (mut xx, mut rr, mut xr) = (0.0, 0.0, 0.0);
        for (at, ((x, r), mean)) in x.iter().zip(r).zip(mean).enumerate() {
            let rest = f64::from(*x) - f64::from(*r);
            let (x, r) = (f64::from(x - mean), f64::from(r - mean));
            error += rest * rest;
            (xx, rr, xr) = (xx + x * x, rr + r * r, xr + x * r);
            for (moment, value) in moments.iter_mut().zip([rest, rest * rest, x, x * x]) {
                moment[at] += value / n;
            }
        }
        (variance, squares, common) = (variance + xx, squares + rr, common + xr);
        if xx > 0.0 && rr > 0.0 {
            cosine += xr / (xx * rr).sqrt() / n;
        }
        if xx > 0.0 {
            ratio += (rr / xx).sqrt() / n;
        }
    }
    let spread = |first: &[f64], second: &[f64]| -> f64 {
        first.iter().zip(second).map(|(m, s)| s - m * m).sum()
    };
    let [rest, rest2, own, own2] = &moments;
    let fvu = error / variance;
    Reconstruction {
        fvu,
        explained: 1.0 - fvu,
        explained_medsae: 1.0 - spread(rest, rest2) / spread(own, own2),
        cosine,
        length_ratio: ratio,
        relative_bias: squares / common,
    }
}

/// The mean of rows `[n, d]`.
#[must_use]
pub fn mean(rows: &[f32], d: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f64; d];
    for row in rows.chunks_exact(d) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let n = whole(rows.len() / d);
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are fp32")]
    sum.iter().map(|sum| (sum / n) as f32).collect()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;
    use crate::start::{Stream, numbers};

    /// Samples around `offset`, and reconstructions that leave a quarter of their variance.
    fn quarter_left(offset: f32, spread: f32) -> (Vec<f32>, Vec<f32>) {
        let mut random = numbers(8, Stream::Samples);
        let mut normal = |_| -> f32 { StandardNormal.sample(&mut random) };
        let own: Vec<f32> = (0..64 * 2000).map(&mut normal).collect();
        let x: Vec<f32> = own.iter().map(|v| offset + spread * v).collect();
        let r = own.iter().map(|v| offset + spread * (v + 0.5 * normal(0)));
        let r = r.collect();
        (x, r)
    }

    #[test]
    fn explained_variance_knows_neither_offset_nor_scale() {
        for (offset, spread) in [(0.0, 1.0), (3.0, 1.0), (0.0, 30.0)] {
            let (x, r) = quarter_left(offset, spread);
            let found = reconstruction(&x, &r, &mean(&x, 64));
            assert!((found.fvu - 0.25).abs() < 0.01, "offset {offset}: FVU {}", found.fvu);
            // What is not centred would find 0.975 at the offset: that is the trap.
            let squares = |rows: &[f32]| rows.iter().map(|v| f64::from(v * v)).sum::<f64>();
            let rest: Vec<f32> = x.iter().zip(&r).map(|(x, r)| x - r).collect();
            let plain = 1.0 - squares(&rest) / squares(&x);
            assert_eq!(offset > 0.0, plain > 0.9, "offset {offset}: {plain}");
        }
    }

    #[test]
    fn a_constant_error_counts_though_medsae_does_not_see_it() {
        let (x, _) = quarter_left(0.0, 1.0);
        let shifted: Vec<f32> = x.iter().map(|v| v + 1.0).collect();
        let found = reconstruction(&x, &shifted, &mean(&x, 64));
        assert!((found.fvu - 1.0).abs() < 0.01, "{}", found.fvu);
        assert!(found.explained_medsae > 0.999, "{}", found.explained_medsae);
    }

    #[test]
    fn a_mean_of_other_images_makes_the_variance_larger() {
        let (x, r) = quarter_left(0.0, 1.0);
        let own = reconstruction(&x, &r, &mean(&x, 64)).fvu;
        let other = reconstruction(&x, &r, &[1.0; 64]).fvu;
        assert!((other - own / 2.0).abs() < 0.01, "{own} {other}");
    }
}
