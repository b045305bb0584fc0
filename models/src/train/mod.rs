//! The trainer: one step for every kind of dictionary.
//!
//! A dense step would multiply six times with matrices of `[batch, latents]`; this one multiplies
//! once, to encode. Everything after it touches only what fires: errors by sample, then gradients
//! by latent, each written once and consumed at once. The bits depend on recipe and data, and on
//! what the CPU's matrix product gives; never on the number of threads.

mod adam;
mod auxiliary;
mod dense;
mod errors;
mod firings;
mod gradients;
mod select;
mod state;
mod weights;

use rayon::prelude::*;

use crate::kernel::Kernel;
use crate::kernel::bf16::Panels;
use crate::recipe::{GatedForm, Kind, Loss, Recipe};
pub use adam::Moments;
use auxiliary::{Auxiliary, Lesson, reseed};
use errors::{Asked, Errors};
use firings::ByLatent;
pub use firings::{Firing, Part};
use gradients::{Causes, Channel, Norm};
pub use select::Selection;
pub use state::{Kept, StateError};
pub use weights::{Layout, Weights};

/// What one step found, each a mean over its batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Squared error, in the mean over the prefixes, in the unit of the recipe's loss.
    pub reconstruction: f64,
    /// The L1 term, weighted; 0 for kinds without one.
    pub sparsity: f64,
    /// The auxiliary term, weighted.
    pub auxiliary: f64,
    /// Active latents of a sample.
    pub l0: f64,
    /// Latents that are dead by the recipe's window.
    pub dead: usize,
    /// Norm of the gradient before it was clipped.
    pub norm: f64,
    /// Samples on which bf16 could not tell who may fire, so that fp32 did.
    pub untold: usize,
}

impl Losses {
    /// What was minimised.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.reconstruction + self.sparsity + self.auxiliary
    }
}

/// Training came to values that are no numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("step {step}: expected a finite loss, found {loss}: a smaller rate may help")]
pub struct Diverged {
    step: u64,
    loss: f64,
}

/// A dictionary in training. Everything that a later step depends on is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trainer {
    recipe: Recipe,
    /// What finds who may fire.
    kernel: Kernel,
    /// Steps of the whole run.
    steps: u64,
    /// Samples of one epoch.
    samples: u64,
    weights: Weights,
    moments: Moments,
    /// Exponential mean of the weights, where the recipe asks for one.
    average: Option<Weights>,
    /// Samples since each latent fired.
    silent: Vec<u64>,
    /// Room for the gradient, so that it is not asked for in every step.
    gradient: Weights,
    /// The same for everything else that is large.
    room: Room,
}

/// Room that one step leaves to the next; what it holds counts for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
struct Room {
    centred: Vec<f32>,
    errors: Vec<f32>,
    panels: Panels,
}

/// Everything that the batch showed before weights move.
struct Seen {
    centred: Vec<f32>,
    main: Channel,
    auxiliary: Option<Lesson>,
    losses: Losses,
    dead: Vec<u32>,
}

impl Trainer {
    /// Begins with these weights; `samples` are in one epoch. The kernel is the CPU's fastest.
    #[must_use]
    pub fn new(recipe: Recipe, weights: Weights, samples: u64) -> Self {
        let (latents, d) = (weights.latents(), weights.d);
        let batches = samples / recipe.batch as u64;
        Self {
            kernel: Kernel::fastest(),
            steps: recipe.epochs * batches.max(1),
            samples,
            moments: Moments::zeros(latents, d),
            average: (recipe.optimiser.average > 0.0).then(|| weights.clone()),
            silent: vec![0; latents],
            gradient: Weights::zeros(latents, d),
            room: Room::default(),
            recipe,
            weights,
        }
    }

    /// The same with this kernel.
    #[must_use]
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// What finds who may fire.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Steps done.
    #[must_use]
    pub fn step_number(&self) -> u64 {
        self.moments.steps
    }

    /// Steps of the whole run.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The weights as they stand.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What is exported: the weights' exponential mean where there is one.
    #[must_use]
    pub fn best(&self) -> &Weights {
        self.average.as_ref().unwrap_or(&self.weights)
    }

