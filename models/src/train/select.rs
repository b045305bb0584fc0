//! From samples to firings: the encoder's product, and who of it is selected.

use std::cell::RefCell;

use rayon::prelude::*;

use super::firings::{Firing, Part};
use super::weights::Weights;
use crate::kernel::bf16::{Panels, Scan, fetch};
use crate::kernel::{AHEAD, Floor, Reached, Rows, any_above, dot, product};
use crate::recipe::Kind;

/// Samples of one task. Below 256 the weights are packed too often for the product's speed, and
/// the products of 512 samples with 16,384 latents are 32 MiB.
pub(super) const SAMPLES: usize = 512;

/// Latents that are looked at together for one above the floor.
const BLOCK: usize = 64;

/// Samples that a batch's floor is guessed from: a 64th of a batch of 4,096.
const PROBED: usize = 64;

/// What they reach so many times `k` strong, the batch mostly reaches `k` strong; the second guess
/// is for a batch that does not.
const GUESSES: [f32; 2] = [1.25, 3.0];

/// A scan in bf16 pays where at most one latent of so many fires.
const SPARSE: usize = 8;

/// A sample's candidates are cut down to `k` when they are this many times as many.
const CANDIDATES: usize = 4;

thread_local! {
    /// The products of one task; as large as the largest so far.
    static PRODUCTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };

    /// The state of one task's scan.
    static SCAN: RefCell<Scan> = RefCell::default();
}

