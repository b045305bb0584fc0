//! Everything that decides what a training run makes, as one file: same recipe, same data, same
//! bits.

use serde::{Deserialize, Serialize};

/// How latents are selected and what the loss asks of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// ReLU and an L1 term, unit-norm decoder (MedSAE's chosen form).
    Standard {
        /// Weight of the mean L1 norm of the activations.
        l1: f32,
        /// Steps over which it rises from 0.
        l1_warm_up: u64,
    },
    /// Gate and magnitude apart, encoder weights shared (Rajamanoharan et al. 2024, 2404.16014).
    Gated {
        /// Weight of the L1 norm of the positive gate pre-activations.
        sparsity: f32,
        /// Steps over which it rises from 0.
        sparsity_warm_up: u64,
        /// What holds the decoder back.
        form: GatedForm,
        /// Weight of the reconstruction by the gates alone, which is all that teaches them; 1 but
        /// for an ablation.
        #[serde(default = "one")]
        gate_loss: f32,
    },
    /// The `k` largest pre-activations of each sample.
    #[serde(rename = "top-k")]
    TopK {
        /// Active latents of a sample, at most.
        k: usize,
    },
    /// The `k * batch` largest pre-activations of a batch.
    #[serde(rename = "batch-top-k")]
    BatchTopK {
        /// Active latents of a sample, in the mean.
        k: usize,
    },
    /// The same, and every prefix of the dictionary has to reconstruct by itself.
    #[serde(rename = "matryoshka-batch-top-k")]
    MatryoshkaBatchTopK {
        /// Active latents of a sample, in the mean.
        k: usize,
        /// Rising ends of the prefixes; the last is the number of latents. Weighted alike.
        prefixes: Vec<usize>,
    },
}

impl Kind {
    /// Active latents of a sample, where the kind says it.
    #[must_use]
    pub fn k(&self) -> Option<usize> {
        match self {
            Self::TopK { k } | Self::BatchTopK { k } | Self::MatryoshkaBatchTopK { k, .. } => {
                Some(*k)
            }
            Self::Standard { .. } | Self::Gated { .. } => None,
        }
    }
}

/// What holds the decoder of a gated dictionary back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatedForm {
    /// Unit norm; the auxiliary reconstruction sees a decoder that it does not change.
    UnitNorm,
    /// No constraint: each gate counts as much as its decoder row is long, and the auxiliary
    /// reconstruction changes the decoder too. How SAE-Rad's form is remembered, not read.
    DecoderNorm,
}

/// The unit of squared errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Of the samples' variance, so that 1 is what the mean alone reaches.
    #[default]
    Variance,
    /// As they are, summed over a sample's values (MedSAE, dictionary_learning).
    Squares,
}

/// How the weights begin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Random unit decoder rows, encoder the same, its bias 0.
    Tied,
    /// The same, but the rows begin as samples, mixed with noise.
    Samples,
    /// Kaiming-uniform encoder, uniform bias, normal decoder (MedSAE's code).
    Untied,
}

/// How the rate and `k` move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Adam's step; 0: `2e-4 * sqrt(16384 / latents)` (dictionary_learning's rule, Gao et al.).
    pub rate: f32,
    /// Steps over which it rises.
    pub warm_up: u64,
    /// Share of the steps after which it falls to 0.
    pub decay_from: f32,
    /// `k` begins this many times as large.
    pub k_from: f32,
    /// And has come down after this share of the steps.
    pub k_until: f32,
}

/// Adam, clipping, averaging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimiser {
    /// Decay of the gradient's mean.
    pub beta1: f32,
    /// Decay of its square's.
    pub beta2: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// Largest global norm of a gradient; 0: none.
    pub clip: f32,
    /// Decay of the weights' exponential mean, which is what is exported; 0: the weights.
    pub average: f32,
}

/// What is done about latents that never fire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dead {
    /// Samples without a firing after which a latent is dead; 0: two epochs.
    pub window: u64,
    /// Weight of the auxiliary loss; 0: none.
    pub auxiliary: f32,
    /// Dead latents of a sample that take part in it; 0: half of the input's dimension.
    pub k_auxiliary: usize,
    /// Epochs between two re-seedings; 0: none.
    pub reseed_every: u64,
    /// Share of the steps after which none is re-seeded any more.
    pub reseed_until: f32,
}

/// One training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Latents of the dictionary.
    pub latents: usize,
    /// Selection and loss.
    pub select: Kind,
    /// The unit of squared errors.
    #[serde(default)]
    pub loss: Loss,
    /// First weights and the order of the samples follow from it.
    #[serde(default)]
    pub seed: u64,
    /// Samples of a step.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Times that every sample is seen.
    #[serde(default = "epochs")]
    pub epochs: u64,
    /// How the weights begin.
    #[serde(default = "start")]
    pub start: Start,
    /// Active latents of a sample that the first biases let fire; 0: the biases are those of
    /// `start`, and half of all latents fire (Anthropic, January 2025: "Dictionary learning
    /// optimization techniques"). For kinds without a `k`.
    #[serde(default)]
    pub start_l0: usize,
    /// Rate and `k`.
    #[serde(default)]
    pub schedule: Schedule,
    /// Adam.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// Latents that never fire.
    #[serde(default)]
    pub dead: Dead,
    /// The decoder's rows stay as they begin, and only the encoder learns: a control, which shows
    /// what features of directions at random are worth (2602.14111).
    #[serde(default)]
    pub frozen_decoder: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { rate: 0.0, warm_up: 500, decay_from: 0.8, k_from: 4.0, k_until: 0.1 }
    }
}

