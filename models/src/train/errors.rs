//! What a batch's reconstruction misses, and how much each firing has to do with it.

use rayon::prelude::*;

use super::firings::Part;
use super::select::SAMPLES;
use super::weights::Weights;
use crate::kernel::{Rows, Term, add, add_rows, dot};

/// Derivatives of the loss by the reconstructions: `[batch, groups, d]`.
///
/// A firing of group `g` moves the reconstruction of every prefix from `g` on, so its slice holds
/// the sum of their derivatives.
#[derive(Debug, Clone)]
pub(super) struct Errors {
    /// Prefixes of the dictionary that reconstruct by themselves.
    groups: usize,
    /// Values of a sample.
    d: usize,
    pub(super) values: Vec<f32>,
    /// The sum over samples and prefixes of the squared error, each weighted.
    pub(super) squares: f64,
}

/// How a batch is reconstructed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Rising ends of the prefixes.
    pub(super) ends: &'a [usize],
    /// Weight of a squared error in the loss.
    pub(super) weight: f32,
}

impl Errors {
    /// Decodes the firings and compares with the targets `[batch, d]`; sets every firing's gain to
    /// the derivative of the loss by its value. `values` is room, whatever it holds.
    pub(super) fn of(
        weights: &Weights,
        targets: &[f32],
        parts: &mut [Part],
        asked: Asked<'_>,
        mut values: Vec<f32>,
    ) -> Self {
        let (d, groups) = (weights.d, asked.ends.len());
        values.resize(targets.len() * groups, 0.0);
        let squares: Vec<f64> = parts
            .par_iter_mut()
            .zip(values.par_chunks_mut(SAMPLES * groups * d))
            .zip(targets.par_chunks(SAMPLES * d))
            .map(|((part, values), targets)| {
                let samples = part.samples_mut().zip(values.chunks_exact_mut(groups * d));
                let samples = samples.zip(targets.chunks_exact(d));
                let one =
                    |((firings, slices), target)| sample(weights, firings, slices, target, asked);
                samples.map(one).sum::<f64>()
            })
            .collect();
        // In the order of the parts, so that threads change nothing.
        Self { groups, d, values, squares: squares.iter().sum() }
    }

    /// The derivatives by the reconstruction that a latent of this group moves, one a sample.
    #[must_use]
    pub(super) fn rows(&self, group: usize) -> Rows<'_> {
        let stride = self.groups * self.d;
        let values = &self.values[group * self.d..];
        Rows { values, count: self.values.len() / stride, length: self.d, stride }
    }

    /// The derivative by the last prefix alone: of the whole dictionary's reconstruction.
    pub(super) fn whole(&self) -> impl Iterator<Item = &[f32]> {
        let last = (self.groups - 1) * self.d;
        self.values.chunks_exact(self.groups * self.d).map(move |slices| &slices[last..])
    }

    /// Sum over the batch of the derivative by what every reconstruction has in common, `[d]`.
    #[must_use]
    pub(super) fn common(&self) -> Vec<f32> {
        let mut sum = vec![0.0; self.d];
        for slices in self.values.chunks_exact(self.groups * self.d) {
            add(&mut sum, 1.0, &slices[..self.d]);
        }
        sum
    }
}

fn sample(
    weights: &Weights,
    firings: &mut [super::firings::Firing],
    slices: &mut [f32],
    target: &[f32],
    Asked { ends, weight }: Asked<'_>,
) -> f64 {
    let d = weights.d;
    let mut terms = Vec::with_capacity(firings.len());
    let mut squares = 0.0;
    let (mut begin, mut group) = (0, 0);
    // Each slice begins as the error of the prefix before it.
    slices[..d].iter_mut().zip(target).for_each(|(error, target)| *error = -target);
    while group < ends.len() {
        let (before, slice) = slices.split_at_mut(group * d);
        let slice = &mut slice[..d];
        if group > 0 {
            slice.copy_from_slice(&before[(group - 1) * d..]);
        }
        let length = firings[begin..].partition_point(|f| (f.latent as usize) < ends[group]);
        terms.clear();
        let inside = &firings[begin..begin + length];
        terms.extend(inside.iter().map(|f| Term { row: f.latent, factor: f.value }));
        add_rows(slice, weights.decoder(), &terms);
        squares += f64::from(weight) * f64::from(dot(slice, slice));
        begin += length;
        group += 1;
    }
    for error in &mut *slices {
        *error *= 2.0 * weight;
    }
    for group in (1..ends.len()).rev() {
        let (before, slice) = slices.split_at_mut(group * d);
        add(&mut before[(group - 1) * d..], 1.0, &slice[..d]);
    }
    let (mut group, mut rest) = (0, firings);
    while !rest.is_empty() {
        let length = rest.partition_point(|f| (f.latent as usize) < ends[group]);
        let (inside, behind) = rest.split_at_mut(length);
        for firing in inside {
            firing.gain = dot(&slices[group * d..][..d], weights.w_dec(firing.latent as usize));
        }
        (group, rest) = (group + 1, behind);
    }
    squares
}
