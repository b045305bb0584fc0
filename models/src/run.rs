//! A whole training run: epochs in a seeded order, the best weights by held-out samples, and a
//! checkpoint after every epoch.
//!
//! Where `k` says how many latents fire, the best epoch is the one with the smallest held-out FVU.
//! Where a penalty does, it is the last: early ones explain more, because they are not sparse yet.

use std::path::Path;

use rand::seq::SliceRandom as _;
use serde::Serialize;

use crate::checkpoint::{CheckpointError, Epoch, State};
use crate::export::thresholds;
use crate::kernel::Kernel;
use crate::measure::{Measured, measure};
use crate::normalise::{NormaliseError, Normaliser, Offset};
use crate::recipe::{Kind, Recipe, RecipeError};
use crate::samples::Samples;
use crate::start::{self, Stream, numbers};
use crate::train::{Diverged, Selection, Trainer, Weights};

/// Above this offset samples have to be centred, or most latents die (see [`Offset::gamma`]).
const GAMMA_MAX: f64 = 0.5;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// What was trained.
    pub recipe: Recipe,
    /// What found who may fire: the last bits depend on it.
    pub kernel: Kernel,
    /// How far the samples stood from the origin before they were centred.
    pub offset: Offset,
    /// The epoch whose weights these are.
    pub best: u64,
    /// What each epoch came to.
    pub history: Vec<Epoch>,
    /// The exported form on the samples that it was trained on.
    pub training: Measured,
    /// The exported form on those that were held out.
    pub held_out: Measured,
}

/// A run that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The recipe cannot be followed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The samples cannot be normalised.
    #[error(transparent)]
    Normalise(#[from] NormaliseError),
    /// Training came to no numbers.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// The checkpoint cannot be used or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Two files that do not belong together.
    #[error("samples: expected as many values in both files, found {train} and {held_out}")]
    Samples {
        /// Values of a row for training.
        train: usize,
        /// Values of a row that was held out.
        held_out: usize,
    },
    /// A kernel for other CPUs was asked for.
    #[error("kernel {0:?}: expected a CPU with AVX512-BF16, found none; fp32 runs everywhere")]
    Kernel(Kernel),
    /// Fewer samples than one batch.
    #[error("samples: expected at least a batch of {batch}, found {found}")]
    Few {
        /// The recipe's batch.
        batch: usize,
        /// Samples there are.
        found: usize,
    },
}

/// A finished dictionary, in normalised units.
#[derive(Debug)]
pub struct Trained {
    /// The best weights.
    pub weights: Weights,
    /// One a latent.
    pub thresholds: Vec<f32>,
    /// What embeddings went through before.
    pub normaliser: Normaliser,
    /// What it came to.
    pub outcome: Outcome,
}

/// A run in its place: what it is made of, and where it is kept.
struct Run {
    recipe: Recipe,
    d: usize,
    /// Normalised.
    train: Vec<f32>,
    /// Normalised.
    held_out: Vec<f32>,
    state: State,
    best: Option<Weights>,
}

/// Trains, or goes on with what lies at `checkpoint`; tells `progress` of every epoch. The kernel is
/// the checkpoint's, or the CPU's fastest.
///
/// # Errors
/// Samples or recipe are unfit, the loss is no number any more, or the disk fails.
pub fn run(
    recipe: Recipe,
    samples: [Samples; 2],
    checkpoint: &Path,
    progress: impl FnMut(&Epoch, u64),
) -> Result<Trained, RunError> {
    run_on(None, recipe, samples, checkpoint, progress)
}

/// The same on this kernel; a checkpoint of another one is refused.
///
/// # Errors
/// As [`run`], or the CPU does not have it.
pub fn run_on(
    kernel: Option<Kernel>,
    recipe: Recipe,
    [train, held_out]: [Samples; 2],
    checkpoint: &Path,
    mut progress: impl FnMut(&Epoch, u64),
) -> Result<Trained, RunError> {
    if let Some(kernel) = kernel.filter(|kernel| !kernel.runs_here()) {
        return Err(RunError::Kernel(kernel));
    }
    let d = train.d;
    recipe.check(d)?;
    if held_out.d != d {
        return Err(RunError::Samples { train: d, held_out: held_out.d });
    }
    if train.count() < recipe.batch {
        return Err(RunError::Few { batch: recipe.batch, found: train.count() });
    }
    let (normaliser, offset) = Normaliser::of(&train.values, d)?;
    if offset.gamma > GAMMA_MAX {
        tracing::info!(gamma = offset.gamma, "samples far off the origin; they are centred");
    }
    let normalised = |mut samples: Samples| {
        normaliser.apply(&mut samples.values);
        samples.values
    };
    let state = State::new(
        recipe.clone(),
        kernel.unwrap_or(Kernel::fastest()),
        [train.digest, held_out.digest],
    );
    let (train, held_out) = (normalised(train), normalised(held_out));
    let mut run = Run { recipe, d, train, held_out, state, best: None };
    let mut trainer = run.begin(checkpoint, kernel)?;
    let epochs = run.recipe.epochs;
    while trainer.step_number() < trainer.steps() {
        let epoch = run.epoch(&mut trainer)?;
        progress(&epoch, epochs);
        run.keep(&trainer, epoch, checkpoint)?;
    }
    Ok(run.finish(normaliser, offset))
}