impl Default for Optimiser {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 6.25e-10, clip: 1.0, average: 0.999 }
    }
}

impl Default for Dead {
    fn default() -> Self {
        Self {
            window: 0,
            auxiliary: 1.0 / 32.0,
            k_auxiliary: 0,
            reseed_every: 10,
            reseed_until: 0.7,
        }
    }
}

fn one() -> f32 {
    1.0
}

fn batch() -> usize {
    2048
}

fn epochs() -> u64 {
    150
}

fn start() -> Start {
    Start::Tied
}

/// Why a recipe is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("recipe: expected {expected}, found {found}")]
pub struct RecipeError {
    expected: &'static str,
    found: String,
}

impl Recipe {
    /// Can it be trained on samples of `d` values?
    ///
    /// # Errors
    /// A value is out of its range.
    pub fn check(&self, d: usize) -> Result<(), RecipeError> {
        let refuse = |expected, found: &dyn ToString| {
            Err(RecipeError { expected, found: found.to_string() })
        };
        if self.latents == 0 || u32::try_from(self.latents).is_err() {
            return refuse("1 to 4,294,967,295 latents", &self.latents);
        }
        if self.batch == 0 || u32::try_from(self.batch).is_err() {
            return refuse("a batch of 1 to 4,294,967,295 samples", &self.batch);
        }
        if d == 0 {
            return refuse("samples of at least one value", &d);
        }
        if let Some(k) = self.select.k().filter(|k| *k == 0 || *k > self.latents) {
            return refuse("a k of 1 to as many as there are latents", &k);
        }
        let ends = self.groups();
        if !ends.is_sorted_by(|a, b| a < b)
            || ends.first().is_none_or(|first| *first == 0)
            || ends.last() != Some(&self.latents)
        {
            return refuse("rising prefixes up to the number of latents", &format!("{ends:?}"));
        }
        if self.start_l0 >= self.latents || (self.start_l0 > 0 && self.select.k().is_some()) {
            return refuse(
                "a start_l0 of 0, or for kinds without a k of fewer than there are latents",
                &self.start_l0,
            );
        }
        if self.frozen_decoder && self.dead.reseed_every > 0 {
            return refuse("no re-seeding of a frozen decoder", &self.dead.reseed_every);
        }
        Ok(())
    }

    /// Does every decoder row keep length 1?
    #[must_use]
    pub fn unit_norm(&self) -> bool {
        !matches!(self.select, Kind::Gated { form: GatedForm::DecoderNorm, .. })
    }

    /// Weight of a gate times the length of its decoder row, before any warm-up; 0: none.
    #[must_use]
    pub fn norm_penalty(&self) -> (f32, u64) {
        if let Kind::Gated { sparsity, sparsity_warm_up, form: GatedForm::DecoderNorm, .. } =
            self.select
        {
            (sparsity, sparsity_warm_up)
        } else {
            (0.0, 0)
        }
    }

    /// Ends of the groups of latents that are reconstructed one after the other.
    #[must_use]
    pub fn groups(&self) -> Vec<usize> {
        match &self.select {
            Kind::MatryoshkaBatchTopK { prefixes, .. } => prefixes.clone(),
            Kind::Standard { .. }
            | Kind::Gated { .. }
            | Kind::TopK { .. }
            | Kind::BatchTopK { .. } => vec![self.latents],
        }
    }

    /// Adam's step in a run of so many.
    #[must_use]
    pub fn rate_at(&self, step: u64, steps: u64) -> f32 {
        let Schedule { rate, warm_up, decay_from, .. } = self.schedule;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^24 latents")]
        let rate = if rate > 0.0 { rate } else { 2e-4 * (16_384.0 / self.latents as f32).sqrt() };
        if step < warm_up {
            return rate * share(step, warm_up);
        }
        let through = share(step, steps);
        if through < decay_from { rate } else { rate * (1.0 - through) / (1.0 - decay_from) }
    }

    /// Active latents of a sample in a run of so many steps; 0 for kinds without a `k`.
    #[must_use]
    pub fn k_at(&self, step: u64, steps: u64) -> usize {
        let Some(k) = self.select.k() else { return 0 };
        let Schedule { k_from, k_until, .. } = self.schedule;
        let left = (1.0 - share(step, steps) / k_until.max(f32::MIN_POSITIVE)).max(0.0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of latents, far below 2^24"
        )]
        let now = (k as f32 * (1.0 + (k_from - 1.0).max(0.0) * left)).round() as usize;
        now.clamp(k, self.latents)
    }

    /// May latents still be re-seeded?
    #[must_use]
    pub fn reseeds_at(&self, step: u64, steps: u64) -> bool {
        share(step, steps) < self.dead.reseed_until
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a share of steps"
)]
fn share(step: u64, steps: u64) -> f32 {
    (step as f64 / steps.max(1) as f64) as f32
}
