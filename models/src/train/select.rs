//! From samples to firings: the encoder's product, and who of it is selected.

use std::cell::RefCell;

use rayon::prelude::*;

use super::firings::{Firing, Part};
use super::weights::Weights;
use crate::kernel::{Rows, any_above, product};
use crate::recipe::Kind;

/// Samples of one task. Below 256 the weights are packed too often for the product's speed, and
/// the products of 512 samples with 16,384 latents are 32 MiB.
pub(super) const SAMPLES: usize = 512;

/// Latents that are looked at together for one above the floor.
const BLOCK: usize = 64;

/// Samples that a batch's floor is guessed from: a 64th of a batch of 4,096.
const PROBED: usize = 64;

/// A sample's candidates are cut down to `k` when they are this many times as many.
const CANDIDATES: usize = 4;

thread_local! {
    /// The products of one task; as large as the largest so far.
    static PRODUCTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The biases that selection needs, each `[latents]`.
struct Biases {
    b_enc: Vec<f32>,
    r_mag: Vec<f32>,
    b_mag: Vec<f32>,
}

/// Who fires, by a rule that stands outside of training.
#[derive(Debug, Clone, Copy)]
pub enum Selection<'a> {
    /// As in training, without annealing.
    Trained(&'a Kind),
    /// The `k` largest of a sample, in the mean over all that are looked at together.
    Batch {
        /// Active latents of a sample.
        k: usize,
    },
    /// Everything above its own threshold, `[latents]`: what a device does.
    Above {
        /// Is there a gate, with a magnitude of its own?
        gated: bool,
        /// In normalised units.
        thresholds: &'a [f32],
    },
}

impl Selection<'_> {
    /// Who fires on which of the normalised samples `[n, d]`.
    #[must_use]
    pub fn of(&self, weights: &Weights, samples: &[f32]) -> Vec<Part> {
        let mut centred = samples.to_vec();
        for sample in centred.chunks_exact_mut(weights.d) {
            sample.iter_mut().zip(&weights.b_dec).for_each(|(x, b)| *x -= b);
        }
        match *self {
            Self::Trained(kind) => {
                let k = kind.k().unwrap_or(0);
                select(weights, &centred, kind, k)
            }
            Self::Batch { k } => select(weights, &centred, &Kind::BatchTopK { k }, k),
            Self::Above { gated, thresholds } => {
                let layout = weights.layout();
                let bias = weights.column(if gated { layout.b_mag() } else { layout.b_enc() });
                let longer = weights.column(layout.r_mag());
                each(weights, &centred, |z, part, _| {
                    for (latent, (&z, bias)) in (0_u32..).zip(z.iter().zip(&bias)) {
                        let at = latent as usize;
                        let value = if gated { longer[at].exp() * z } else { z } + bias;
                        if value > thresholds[at] {
                            part.firings.push(Firing { latent, value, gain: 0.0, z });
                        }
                    }
                })
            }
        }
    }
}

/// Who fires on which of the centred samples `[batch, d]`, in parts of [`SAMPLES`].
#[must_use]
pub(super) fn select(weights: &Weights, centred: &[f32], kind: &Kind, k: usize) -> Vec<Part> {
    let layout = weights.layout();
    let gated = matches!(kind, Kind::Gated { .. });
    let column = |at| if gated { weights.column(at) } else { Vec::new() };
    let biases = Biases {
        b_enc: weights.column(layout.b_enc()),
        r_mag: column(layout.r_mag()),
        b_mag: column(layout.b_mag()),
    };
    match kind {
        Kind::TopK { .. } => each(weights, centred, |z, part, found| {
            largest(z, &biases.b_enc, k, found);
            found.sort_unstable_by_key(|firing| firing.latent);
            part.firings.append(found);
        }),
        Kind::BatchTopK { .. } | Kind::MatryoshkaBatchTopK { .. } => {
            largest_of_batch(weights, centred, &biases, k)
        }
        Kind::Standard { .. } => {
            each(weights, centred, |z, part, _| above(z, &biases.b_enc, 0.0, &mut part.firings))
        }
        Kind::Gated { .. } => {
            each(weights, centred, |z, part, _| gates(z, &biases, &mut part.firings))
        }
    }
}

/// Gives each sample's products to `take`, which appends its firings to the part.
fn each(
    weights: &Weights,
    centred: &[f32],
    take: impl Fn(&[f32], &mut Part, &mut Vec<Firing>) + Sync,
) -> Vec<Part> {
    centred.par_chunks(SAMPLES * weights.d).map(|samples| one(weights, samples, &take)).collect()
}

