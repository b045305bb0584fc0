//! What brings latents back that no longer fire: an auxiliary loss, and re-seeding.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::adam::Moments;
use super::dense::{Dense, Parts};
use super::errors::{Asked, Errors};
use super::firings::{ByLatent, Firing, Part};
use super::gradients::Channel;
use super::select::SAMPLES;
use super::weights::Weights;
use crate::kernel::{Rows, add, dot, norm, product};

/// A re-seeded encoder row is this long, in mean lengths of the others' (Bricken et al. 2023).
const SEEDED: f32 = 0.2;

/// Products are faster than firings where at least one of so many dead latents takes part: a firing
/// reads rows of 2 KiB from afar, for the same arithmetic.
const DENSE: usize = 4;

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

/// What dead latents learn from.
#[derive(Debug)]
pub(super) enum Lesson {
    /// Firings, where few of many dead latents take part in a sample.
    Sparse(Channel),
    /// Products, where most do.
    Dense(Dense),
}

impl Lesson {
    /// The firings, if there are any.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Sparse(channel) => Some(channel),
            Self::Dense(_) => None,
        }
    }

    /// The products, if there are any.
    pub(super) fn dense(&self) -> Option<&Dense> {
        match self {
            Self::Sparse(_) => None,
            Self::Dense(dense) => Some(dense),
        }
    }
}

impl Auxiliary<'_> {
    /// The loss and what is learnt; none where nobody is dead or nothing is left over.
    pub(super) fn lesson(&self, main: &Errors, weight: f32) -> Option<(f64, Lesson)> {
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
        let share = (count(self.dead.len()) / count(self.k)).min(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a factor like the others")]
        let weight = (f64::from(self.coefficient * share) / variance) as f32;
        if self.k * DENSE >= self.dead.len() {
            let decoder: Vec<f32> = self
                .dead
                .iter()
                .flat_map(|&latent| self.weights.w_dec(latent as usize))
                .copied()
                .collect();
            let parts =
                Parts { centred: self.centred, residual: &residual, decoder: &decoder, weight };
            let dense = Dense::of(self.dead, &self.activations(), parts);
            return Some((dense.squares, Lesson::Dense(dense)));
        }
        let mut parts = self.select();
        let latents = self.weights.latents();
        let asked = Asked { ends: &[latents], weight };
        let errors = Errors::of(self.weights, &residual, &mut parts, asked, Vec::new());
        let firings = ByLatent::of(&parts, latents);
        Some((errors.squares, Lesson::Sparse(Channel { firings, errors, decoder: true })))
    }

    /// The `k` highest dead latents of each sample.
    fn select(&self) -> Vec<Part> {
        let one = |pre: &[f32], z: &[f32], part: &mut Part| {
            let floor = self.floor(pre);
            let firings = self.dead.iter().zip(pre.iter().zip(z)).enumerate();
            let taken = firings.filter(|(at, (_, (value, _)))| floor.takes(*at, **value));
            part.firings.extend(taken.map(|(_, (&latent, (&value, &z)))| Firing {
                latent,
                value,
                gain: 0.0,
                z,
            }));
            part.ends.push(part.firings.len());
        };
        self.part_by_part(|products, bias| {
            let (mut part, mut pre) = (Part::default(), vec![0.0; bias.len()]);
            for z in products.chunks_exact(bias.len()) {
                pre.iter_mut().zip(z.iter().zip(bias)).for_each(|(pre, (z, bias))| *pre = z + bias);
                one(&pre, z, &mut part);
            }
            part
        })
    }

    /// Pre-activations `[batch, dead]` of those that take part; 0 of the others.
    fn activations(&self) -> Vec<f32> {
        let parts = self.part_by_part(|mut products, bias| {
            for pre in products.chunks_exact_mut(bias.len()) {
                pre.iter_mut().zip(bias).for_each(|(pre, bias)| *pre += bias);
                let floor = self.floor(pre);
                for (at, pre) in pre.iter_mut().enumerate() {
                    // Who takes part with exactly 0 must be told from who does not.
                    let value = if *pre == 0.0 { f32::MIN_POSITIVE } else { *pre };
                    *pre = if floor.takes(at, *pre) { value } else { 0.0 };
                }
            }
            products
        });
        parts.concat()
    }

    /// Gives the products `[samples, dead]` of each part, and the biases, to `take`.
    fn part_by_part<T: Send>(&self, take: impl Fn(Vec<f32>, &[f32]) -> T + Sync) -> Vec<T> {
        let (weights, d) = (self.weights, self.weights.d);
        let layout = weights.layout();
        let record = |latent: &u32| weights.record(*latent as usize);
        let rows: Vec<f32> =
            self.dead.iter().flat_map(|latent| &record(latent)[layout.w_enc()]).copied().collect();
        let bias: Vec<f32> =
            self.dead.iter().map(|latent| record(latent)[layout.b_enc()]).collect();
        let one = |samples| {
            let samples = Rows::dense(samples, d);
            let mut products = vec![0.0; samples.count * self.dead.len()];
            product(&mut products, samples, Rows::dense(&rows, d));
            take(products, &bias)
        };
        self.centred.par_chunks(SAMPLES * d).map(one).collect()
    }

    /// What the `k` highest of these reach.
    fn floor(&self, pre: &[f32]) -> Reach {
        if pre.len() <= self.k {
            return Reach { value: f32::NEG_INFINITY, last: pre.len() };
        }
        let mut sorted: Vec<(usize, f32)> = pre.iter().copied().enumerate().collect();
        let (_, (last, value), _) = sorted.select_nth_unstable_by(self.k - 1, |a, b| {
            b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))
        });
        Reach { value: *value, last: *last }
    }
}

/// The lowest that is taken; of those alike, the ones up to `last`.
#[derive(Debug, Clone, Copy)]
struct Reach {
    value: f32,
    last: usize,
}

impl Reach {
    fn takes(self, at: usize, value: f32) -> bool {
        match value.total_cmp(&self.value) {
            Ordering::Greater => true,
            Ordering::Equal => at <= self.last,
            Ordering::Less => false,
        }
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
