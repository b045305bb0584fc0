//! The auxiliary reconstruction where most dead latents take part in every sample: matrix products
//! instead of firings.

use rayon::prelude::*;

use super::select::SAMPLES;
use crate::kernel::{Rows, dot, product, product_of_columns, product_of_rows};

/// Dead latents of one task.
const LATENTS: usize = 128;

/// What the auxiliary reconstruction gives to the weights of dead latents.
#[derive(Debug)]
pub(super) struct Dense {
    /// Sum of squared errors, weighted.
    pub(super) squares: f64,
    /// Which latents, by rising index.
    latents: Vec<u32>,
    /// Values of a sample.
    d: usize,
    /// Gradients of their encoder rows, `[latents, d]`.
    w_enc: Vec<f32>,
    /// Gradients of their decoder rows, `[latents, d]`.
    w_dec: Vec<f32>,
    /// Sum of the derivatives by each one's activations, `[latents]`.
    gains: Vec<f32>,
}

/// What is reconstructed, and from what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// Samples less `b_dec`, `[batch, d]`.
    pub(super) centred: &'a [f32],
    /// Targets, `[batch, d]`.
    pub(super) residual: &'a [f32],
    /// Decoder rows of the dead latents, `[latents, d]`.
    pub(super) decoder: &'a [f32],
    /// Weight of a squared error.
    pub(super) weight: f32,
}

/// One latent's share of the gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share<'a> {
    /// Of its encoder row.
    pub(super) w_enc: &'a [f32],
    /// Of its decoder row.
    pub(super) w_dec: &'a [f32],
    /// Of its bias.
    pub(super) gain: f32,
}

impl Dense {
    /// Reconstructs from activations `[batch, latents]`, where 0 is who takes no part.
    pub(super) fn of(latents: &[u32], activations: &[f32], parts: Parts<'_>) -> Self {
        let (m, d) = (latents.len(), parts.decoder.len() / latents.len());
        let mut errors = vec![0.0; parts.residual.len()];
        let mut gains = vec![0.0; activations.len()];
        let squares: Vec<f64> = activations
            .par_chunks(SAMPLES * m)
            .zip(parts.residual.par_chunks(SAMPLES * d))
            .zip(errors.par_chunks_mut(SAMPLES * d).zip(gains.par_chunks_mut(SAMPLES * m)))
            .map(|((active, residual), (errors, gains))| {
                let decoder = Rows::dense(parts.decoder, d);
                product_of_rows(errors, Rows::dense(active, m), decoder);
                errors.iter_mut().zip(residual).for_each(|(error, target)| *error -= target);
                let squares: f64 = errors.chunks_exact(d).map(|e| f64::from(dot(e, e))).sum();
                errors.iter_mut().for_each(|error| *error *= 2.0 * parts.weight);
                product(gains, Rows::dense(errors, d), decoder);
                for (gain, active) in gains.iter_mut().zip(active) {
                    *gain = if *active == 0.0 { 0.0 } else { *gain };
                }
                squares * f64::from(parts.weight)
            })
            .collect();
        let mut new = Self {
            squares: squares.iter().sum(),
            latents: latents.to_vec(),
            d,
            w_enc: vec![0.0; m * d],
            w_dec: vec![0.0; m * d],
            gains: vec![0.0; m],
        };
        for gains in gains.chunks_exact(m) {
            new.gains.iter_mut().zip(gains).for_each(|(sum, gain)| *sum += gain);
        }
        let sums = new.w_enc.par_chunks_mut(LATENTS * d).zip(new.w_dec.par_chunks_mut(LATENTS * d));
        sums.enumerate().for_each(|(task, (w_enc, w_dec))| {
            let columns = |of| Rows { length: w_enc.len() / d, ..Rows::dense(of, m) };
            let first = task * LATENTS;
            product_of_columns(w_dec, columns(activations), first, Rows::dense(&errors, d));
            product_of_columns(w_enc, columns(&gains), first, Rows::dense(parts.centred, d));
        });
        new
    }

    /// A latent's share; none where it takes no part.
    pub(super) fn latent(&self, latent: usize) -> Option<Share<'_>> {
        let at = self.latents.binary_search(&u32::try_from(latent).ok()?).ok()?;
        let row = at * self.d..(at + 1) * self.d;
        let (w_enc, w_dec) = (&self.w_enc[row.clone()], &self.w_dec[row]);
        Some(Share { w_enc, w_dec, gain: self.gains[at] })
    }
}