    /// One step on a batch `[samples, d]`.
    ///
    /// # Errors
    /// The loss is no finite number; the weights did not move.
    pub fn step(&mut self, batch: &[f32]) -> Result<Losses, Diverged> {
        let number = self.moments.steps;
        let Seen { centred, main, auxiliary, mut losses, dead } = self.look(batch);
        if !losses.total().is_finite() {
            return Err(Diverged { step: number, loss: losses.total() });
        }
        let reseeds = self.reseeds_after(number) && !dead.is_empty();
        let errors = reseeds.then(|| main.errors.clone());
        let known = self.differentiate(&centred, &main, auxiliary.as_ref());
        self.room.errors = main.errors.values;
        losses.norm = known.squares.sqrt();
        let rate = self.recipe.rate_at(number, self.steps);
        let unit_norm = self.recipe.unit_norm() && !self.recipe.frozen_decoder;
        let how = (&self.recipe.optimiser, rate, unit_norm);
        self.moments.step(&mut self.weights, &self.gradient, &known, how);
        if let Some(errors) = errors {
            reseed(&mut self.weights, &mut self.moments, &centred, &errors, &dead);
            dead.iter().for_each(|&latent| self.silent[latent as usize] = 0);
        }
        self.room.centred = centred;
        self.follow();
        Ok(losses)
    }

    /// Encodes and decodes the batch, and counts who fired.
    fn look(&mut self, batch: &[f32]) -> Seen {
        let (d, number) = (self.weights.d, self.moments.steps);
        let samples = batch.len() / d;
        let mut centred = std::mem::take(&mut self.room.centred);
        centred.clear();
        centred.extend_from_slice(batch);
        centred
            .par_chunks_mut(select::SAMPLES * d)
            .flat_map_iter(|c| c.chunks_exact_mut(d))
            .for_each(|sample| {
                sample.iter_mut().zip(&self.weights.b_dec).for_each(|(x, b)| *x -= b)
            });
        let weight = self.weight() / count(samples);
        let ends = self.recipe.groups();
        let k = self.recipe.k_at(number, self.steps);
        let panels = (self.kernel == Kernel::Bf16).then_some(&mut self.room.panels);
        let kind = &self.recipe.select;
        let (mut parts, untold) = select::select(&self.weights, &centred, kind, k, panels);
        let asked = Asked { ends: &ends, weight: weight / count(ends.len()) };
        let room = std::mem::take(&mut self.room.errors);
        let errors = Errors::of(&self.weights, &centred, &mut parts, asked, room);
        let fired = self.count_firings(&parts, samples);
        let dead = self.dead();
        let mut losses = Losses {
            reconstruction: errors.squares,
            sparsity: 0.0,
            auxiliary: 0.0,
            l0: fired / f64::from(count(samples)),
            dead: dead.len(),
            norm: 0.0,
            untold,
        };
        let auxiliary = match self.recipe.select {
            Kind::Standard { l1, l1_warm_up } => {
                let weight = warm(l1, l1_warm_up, number) / count(samples);
                losses.sparsity = lasso(&mut parts, weight);
                None
            }
            Kind::Gated { sparsity, sparsity_warm_up, form, gate_loss } => {
                let penalty = warm(sparsity, sparsity_warm_up, number) / count(samples);
                let asked = (weight * gate_loss, penalty);
                let (sum, channel) = self.gates(&centred, &mut parts, form, asked);
                (losses.sparsity, losses.auxiliary) = (sum, channel.errors.squares);
                Some(Lesson::Sparse(channel))
            }
            Kind::TopK { .. } | Kind::BatchTopK { .. } | Kind::MatryoshkaBatchTopK { .. } => {
                let found = self.auxiliary(&centred, &dead).lesson(&errors, asked.weight);
                found.map(|(loss, lesson)| {
                    losses.auxiliary = loss;
                    lesson
                })
            }
        };
        let firings = ByLatent::of(&parts, self.weights.latents());
        let main = Channel { firings, errors, decoder: true };
        Seen { centred, main, auxiliary, losses, dead }
    }