/// The biases of a gated dictionary, each `[latents]`.
struct Biases<'a> {
    b_enc: &'a [f32],
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
    /// Who fires on which of the normalised samples `[n, d]`, by products in fp32.
    #[must_use]
    pub fn of(&self, weights: &Weights, samples: &[f32]) -> Vec<Part> {
        let mut centred = samples.to_vec();
        for sample in centred.chunks_exact_mut(weights.d) {
            sample.iter_mut().zip(&weights.b_dec).for_each(|(x, b)| *x -= b);
        }
        match *self {
            Self::Trained(kind) => {
                let k = kind.k().unwrap_or(0);
                select(weights, &centred, kind, k, None).0
            }
            Self::Batch { k } => select(weights, &centred, &Kind::BatchTopK { k }, k, None).0,
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

/// Who fires on which of the centred samples `[batch, d]`, in parts of [`SAMPLES`], and on how many
/// of them bf16 could not tell who may. With room for panels, bf16 looks first who may.
#[must_use]
pub(super) fn select(
    weights: &Weights,
    centred: &[f32],
    kind: &Kind,
    k: usize,
    panels: Option<&mut Panels>,
) -> (Vec<Part>, usize) {
    let layout = weights.layout();
    let b_enc = weights.column(layout.b_enc());
    let encoder = Encoder { weights, b_enc: &b_enc, panels: None };
    let with_panels = || {
        let panels = panels.filter(|_| k * SPARSE <= weights.latents());
        let panels =
            panels.and_then(|panels| panels.pack(weights.encoder(), &b_enc).then_some(&*panels));
        Encoder { panels, ..encoder }
    };
    match kind {
        Kind::TopK { .. } => with_panels().largest(centred, k),
        Kind::BatchTopK { .. } | Kind::MatryoshkaBatchTopK { .. } => {
            with_panels().largest_of_batch(centred, k)
        }
        Kind::Standard { .. } => encoder.above(centred, (0.0, 0)),
        Kind::Gated { .. } => {
            let (r_mag, b_mag) = (weights.column(layout.r_mag()), weights.column(layout.b_mag()));
            let biases = Biases { b_enc: &b_enc, r_mag, b_mag };
            let take = |z: &[f32], part: &mut Part, _: &mut _| gates(z, &biases, &mut part.firings);
            (each(weights, centred, take), 0)
        }
    }
}

/// An encoder, and its panels where it is scanned in bf16.
struct Encoder<'a> {
    weights: &'a Weights,
    b_enc: &'a [f32],
    panels: Option<&'a Panels>,
}

impl Encoder<'_> {
    /// The `k` largest of each sample.
    fn largest(&self, centred: &[f32], k: usize) -> (Vec<Part>, usize) {
        let Some(panels) = self.panels else {
            let take = |z: &[f32], part: &mut Part, found: &mut Vec<Firing>| {
                largest(z, self.b_enc, k, found);
                found.sort_unstable_by_key(|firing| firing.latent);
                part.firings.append(found);
            };
            return (each(self.weights, centred, take), 0);
        };
        self.scan(panels, centred, Floor::Highest(k), |found| {
            if found.len() > k {
                cut(found, k);
            }
        })
    }

    /// Everything above a floor; as many as `room` of a sample are expected.
    fn above(&self, centred: &[f32], (floor, room): (f32, usize)) -> (Vec<Part>, usize) {
        let Some(panels) = self.panels else {
            let take = |z: &[f32], part: &mut Part, _: &mut _| {
                above(z, self.b_enc, floor, &mut part.firings);
            };
            return (each(self.weights, centred, take), 0);
        };
        self.scan(panels, centred, Floor::Fixed(floor, room), |found| {
            found.retain(|firing| firing.value > floor);
        })
    }

    /// The `k * samples` largest of the whole batch.
    fn largest_of_batch(&self, centred: &[f32], k: usize) -> (Vec<Part>, usize) {
        let d = self.weights.d;
        let samples = centred.len() / d;
        let room = 8 * k;
        // What more of a few samples reach, the others need not look below, mostly.
        let few = samples.min(PROBED);
        let (probe, _) = self.above(&centred[..few * d], (0.0, room));
        let guesses = GUESSES.map(|times| nth_largest(&probe, share(times, k * few)));
        let guesses = guesses.into_iter().flatten().map(|(floor, _)| floor);
        for floor in guesses.chain([0.0]) {
            let (mut parts, lost) = self.above(centred, (floor, room));
            let enough = parts.iter().map(|part| part.firings.len()).sum::<usize>() >= k * samples;
            if enough || floor <= 0.0 {
                keep_largest(&mut parts, k * samples);
                return (parts, lost);
            }
        }
        (Vec::new(), 0)
    }

    /// Who may reach the floor by bf16, computed in fp32 and then reduced by `cut`.
    fn scan(
        &self,
        panels: &Panels,
        centred: &[f32],
        floor: Floor,
        cut: impl Fn(&mut Vec<Firing>) + Sync,
    ) -> (Vec<Part>, usize) {
        let d = self.weights.d;
        let all: Vec<u32> = (0..).take(self.weights.latents()).collect();
        let one = |samples: &[f32]| {
            let (mut part, mut found) = (Part::default(), Vec::new());
            let lost = SCAN.with_borrow_mut(|scan| {
                panels.scan(samples, floor, scan, |sample, reached| {
                    let latents = match reached {
                        Reached::Some(latents) => latents,
                        Reached::Any => &all,
                    };
                    self.compute(&samples[sample * d..][..d], latents, &mut found);
                    cut(&mut found);
                    found.sort_unstable_by_key(|firing: &Firing| firing.latent);
                    part.firings.append(&mut found);
                    part.ends.push(part.firings.len());
                })
            });
            (part, lost)
        };
        let found: Vec<(Part, usize)> = centred.par_chunks(SAMPLES * d).map(one).collect();
        let lost = found.iter().map(|(_, lost)| lost).sum();
        (found.into_iter().map(|(part, _)| part).collect(), lost)
    }

    /// Those of the latents that stand above 0.
    fn compute(&self, x: &[f32], latents: &[u32], found: &mut Vec<Firing>) {
        let w_enc = self.weights.layout().w_enc();
        for (at, &latent) in latents.iter().enumerate() {
            if let Some(&next) = latents.get(at + AHEAD) {
                fetch(&self.weights.record(next as usize)[w_enc.clone()]);
            }
            let at = latent as usize;
            let z = dot(x, &self.weights.record(at)[w_enc.clone()]);
            let value = z + self.b_enc[at];
            if value > 0.0 {
                found.push(Firing { latent, value, gain: 0.0, z });
            }
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
fn gates(z: &[f32], biases: &Biases<'_>, found: &mut Vec<Firing>) {
    for (latent, (&z, b_gate)) in (0_u32..).zip(z.iter().zip(biases.b_enc)) {
        if z + b_gate > 0.0 {
            let at = latent as usize;
            let value = (biases.r_mag[at].exp() * z + biases.b_mag[at]).max(0.0);
            found.push(Firing { latent, value, gain: 0.0, z });
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of firings, whose last digits do not count"
)]
fn share(times: f32, n: usize) -> usize {
    (times * n as f32) as usize
}

#[cfg(test)]
mod tests;
