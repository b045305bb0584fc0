//! From firings and errors to the gradient of every weight, one latent at a time.

use rayon::prelude::*;

use super::dense::{Dense, Share};
use super::errors::Errors;
use super::firings::{At, ByLatent};
use super::weights::Weights;
use crate::kernel::{Rows, Term, add, add_rows, dot};

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
    pub(super) main: &'a Channel,
    /// That of dead latents, or of the gates alone.
    pub(super) auxiliary: Option<&'a Channel>,
    /// The same of dead latents, as products.
    pub(super) dense: Option<&'a Dense>,
    /// Are gate and magnitude apart?
    pub(super) gated: bool,
    /// Is every decoder row of length 1? What would lengthen it is then left out.
    pub(super) unit_norm: bool,
    /// Do decoder rows stay as they are?
    pub(super) frozen: bool,
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
        if let Some(auxiliary) = self.auxiliary.filter(|a| a.decoder && self.gated) {
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
        let (mut pull, mut terms) = (vec![0.0; self.weights.d], Vec::new());
        let (mut squares, mut touched) = (0.0, Vec::with_capacity(records.len() / stride));
        for (latent, record) in (first..).zip(records.chunks_exact_mut(stride)) {
            let main = self.main.firings.latent(latent);
            let auxiliary = self.auxiliary.map_or(&[][..], |a| a.firings.latent(latent));
            let dense = self.dense.and_then(|dense| dense.latent(latent));
            let any = !main.is_empty() || !auxiliary.is_empty() || dense.is_some();
            touched.push(any);
            if any {
                let gain = self.latent(latent, (main, auxiliary, dense), (record, &mut terms));
                add(&mut pull, gain, &self.weights.record(latent)[self.weights.layout().w_enc()]);
                squares += f64::from(dot(record, record));
            }
        }
        (squares, touched, pull)
    }

    /// One latent's gradient; gives the sum of its gains.
    fn latent(
        &self,
        latent: usize,
        (main, auxiliary, dense): (&[At], &[At], Option<Share<'_>>),
        (record, terms): (&mut [f32], &mut Vec<Term>),
    ) -> f32 {
        let layout = self.weights.layout();
        let own = self.weights.record(latent);
        let group = self.ends.partition_point(|end| *end <= latent);
        record.fill(0.0);
        let (mut open, mut through) = (0.0, 0.0);
        self.feel(self.main, main, group, (record, terms));
        for at in main {
            open += at.gain;
            through += at.gain * at.z;
        }
        let mut gate = 0.0;
        if let Some(channel) = self.auxiliary {
            self.feel(channel, auxiliary, 0, (record, terms));
            gate = auxiliary.iter().map(|at| at.gain).sum();
        }
        if let Some(Share { w_enc, w_dec, gain }) = dense {
            add(&mut record[layout.w_enc()], 1.0, w_enc);
            add(&mut record[layout.w_dec()], 1.0, w_dec);
            gate += gain;
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
        if self.frozen {
            gradient.fill(0.0);
        }
        open + gate
    }

    /// Adds what one channel's firings of a latent give to its rows.
    fn feel(
        &self,
        channel: &Channel,
        firings: &[At],
        group: usize,
        (record, terms): (&mut [f32], &mut Vec<Term>),
    ) {
        let (layout, d) = (self.weights.layout(), self.weights.d);
        let mut sum = |to: &mut [f32], rows: Rows<'_>, factor: fn(&At) -> f32| {
            terms.clear();
            terms.extend(firings.iter().map(|at| Term { row: at.sample, factor: factor(at) }));
            add_rows(to, rows, terms);
        };
        if channel.decoder {
            sum(&mut record[layout.w_dec()], channel.errors.rows(group), |at| at.value);
        }
        sum(&mut record[layout.w_enc()], Rows::dense(self.centred, d), |at| at.gain);
    }
}
