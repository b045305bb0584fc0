//! From firings and errors to the gradient of every weight, one latent at a time.

use rayon::prelude::*;

use super::errors::Errors;
use super::firings::{At, ByLatent};
use super::weights::Weights;
use crate::kernel::{add, dot};

/// Latents of one task: at 512 values a latent their records are half a megabyte, half of what the
/// second level of cache holds.
const LATENTS: usize = 128;

/// One reconstruction of a batch.
#[derive(Debug)]
pub(super) struct Channel {
    /// Who fires in it.
    pub(super) firings: ByLatent,
    /// What it misses.
    pub(super) errors: Errors,
    /// Does its error change the decoder?
    pub(super) decoder: bool,
}

/// All that the gradient of one step follows from.
#[derive(Debug)]
pub(super) struct Causes<'a> {
    /// The weights of the step.
    pub(super) weights: &'a Weights,
    /// Samples less `b_dec`, `[batch, d]`.
    pub(super) centred: &'a [f32],
    /// Rising ends of the prefixes.
    pub(super) ends: &'a [usize],
    /// The reconstruction that is the dictionary's.
    pub(super) main: Channel,
    /// That of dead latents, or of the gates alone.
    pub(super) auxiliary: Option<Channel>,
    /// Are gate and magnitude apart?
    pub(super) gated: bool,
    /// Is every decoder row of length 1? What would lengthen it is then left out.
    pub(super) unit_norm: bool,
    /// Weight of a gate's pre-activation times the length of its decoder row; 0: none.
    pub(super) norm_weight: f32,
}

/// What clipping needs to know of a gradient.
#[derive(Debug)]
pub(super) struct Norm {
    /// Sum of all squares.
    pub(super) squares: f64,
    /// Which latents have one at all, `[latents]`.
    pub(super) touched: Vec<bool>,
}

impl Causes<'_> {
    /// Writes the gradient; records of latents without one keep what they held.
    pub(super) fn gradient(&self, gradient: &mut Weights) -> Norm {
        let stride = self.weights.layout().stride();
        let tasks: Vec<(f64, Vec<bool>, Vec<f32>)> = gradient
            .records
            .par_chunks_mut(LATENTS * stride)
            .enumerate()
            .map(|(task, records)| self.task(task * LATENTS, records, stride))
            .collect();
        let mut b_dec = self.main.errors.common();
        if let Some(auxiliary) = self.auxiliary.as_ref().filter(|a| a.decoder && self.gated) {
            add(&mut b_dec, 1.0, &auxiliary.errors.common());
        }
        let mut norm = Norm { squares: 0.0, touched: Vec::with_capacity(self.weights.latents()) };
        for (squares, mut touched, pull) in tasks {
            norm.squares += squares;
            norm.touched.append(&mut touched);
            add(&mut b_dec, -1.0, &pull);
        }
        norm.squares += f64::from(dot(&b_dec, &b_dec));
        gradient.b_dec.copy_from_slice(&b_dec);
        norm
    }

    /// Gradients of the latents from `first` on; sum of squares, who has one, and what their
    /// encoder rows take from `b_dec`.
    fn task(&self, first: usize, records: &mut [f32], stride: usize) -> (f64, Vec<bool>, Vec<f32>) {
        let mut pull = vec![0.0; self.weights.d];
        let (mut squares, mut touched) = (0.0, Vec::with_capacity(records.len() / stride));
        for (latent, record) in (first..).zip(records.chunks_exact_mut(stride)) {
            let main = self.main.firings.latent(latent);
            let auxiliary = self.auxiliary.as_ref().map_or(&[][..], |a| a.firings.latent(latent));
            let any = !main.is_empty() || !auxiliary.is_empty();
            touched.push(any);
            if any {
                let gain = self.latent(latent, main, auxiliary, record);
                add(&mut pull, gain, &self.weights.record(latent)[self.weights.layout().w_enc()]);
                squares += f64::from(dot(record, record));
            }
        }
        (squares, touched, pull)
    }

    /// One latent's gradient; gives the sum of its gains.
    fn latent(&self, latent: usize, main: &[At], auxiliary: &[At], record: &mut [f32]) -> f32 {
        let layout = self.weights.layout();
        let own = self.weights.record(latent);
        let group = self.ends.partition_point(|end| *end <= latent);
        record.fill(0.0);
        let (mut open, mut through) = (0.0, 0.0);
        for at in main {
            self.feel(&self.main, at, group, record);
            open += at.gain;
            through += at.gain * at.z;
        }
        let mut gate = 0.0;
        if let Some(channel) = &self.auxiliary {
            for at in auxiliary {
                self.feel(channel, at, 0, record);
                gate += at.gain;
            }
        }
        if self.gated {
            record[layout.b_enc()] = gate;
            record[layout.r_mag()] = through;
            record[layout.b_mag()] = open * (-own[layout.r_mag()]).exp();
        } else {
            record[layout.b_enc()] = open + gate;
        }
        let w_dec = &own[layout.w_dec()];
        let gradient = &mut record[layout.w_dec()];
        if self.norm_weight > 0.0 {
            let b_gate = own[layout.b_enc()];
            let gates: f32 = auxiliary.iter().map(|at| at.z + b_gate).sum();
            add(gradient, self.norm_weight * gates / dot(w_dec, w_dec).sqrt(), w_dec);
        }
        if self.unit_norm {
            let along = dot(gradient, w_dec);
            add(gradient, -along, w_dec);
        }
        open + gate
    }

    fn feel(&self, channel: &Channel, at: &At, group: usize, record: &mut [f32]) {
        let (layout, sample) = (self.weights.layout(), at.sample as usize);
        if channel.decoder && at.value != 0.0 {
            add(&mut record[layout.w_dec()], at.value, channel.errors.slice(sample, group));
        }
        if at.gain != 0.0 {
            let centred = &self.centred[sample * layout.d..][..layout.d];
            add(&mut record[layout.w_enc()], at.gain, centred);
        }
    }
}
