//! How a dictionary begins.

use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;

use crate::kernel::norm;
use crate::normalise::geometric_median;
use crate::recipe::{Recipe, Start};
use crate::train::Weights;

/// Share of a sample in a row that begins as one, by length; the rest is noise (Bricken et al.,
/// by way of saev).
const SAMPLE: f32 = 0.8;

/// Streams of random numbers, so that what one of them draws never shifts another.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    /// First weights.
    Weights,
    /// Order of the samples of an epoch.
    Order(u64),
    /// Samples that are made, not found.
    Samples,
    /// Labels that change places, in so many permutations.
    Labels(u64),
    /// Patients that are drawn with replacement, so many times.
    Patients(u64),
    /// Directions and subsets that a figure is held against.
    Control,
}

/// The random numbers of one stream.
#[must_use]
pub fn numbers(seed: u64, stream: Stream) -> Pcg64 {
    let purpose = match stream {
        Stream::Weights => 1 << 63,
        Stream::Samples => 1 << 62,
        Stream::Labels(number) => (1 << 61) | number,
        Stream::Patients(number) => (1 << 60) | number,
        Stream::Control => 1 << 59,
        Stream::Order(epoch) => epoch,
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[16..24].copy_from_slice(&purpose.to_le_bytes());
    Pcg64::from_seed(bytes)
}

/// The first weights of a run on normalised samples `[n, d]`.
#[must_use]
pub fn weights(recipe: &Recipe, samples: &[f32], d: usize) -> Weights {
    let mut random = numbers(recipe.seed, Stream::Weights);
    let mut weights = Weights::zeros(recipe.latents, d);
    weights.b_dec = geometric_median(samples, d);
    let layout = weights.layout();
    let median = weights.b_dec.clone();
    for latent in 0..recipe.latents {
        let mut row: Vec<f32> = (0..d).map(|_| StandardNormal.sample(&mut random)).collect();
        scale_to(&mut row, 1.0);
        if recipe.start == Start::Samples && !samples.is_empty() {
            let at = random.random_range(0..samples.len() / d);
            let mut sample: Vec<f32> =
                samples[at * d..][..d].iter().zip(&median).map(|(x, m)| x - m).collect();
            scale_to(&mut sample, SAMPLE);
            row.iter_mut().zip(&sample).for_each(|(row, x)| *row = (1.0 - SAMPLE) * *row + x);
            scale_to(&mut row, 1.0);
        }
        let record = weights.record_mut(latent);
        record[layout.w_dec()].copy_from_slice(&row);
        match recipe.start {
            Start::Tied | Start::Samples => record[layout.w_enc()].copy_from_slice(&row),
            Start::Untied => {
                #[expect(clippy::cast_precision_loss, reason = "dimensions of less than 2^24")]
                let d = d as f32;
                let (bound, bias) = ((6.0 / d).sqrt(), 1.0 / d.sqrt());
                for w in &mut record[layout.w_enc()] {
                    *w = random.random_range(-bound..bound);
                }
                record[layout.b_enc()] = random.random_range(-bias..bias);
            }
        }
    }
    weights
}

/// Brings a row to a length; one of length 0 stays.
fn scale_to(row: &mut [f32], length: f32) {
    let long = norm(row);
    if long > 0.0 {
        row.iter_mut().for_each(|w| *w *= length / long);
    }
}
