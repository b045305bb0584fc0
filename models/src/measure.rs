//! What a dictionary does to samples: how much it explains, how many latents it takes, who never
//! fires.

use serde::Serialize;

use crate::kernel::add;
use crate::train::{Selection, Weights};

/// Samples that are measured at once; a selection over a batch sees so many.
const BATCH: usize = 4096;

/// A dictionary's figures on some samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Fraction of variance unexplained: squared error over the squared distance from the mean of
    /// the *training* samples, both summed over all samples before they are divided.
    pub fvu: f64,
    /// Active latents of a sample, in the mean.
    pub l0: f64,
    /// The same as a share of the latents (MedSAE's "L0 rate").
    pub l0_rate: f64,
    /// Share of the latents that never fire on these samples.
    pub dead: f64,
    /// Share that fires on fewer than one of 10,000, dead ones included.
    pub rare: f64,
    /// Share that fires on more than one of 10.
    pub dense: f64,
    /// Samples.
    pub samples: usize,
}

/// Below this frequency a latent is rare.
pub const RARE: f64 = 1e-4;
/// Above this one it is dense.
pub const DENSE: f64 = 0.1;

/// Measures on normalised samples `[n, d]`, whose training mean is 0.
#[must_use]
pub fn measure(weights: &Weights, selection: &Selection<'_>, samples: &[f32]) -> Measured {
    let d = weights.d;
    let (mut error, mut variance) = (0.0_f64, 0.0_f64);
    let mut fired = vec![0_u64; weights.latents()];
    for batch in samples.chunks(BATCH * d) {
        let mut rows = batch.chunks_exact(d);
        for part in selection.of(weights, batch) {
            for (firings, x) in part.samples().zip(&mut rows) {
                let mut rest = x.to_vec();
                add(&mut rest, -1.0, &weights.b_dec);
                for firing in firings {
                    add(&mut rest, -firing.value, weights.w_dec(firing.latent as usize));
                }
                for firing in firings.iter().filter(|firing| firing.value > 0.0) {
                    fired[firing.latent as usize] += 1;
                }
                error += squares(&rest);
                variance += squares(x);
            }
        }
    }
    let n = samples.len() / d;
    let latents = whole(weights.latents());
    let share = |is: &dyn Fn(f64) -> bool| {
        whole(fired.iter().filter(|times| is(**times as f64 / whole(n))).count()) / latents
    };
    let l0 = fired.iter().sum::<u64>() as f64 / whole(n);
    Measured {
        fvu: error / variance,
        l0,
        l0_rate: l0 / latents,
        dead: share(&|rate| rate <= 0.0),
        rare: share(&|rate| rate < RARE),
        dense: share(&|rate| rate > DENSE),
        samples: n,
    }
}

fn squares(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

/// A number of things as fp64, exact below 2^52.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 things")]
pub(crate) fn whole(n: usize) -> f64 {
    n as f64
}
