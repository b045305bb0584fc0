//! How a dictionary begins.

use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use crate::kernel::{dot, norm};
use crate::normalise::geometric_median;
use crate::recipe::{Recipe, Start};
use crate::train::Weights;

/// Share of a sample in a row that begins as one, by length; the rest is noise (Bricken et al.,
/// by way of saev).
const SAMPLE: f32 = 0.8;

/// Samples that the first biases are found on, at most: with a share of 1 in 1,000, four of them are
/// above the floor.
const LOOKED_AT: usize = 4096;

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
    /// Images of a feature that are shown to somebody.
    Shown(u64),
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
        Stream::Shown(number) => (1 << 58) | number,
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
    if recipe.start_l0 > 0 {
        let asked = Asked { l0: recipe.start_l0, samples, d };
        asked.set_biases(&mut weights);
    }
    weights
}

/// Biases that let so many latents of a sample fire, each as often as any other.
struct Asked<'a> {
    l0: usize,
    samples: &'a [f32],
    d: usize,
}

impl Asked<'_> {
    fn set_biases(&self, weights: &mut Weights) {
        let (n, latents) = (self.samples.len() / self.d, weights.latents());
        let every = n.div_ceil(LOOKED_AT).max(1);
        let centred: Vec<f32> = (0..n)
            .step_by(every)
            .flat_map(|at| self.samples[at * self.d..][..self.d].iter().zip(&weights.b_dec))
            .map(|(x, b)| x - b)
            .collect();
        let looked_at = centred.len() / self.d;
        // The latent's share of the firings that are asked for: the highest of its products.
        let above = (looked_at * self.l0 / latents).min(looked_at.saturating_sub(1));
        let layout = weights.layout();
        let floors: Vec<f32> = (0..latents)
            .into_par_iter()
            .map(|latent| {
                let row = &weights.record(latent)[layout.w_enc()];
                let mut products: Vec<f32> =
                    centred.chunks_exact(self.d).map(|x| dot(x, row)).collect();
                if products.is_empty() {
                    return 0.0;
                }
                *products.select_nth_unstable_by(above, |a, b| b.total_cmp(a)).1
            })
            .collect();
        for (latent, floor) in floors.into_iter().enumerate() {
            weights.record_mut(latent)[layout.b_enc()] = -floor;
        }
    }
}

/// Brings a row to a length; one of length 0 stays.
fn scale_to(row: &mut [f32], length: f32) {
    let long = norm(row);
    if long > 0.0 {
        row.iter_mut().for_each(|w| *w *= length / long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn as_many_fire_at_first_as_are_asked_for() {
        let recipe: Recipe = toml::from_str(
            "latents = 400\nstart_l0 = 20\n[select]\nkind = 'standard'\nl1 = 1.0\nl1_warm_up = 0\n",
        )
        .expect("a recipe");
        let (n, d) = (2000, 24);
        let mut random = numbers(3, Stream::Samples);
        let samples: Vec<f32> = (0..n * d).map(|_| StandardNormal.sample(&mut random)).collect();
        let weights = weights(&recipe, &samples, d);
        let layout = weights.layout();
        let mut fired = vec![0_u32; recipe.latents];
        for sample in samples.chunks_exact(d) {
            let x: Vec<f32> = sample.iter().zip(&weights.b_dec).map(|(x, b)| x - b).collect();
            for (latent, fired) in fired.iter_mut().enumerate() {
                let record = weights.record(latent);
                *fired +=
                    u32::from(dot(&x, &record[layout.w_enc()]) + record[layout.b_enc()] > 0.0);
            }
        }
        // Each latent fires on 20 / 400 of the samples.
        assert!(fired.iter().all(|fired| *fired == 100), "{fired:?}");
    }
}
