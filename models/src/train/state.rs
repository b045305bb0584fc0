//! Everything that a later step depends on, as tensors, and back.

use super::{Moments, Trainer, Weights};
use crate::recipe::Recipe;

/// A tensor of a trainer that was put away.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// All values, row-major.
    pub values: Vec<f32>,
}

/// What was put away does not make a trainer for this recipe.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("tensor {name}: expected {expected} values, found {}", found.map_or("none".into(), |n| n.to_string()))]
pub struct StateError {
    name: String,
    expected: usize,
    found: Option<usize>,
}

impl Weights {
    /// As tensors `{prefix}.records` and `{prefix}.b_dec`.
    #[must_use]
    pub fn kept(&self, prefix: &str) -> [Kept; 2] {
        let kept = |part: &str, values: &[f32]| Kept {
            name: format!("{prefix}.{part}"),
            values: values.to_vec(),
        };
        [kept("records", &self.records), kept("b_dec", &self.b_dec)]
    }

    /// From tensors of that name.
    ///
    /// # Errors
    /// One is missing, or has another size.
    pub fn from_kept(
        all: &[Kept],
        prefix: &str,
        latents: usize,
        d: usize,
    ) -> Result<Self, StateError> {
        let mut weights = Self::zeros(latents, d);
        for (part, values) in [("records", &mut weights.records), ("b_dec", &mut weights.b_dec)] {
            let name = format!("{prefix}.{part}");
            let found = all.iter().find(|kept| kept.name == name).map(|kept| &kept.values);
            match found.filter(|found| found.len() == values.len()) {
                Some(found) => values.copy_from_slice(found),
                None => {
                    let (expected, found) = (values.len(), found.map(Vec::len));
                    return Err(StateError { name, expected, found });
                }
            }
        }
        Ok(weights)
    }
}

impl Trainer {
    /// All tensors; with them [`Self::silent`] and [`Self::step_number`] are the whole state.
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        let mut all = Vec::from(self.weights.kept("weights"));
        all.extend(self.moments.mean.kept("moment1"));
        all.extend(self.moments.square.kept("moment2"));
        all.extend(self.average.iter().flat_map(|average| average.kept("average")));
        all
    }

    /// Samples since each latent fired.
    #[must_use]
    pub fn silent(&self) -> &[u64] {
        &self.silent
    }

    /// Goes on where another trainer was put away.
    ///
    /// # Errors
    /// A tensor is missing, or has another size than the recipe asks for.
    pub fn resume(
        recipe: Recipe,
        all: &[Kept],
        (d, samples): (usize, u64),
        (step, silent): (u64, Vec<u64>),
    ) -> Result<Self, StateError> {
        let latents = recipe.latents;
        let weights = |prefix| Weights::from_kept(all, prefix, latents, d);
        if silent.len() != latents {
            let (expected, found) = (latents, Some(silent.len()));
            return Err(StateError { name: "silent".into(), expected, found });
        }
        let mut trainer = Self::new(recipe, weights("weights")?, samples);
        trainer.moments =
            Moments { mean: weights("moment1")?, square: weights("moment2")?, steps: step };
        if trainer.average.is_some() {
            trainer.average = Some(weights("average")?);
        }
        trainer.silent = silent;
        Ok(trainer)
    }
}