impl Run {
    /// A new trainer, or the one that was put away.
    fn begin(&mut self, checkpoint: &Path, kernel: Option<Kernel>) -> Result<Trainer, RunError> {
        let samples = (self.train.len() / self.d) as u64;
        let Some((state, tensors)) = self.state.read(checkpoint, kernel)? else {
            let weights = start::weights(&self.recipe, &self.train, self.d);
            let trainer = Trainer::new(self.recipe.clone(), weights, samples);
            return Ok(trainer.with_kernel(self.state.kernel));
        };
        let latents = self.recipe.latents;
        if state.best.is_some() {
            let best = Weights::from_kept(&tensors, "best", latents, self.d);
            self.best = Some(best.map_err(CheckpointError::from)?);
        }
        let (step, silent) = (state.step, state.silent.clone());
        self.state = state;
        let trainer =
            Trainer::resume(self.recipe.clone(), &tensors, (self.d, samples), (step, silent));
        Ok(trainer.map_err(CheckpointError::from)?.with_kernel(self.state.kernel))
    }

    /// One epoch from its first step on: every sample once, in an order of its own; what does not
    /// fill a batch is left out of this epoch.
    fn epoch(&self, trainer: &mut Trainer) -> Result<Epoch, RunError> {
        let (d, batch) = (self.d, self.recipe.batch);
        let batches = self.train.len() / d / batch;
        let number = trainer.step_number() / batches as u64;
        let mut order: Vec<usize> = (0..self.train.len() / d).collect();
        order.shuffle(&mut numbers(self.recipe.seed, Stream::Order(number)));
        let (mut loss, mut dead) = (0.0, 0);
        let mut rows = vec![0.0; batch * d];
        for picked in order.chunks_exact(batch) {
            for (row, &at) in rows.chunks_exact_mut(d).zip(picked) {
                row.copy_from_slice(&self.train[at * d..][..d]);
            }
            let losses = trainer.step(&rows)?;
            loss += losses.total();
            dead = losses.dead;
        }
        let selection = Selection::Trained(&self.recipe.select);
        let held_out = measure(trainer.best(), &selection, &self.held_out);
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 batches")]
        let loss = loss / batches as f64;
        Ok(Epoch { epoch: number + 1, loss, dead, fvu: held_out.fvu })
    }

    /// Keeps the best weights so far, and everything that the next epoch begins with.
    fn keep(&mut self, trainer: &Trainer, epoch: Epoch, to: &Path) -> Result<(), CheckpointError> {
        let best = self.state.history.iter().map(|e| e.fvu).fold(f64::INFINITY, f64::min);
        self.state.history.push(epoch);
        if epoch.fvu < best || self.recipe.select.k().is_none() {
            self.best = Some(trainer.best().clone());
            self.state.best = Some(epoch.epoch);
        }
        self.state.step = trainer.step_number();
        self.state.silent = trainer.silent().to_vec();
        let mut tensors = trainer.kept();
        tensors.extend(self.best.iter().flat_map(|best| best.kept("best")));
        self.state.write(to, &tensors)
    }

    fn finish(self, normaliser: Normaliser, offset: Offset) -> Trained {
        let kind = &self.recipe.select;
        // A run of no epoch ends where it began.
        let weights =
            self.best.unwrap_or_else(|| start::weights(&self.recipe, &self.train, self.d));
        let thresholds = thresholds(&weights, kind, &self.train);
        let gated = matches!(kind, Kind::Gated { .. });
        let above = Selection::Above { gated, thresholds: &thresholds };
        let outcome = Outcome {
            offset,
            kernel: self.state.kernel,
            best: self.state.best.unwrap_or(0),
            history: self.state.history,
            training: measure(&weights, &above, &self.train),
            held_out: measure(&weights, &above, &self.held_out),
            recipe: self.recipe,
        };
        Trained { weights, thresholds, normaliser, outcome }
    }
}
