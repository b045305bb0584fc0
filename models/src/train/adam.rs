//! One step of Adam over records: clipped, with decoder rows brought back to length 1.

use rayon::prelude::*;

use super::gradients::Norm;
use super::weights::Weights;
use crate::kernel::{Factors, adam, norm};
use crate::recipe::Optimiser;

/// Records of one task.
const RECORDS: usize = 128;

/// Mean of the gradients and of their squares, and how many steps they stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// First moment.
    pub mean: Weights,
    /// Second moment.
    pub square: Weights,
    /// Steps so far.
    pub steps: u64,
}

impl Moments {
    /// None yet.
    #[must_use]
    pub(super) fn zeros(latents: usize, d: usize) -> Self {
        let zeros = || Weights::zeros(latents, d);
        Self { mean: zeros(), square: zeros(), steps: 0 }
    }

    /// Moves the weights, and brings decoder rows back to length 1 where they are held there.
    pub(super) fn step(
        &mut self,
        weights: &mut Weights,
        gradient: &Weights,
        known: &Norm,
        (optimiser, rate, unit_norm): (&Optimiser, f32, bool),
    ) {
        self.steps += 1;
        let factors = self.factors(optimiser, rate, known);
        let (layout, stride) = (weights.layout(), weights.layout().stride());
        let nothing = vec![0.0; stride];
        weights
            .records
            .par_chunks_mut(RECORDS * stride)
            .zip(self.mean.records.par_chunks_mut(RECORDS * stride))
            .zip(self.square.records.par_chunks_mut(RECORDS * stride))
            .zip(gradient.records.par_chunks(RECORDS * stride))
            .zip(known.touched.par_chunks(RECORDS))
            .for_each(|((((weights, mean), square), gradient), touched)| {
                let records = weights.chunks_exact_mut(stride);
                let moments = mean.chunks_exact_mut(stride).zip(square.chunks_exact_mut(stride));
                let gradients = gradient.chunks_exact(stride).zip(touched);
                for ((record, (mean, square)), (gradient, touched)) in
                    records.zip(moments).zip(gradients)
                {
                    let gradient = if *touched { gradient } else { &nothing };
                    adam(record, mean, square, gradient, factors);
                    if unit_norm {
                        let row = &mut record[layout.w_dec()];
                        let shrink = 1.0 / norm(row);
                        row.iter_mut().for_each(|w| *w *= shrink);
                    }
                }
            });
        let (mean, square) = (&mut self.mean.b_dec, &mut self.square.b_dec);
        adam(&mut weights.b_dec, mean, square, &gradient.b_dec, factors);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "factors near 1 as the rest of the arithmetic"
    )]
    fn factors(&self, optimiser: &Optimiser, rate: f32, known: &Norm) -> Factors {
        let norm = known.squares.sqrt() as f32;
        // As torch.nn.utils.clip_grad_norm_ does.
        let clip =
            if optimiser.clip > 0.0 { (optimiser.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let bias = |beta: f32| 1.0 - f64::from(beta).powi(steps);
        Factors {
            clip,
            beta1: optimiser.beta1,
            beta2: optimiser.beta2,
            rate: (f64::from(rate) / bias(optimiser.beta1)) as f32,
            unroot: (1.0 / bias(optimiser.beta2).sqrt()) as f32,
            epsilon: optimiser.epsilon,
        }
    }
}
