//! A dictionary in training: one record a latent, so that everything that belongs to a latent is
//! read, changed and written at once.

use std::ops::Range;

use crate::kernel::Rows;

/// Values of a record behind its two rows: bias, log gate, magnitude bias, and room up to a whole
/// cache line of 64 bytes.
const TAIL: usize = 16;

/// Weights, gradients or moments of one dictionary of `latents` latents over `d` values.
///
/// A record holds `[w_enc (d) | w_dec (d) | b_enc, r_mag, b_mag, 0..]`; the last two stay 0 where
/// nothing is gated.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Values of a sample.
    pub d: usize,
    /// `[latents, stride]`.
    pub records: Vec<f32>,
    /// `[d]`: taken from a sample before it is encoded, added to its reconstruction.
    pub b_dec: Vec<f32>,
}

/// Where the parts of a record lie.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Values of a sample.
    pub d: usize,
}

impl Layout {
    /// Values of a record.
    #[must_use]
    pub const fn stride(self) -> usize {
        2 * self.d + TAIL
    }

    /// The latent's encoder row.
    #[must_use]
    pub const fn w_enc(self) -> Range<usize> {
        0..self.d
    }

    /// The latent's decoder row.
    #[must_use]
    pub const fn w_dec(self) -> Range<usize> {
        self.d..2 * self.d
    }

    /// The encoder's bias; of a gated dictionary the gate's.
    #[must_use]
    pub const fn b_enc(self) -> usize {
        2 * self.d
    }

    /// Logarithm of what the magnitude's weights are longer than the gate's.
    #[must_use]
    pub const fn r_mag(self) -> usize {
        2 * self.d + 1
    }

    /// The magnitude's bias.
    #[must_use]
    pub const fn b_mag(self) -> usize {
        2 * self.d + 2
    }
}

impl Weights {
    /// All 0.
    #[must_use]
    pub fn zeros(latents: usize, d: usize) -> Self {
        Self { d, records: vec![0.0; latents * Layout { d }.stride()], b_dec: vec![0.0; d] }
    }

    /// Where the parts of a record lie.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout { d: self.d }
    }

    /// How many latents there are.
    #[must_use]
    pub fn latents(&self) -> usize {
        self.records.len() / self.layout().stride()
    }

    /// One latent's record.
    #[must_use]
    pub fn record(&self, latent: usize) -> &[f32] {
        let stride = self.layout().stride();
        &self.records[latent * stride..][..stride]
    }

    /// One latent's record, to be changed.
    #[must_use]
    pub fn record_mut(&mut self, latent: usize) -> &mut [f32] {
        let stride = self.layout().stride();
        &mut self.records[latent * stride..][..stride]
    }

    /// One latent's decoder row.
    #[must_use]
    pub fn w_dec(&self, latent: usize) -> &[f32] {
        &self.record(latent)[self.layout().w_dec()]
    }

    /// The encoder's rows, `[latents, d]`.
    #[must_use]
    pub fn encoder(&self) -> Rows<'_> {
        let stride = self.layout().stride();
        Rows { values: &self.records, count: self.latents(), length: self.d, stride }
    }

    /// The decoder's rows, `[latents, d]`.
    #[must_use]
    pub fn decoder(&self) -> Rows<'_> {
        let stride = self.layout().stride();
        let values = &self.records[self.d.min(self.records.len())..];
        Rows { values, count: self.latents(), length: self.d, stride }
    }

    /// One value of every record, `[latents]`.
    #[must_use]
    pub fn column(&self, at: usize) -> Vec<f32> {
        self.records.chunks_exact(self.layout().stride()).map(|record| record[at]).collect()
    }
}