    fn auxiliary<'a>(&'a self, centred: &'a [f32], dead: &'a [u32]) -> Auxiliary<'a> {
        let k = self.recipe.dead.k_auxiliary;
        let k = if k == 0 { (self.weights.d / 2).max(1) } else { k };
        let coefficient = self.recipe.dead.auxiliary;
        Auxiliary { weights: &self.weights, centred, dead, k, coefficient }
    }

    /// The reconstruction by the gates alone, which teaches them (2404.16014, eq. 8), and the
    /// sparsity term. Turns the main gains into derivatives by what the encoder's rows give.
    fn gates(
        &self,
        centred: &[f32],
        parts: &mut [Part],
        form: GatedForm,
        (weight, penalty): (f32, f32),
    ) -> (f64, Channel) {
        let layout = self.weights.layout();
        let latents = self.weights.latents();
        let (b_gate, r_mag) =
            (self.weights.column(layout.b_enc()), self.weights.column(layout.r_mag()));
        let mut gates = parts.to_vec();
        for firing in gates.iter_mut().flat_map(|part| &mut part.firings) {
            firing.value = firing.z + b_gate[firing.latent as usize];
        }
        for firing in parts.iter_mut().flat_map(|part| &mut part.firings) {
            let open = firing.value > 0.0;
            firing.gain *= if open { r_mag[firing.latent as usize].exp() } else { 0.0 };
        }
        let errors = Errors::of(
            &self.weights,
            centred,
            &mut gates,
            Asked { ends: &[latents], weight },
            Vec::new(),
        );
        let lengths: Vec<f32> = match form {
            GatedForm::UnitNorm => vec![1.0; latents],
            GatedForm::DecoderNorm => {
                (0..latents).map(|latent| crate::kernel::norm(self.weights.w_dec(latent))).collect()
            }
        };
        let mut sum = 0.0;
        for firing in gates.iter_mut().flat_map(|part| &mut part.firings) {
            let each = penalty * lengths[firing.latent as usize];
            sum += f64::from(each * firing.value);
            firing.gain += each;
        }
        let decoder = form == GatedForm::DecoderNorm;
        (sum, Channel { firings: ByLatent::of(&gates, latents), errors, decoder })
    }

    fn differentiate(
        &mut self,
        centred: &[f32],
        main: &Channel,
        auxiliary: Option<&Lesson>,
    ) -> Norm {
        let ends = self.recipe.groups();
        let samples = count(centred.len() / self.weights.d);
        let (penalty, warm_up) = self.recipe.norm_penalty();
        let norm_weight = warm(penalty, warm_up, self.moments.steps) / samples;
        let causes = Causes {
            weights: &self.weights,
            centred,
            ends: &ends,
            main,
            auxiliary: auxiliary.and_then(Lesson::channel),
            dense: auxiliary.and_then(Lesson::dense),
            gated: matches!(self.recipe.select, Kind::Gated { .. }),
            unit_norm: self.recipe.unit_norm(),
            frozen: self.recipe.frozen_decoder,
            norm_weight,
        };
        causes.gradient(&mut self.gradient)
    }

    /// Weight of a sample's squared error.
    fn weight(&self) -> f32 {
        match self.recipe.loss {
            Loss::Squares => 1.0,
            // Normalised samples have a variance of d (`crate::normalise`).
            Loss::Variance => 1.0 / count(self.weights.d),
        }
    }

    /// How many fired in the batch; those that did are no longer silent.
    fn count_firings(&mut self, parts: &[Part], samples: usize) -> f64 {
        self.silent.iter_mut().for_each(|silent| *silent += samples as u64);
        let active = |firing: &&Firing| firing.value > 0.0;
        let mut fired = 0.0;
        for firing in parts.iter().flat_map(|part| &part.firings).filter(active) {
            self.silent[firing.latent as usize] = 0;
            fired += 1.0;
        }
        fired
    }

    /// Latents that did not fire for as long as the recipe says.
    fn dead(&self) -> Vec<u32> {
        let window = self.recipe.dead.window;
        let window = if window == 0 { 2 * self.samples } else { window };
        let silent = (0_u32..).zip(&self.silent);
        silent.filter(|(_, samples)| **samples >= window).map(|(latent, _)| latent).collect()
    }

    fn reseeds_after(&self, step: u64) -> bool {
        let batches = (self.samples / self.recipe.batch as u64).max(1);
        let every = self.recipe.dead.reseed_every * batches;
        every > 0 && (step + 1).is_multiple_of(every) && self.recipe.reseeds_at(step, self.steps)
    }

    /// The weights' exponential mean, which follows quickly at first.
    fn follow(&mut self) {
        let Some(average) = &mut self.average else { return };
        #[expect(clippy::cast_precision_loss, reason = "near 1 before it matters")]
        let steps = self.moments.steps as f32;
        let stay = self.recipe.optimiser.average.min((1.0 + steps) / (10.0 + steps));
        let mean = |average: &mut f32, weight: &f32| *average += (1.0 - stay) * (weight - *average);
        average
            .records
            .par_iter_mut()
            .with_min_len(1 << 16)
            .zip(&self.weights.records)
            .for_each(|(average, weight)| mean(average, weight));
        average.b_dec.iter_mut().zip(&self.weights.b_dec).for_each(|(a, w)| mean(a, w));
    }
}

/// Adds the L1 term to the gains of a standard dictionary; gives the term.
fn lasso(parts: &mut [Part], weight: f32) -> f64 {
    let mut sum = 0.0;
    for firing in parts.iter_mut().flat_map(|part| &mut part.firings) {
        sum += f64::from(firing.value * weight);
        firing.gain += weight;
    }
    sum
}

/// A weight that rises from 0 over so many steps.
fn warm(weight: f32, over: u64, step: u64) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "warm-ups of less than 2^24 steps")]
    let share = if over == 0 { 1.0 } else { (step as f32 / over as f32).min(1.0) };
    weight * share
}

#[expect(clippy::cast_precision_loss, reason = "batches and dimensions of less than 2^24")]
fn count(n: usize) -> f32 {
    n as f32
}
