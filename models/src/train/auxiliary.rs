//! What brings latents back that no longer fire: an auxiliary loss, and re-seeding.

use rayon::prelude::*;

use super::adam::Moments;
use super::errors::{Asked, Errors};
use super::firings::{ByLatent, Firing, Part};
use super::gradients::Channel;
use super::select::SAMPLES;
use super::weights::Weights;
use crate::kernel::{Rows, add, dot, norm, product};

/// A re-seeded encoder row is this long, in mean lengths of the others' (Bricken et al. 2023).
const SEEDED: f32 = 0.2;

/// Lets dead latents reconstruct what the others leave over (Gao et al. 2024, appendix A.2).
///
/// The residual is a target only: nothing of this changes who fires. There is no decoder bias in
/// it, and pre-activations take part as they are, also below 0: a latent that never fires is below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Auxiliary<'a> {
    pub(super) weights: &'a Weights,
    pub(super) centred: &'a [f32],
    /// Dead latents, by rising index.
    pub(super) dead: &'a [u32],
    /// How many of them a sample takes, at most.
    pub(super) k: usize,
    /// Of the loss, where at least `k` are dead.
    pub(super) coefficient: f32,
}

impl Auxiliary<'_> {
    /// The loss and its channel; none where nobody is dead or nothing is left over.
    pub(super) fn channel(&self, main: &Errors, weight: f32) -> Option<(f64, Channel)> {
        if self.dead.is_empty() || self.coefficient <= 0.0 {
            return None;
        }
        // The derivative by the reconstruction is 2 weight (x_hat - x).
        let back = -0.5 / weight;
        let residual: Vec<f32> = main.whole().flatten().map(|error| error * back).collect();
        let variance = squares_about_mean(&residual, self.weights.d);
        if variance.is_nan() || variance <= 0.0 {
            return None;
        }
        let mut parts = self.select();
        let share = (count(self.dead.len()) / count(self.k)).min(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a factor like the others")]
        let weight = (f64::from(self.coefficient * share) / variance) as f32;
        let latents = self.weights.latents();
        let asked = Asked { ends: &[latents], weight };
        let errors = Errors::of(self.weights, &residual, &mut parts, asked);
        let firings = ByLatent::of(&parts, latents);
        Some((errors.squares, Channel { firings, errors, decoder: true }))
    }

    /// The `k` highest dead latents of each sample.
    fn select(&self) -> Vec<Part> {
        let (weights, d) = (self.weights, self.weights.d);
        let layout = weights.layout();
        let rows: Vec<f32> = self
            .dead
            .iter()
            .flat_map(|&latent| &weights.record(latent as usize)[layout.w_enc()])
            .copied()
            .collect();
        let bias: Vec<f32> = self
            .dead
            .iter()
            .map(|&latent| weights.record(latent as usize)[layout.b_enc()])
            .collect();
        let of_sample = |z: &[f32], part: &mut Part| {
            let firings = self.dead.iter().zip(z.iter().zip(&bias));
            let mut found: Vec<Firing> = firings
                .map(|(&latent, (&z, bias))| Firing { latent, value: z + bias, gain: 0.0, z })
                .collect();
            if found.len() > self.k {
                found.select_nth_unstable_by(self.k - 1, |a, b| {
                    b.value.total_cmp(&a.value).then_with(|| a.latent.cmp(&b.latent))
                });
                found.truncate(self.k);
                found.sort_unstable_by_key(|firing| firing.latent);
            }
            part.firings.append(&mut found);
            part.ends.push(part.firings.len());
        };
        self.centred
            .par_chunks(SAMPLES * d)
            .map(|samples| {
                let samples = Rows::dense(samples, d);
                let mut products = vec![0.0; samples.count * self.dead.len()];
                product(&mut products, samples, Rows::dense(&rows, d));
                let mut part = Part::default();
                products.chunks_exact(self.dead.len()).for_each(|z| of_sample(z, &mut part));
                part
            })
            .collect()
    }
}

/// Puts dead latents where the reconstruction is worst: the first one onto the worst sample, the
/// next onto the next, as far as there are samples; their moments begin anew.
///
/// Gives how many were.
pub(super) fn reseed(
    weights: &mut Weights,
    moments: &mut Moments,
    centred: &[f32],
    errors: &Errors,
    dead: &[u32],
) -> usize {
    let d = weights.d;
    let layout = weights.layout();
    let mut worst: Vec<(usize, f32)> =
        errors.whole().map(|error| dot(error, error)).enumerate().collect();
    worst.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut is_dead = vec![false; weights.latents()];
    dead.iter().for_each(|&latent| is_dead[latent as usize] = true);
    let alive: Vec<usize> = (0..weights.latents()).filter(|&latent| !is_dead[latent]).collect();
    let lengths = alive.iter().map(|&latent| norm(&weights.record(latent)[layout.w_enc()]));
    let length = if alive.is_empty() { 1.0 } else { lengths.sum::<f32>() / count(alive.len()) };
    let mut seeded = 0;
    for (&latent, (sample, _)) in dead.iter().zip(worst) {
        let x = &centred[sample * d..][..d];
        let long = norm(x);
        if long.is_nan() || long <= 0.0 {
            continue;
        }
        for of in [&mut moments.mean, &mut moments.square] {
            of.record_mut(latent as usize).fill(0.0);
        }
        let record = weights.record_mut(latent as usize);
        record.fill(0.0);
        add(&mut record[layout.w_enc()], SEEDED * length / long, x);
        add(&mut record[layout.w_dec()], 1.0 / long, x);
        seeded += 1;
    }
    seeded
}

/// Sum of squares of rows of `d` about their mean.
fn squares_about_mean(rows: &[f32], d: usize) -> f64 {
    let mut mean = vec![0.0_f32; d];
    let share = 1.0 / count(rows.len() / d);
    rows.chunks_exact(d).for_each(|row| add(&mut mean, share, row));
    let squares = |row: &[f32]| -> f32 {
        row.iter().zip(&mean).map(|(x, mean)| (x - mean) * (x - mean)).sum()
    };
    rows.chunks_exact(d).map(|row| f64::from(squares(row))).sum()
}

#[expect(clippy::cast_precision_loss, reason = "batches and dictionaries of less than 2^24")]
fn count(n: usize) -> f32 {
    n as f32
}