fn one(
    weights: &Weights,
    samples: &[f32],
    take: &(impl Fn(&[f32], &mut Part, &mut Vec<Firing>) + Sync),
) -> Part {
    let (x, latents) = (Rows::dense(samples, weights.d), weights.latents());
    PRODUCTS.with_borrow_mut(|products| {
        let needed = x.count * latents;
        if products.len() < needed {
            products.resize(needed, 0.0);
        }
        let products = &mut products[..needed];
        product(products, x, weights.encoder());
        let (mut part, mut found) = (Part::default(), Vec::new());
        for z in products.chunks_exact(latents) {
            take(z, &mut part, &mut found);
            part.ends.push(part.firings.len());
        }
        part
    })
}

/// Every latent above the floor, by rising index.
fn above(z: &[f32], bias: &[f32], floor: f32, found: &mut Vec<Firing>) {
    for (begin, (z, bias)) in (0..).step_by(BLOCK).zip(z.chunks(BLOCK).zip(bias.chunks(BLOCK))) {
        if any_above(z, bias, floor) {
            push_above(z, bias, floor, begin, found);
        }
    }
}

/// The `k` latents that stand highest above 0, the lower index first where two are alike.
fn largest(z: &[f32], bias: &[f32], k: usize, found: &mut Vec<Firing>) {
    found.clear();
    let mut floor = 0.0;
    for (begin, (z, bias)) in (0..).step_by(BLOCK).zip(z.chunks(BLOCK).zip(bias.chunks(BLOCK))) {
        if any_above(z, bias, floor) {
            push_above(z, bias, floor, begin, found);
            if found.len() >= CANDIDATES * k {
                floor = cut(found, k);
            }
        }
    }
    if found.len() > k {
        cut(found, k);
    }
}

fn push_above(z: &[f32], bias: &[f32], floor: f32, begin: u32, found: &mut Vec<Firing>) {
    for (latent, (&z, bias)) in (begin..).zip(z.iter().zip(bias)) {
        let value = z + bias;
        if value > floor {
            found.push(Firing { latent, value, gain: 0.0, z });
        }
    }
}

/// Leaves the `k` largest; gives the smallest of them.
fn cut(found: &mut Vec<Firing>, k: usize) -> f32 {
    let order =
        |a: &Firing, b: &Firing| b.value.total_cmp(&a.value).then_with(|| a.latent.cmp(&b.latent));
    let (_, smallest, _) = found.select_nth_unstable_by(k - 1, order);
    let floor = smallest.value;
    found.truncate(k);
    floor
}

/// The `k * samples` largest of the whole batch.
fn largest_of_batch(weights: &Weights, centred: &[f32], biases: &Biases, k: usize) -> Vec<Part> {
    let samples = centred.len() / weights.d;
    let from = |centred: &[f32], floor: f32| {
        each(weights, centred, |z, part, _| above(z, &biases.b_enc, floor, &mut part.firings))
    };
    // What twice as many of a few samples reach, the others need not look below, mostly.
    let few = samples.min(PROBED);
    let probe = from(&centred[..few * weights.d], 0.0);
    let guess = nth_largest(&probe, 2 * k * few).map_or(0.0, |(floor, _)| floor);
    let mut parts = from(centred, guess);
    if guess > 0.0 && parts.iter().map(|part| part.firings.len()).sum::<usize>() < k * samples {
        parts = from(centred, 0.0);
    }
    keep_largest(&mut parts, k * samples);
    parts
}

/// The `n`-th largest value of all firings, and how many are larger; none where there are fewer.
fn nth_largest(parts: &[Part], n: usize) -> Option<(f32, usize)> {
    let mut values: Vec<f32> =
        parts.iter().flat_map(|part| &part.firings).map(|firing| firing.value).collect();
    if values.len() < n {
        return None;
    }
    let (_, nth, _) = values.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
    let nth = *nth;
    Some((nth, values.iter().filter(|value| **value > nth).count()))
}

/// Leaves the largest firings of a batch; of those alike the first ones.
fn keep_largest(parts: &mut [Part], wanted: usize) {
    let Some((floor, larger)) = nth_largest(parts, wanted) else { return };
    let mut alike = wanted - larger;
    for part in parts {
        let mut kept = Vec::with_capacity(part.firings.len());
        let mut ends = Vec::with_capacity(part.ends.len());
        for sample in part.samples() {
            for firing in sample {
                let at_floor = firing.value.total_cmp(&floor).is_eq();
                if firing.value > floor || (at_floor && alike > 0) {
                    alike -= usize::from(at_floor);
                    kept.push(*firing);
                }
            }
            ends.push(kept.len());
        }
        *part = Part { ends, firings: kept };
    }
}

/// Latents whose gate is open, with what their magnitude gives: 0 where that is closed.
fn gates(z: &[f32], biases: &Biases, found: &mut Vec<Firing>) {
    for (latent, (&z, b_gate)) in (0_u32..).zip(z.iter().zip(&biases.b_enc)) {
        if z + b_gate > 0.0 {
            let at = latent as usize;
            let value = (biases.r_mag[at].exp() * z + biases.b_mag[at]).max(0.0);
            found.push(Firing { latent, value, gain: 0.0, z });
        }
    }
}
