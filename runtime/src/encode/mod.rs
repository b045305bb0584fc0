//! From a model input to tokens, by one of two engines, and from tokens to the embedding.
//!
//! The engines run the ONNX file up to its spatial tokens. Mean, projection and norm are a few
//! thousand multiplications: they are our own fp32 code in a fixed order of summation, so that a
//! latent's pre-activation splits exactly into one share per token whatever engine ran.
//!
//! An engine is only ever handed a batch of one, so the bits of a reading never depend on a queue.

#[cfg(feature = "ort")]
mod onnxruntime;
#[cfg(feature = "tract")]
mod strip;
#[cfg(feature = "tract")]
mod tract;

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Head, dot};
use crate::config::{self, EngineChoice};
use crate::preprocess::ModelInput;

/// The encoder's output before pooling: the spatial map of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// Tokens, row by row of the grid.
    pub n_tokens: usize,
    /// Values of one token.
    pub d_token: usize,
    /// `[n_tokens, d_token]`, every value finite.
    pub values: Vec<f32>,
}

impl Tokens {
    /// One token `[d_token]`.
    #[must_use]
    pub fn token(&self, index: usize) -> &[f32] {
        &self.values[index * self.d_token..][..self.d_token]
    }

    /// All tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.d_token)
    }

    /// Mean over the tokens `[d_token]`, summed in their order: what the head projects.
    #[must_use]
    pub fn pooled(&self) -> Vec<f32> {
        let mut sum = vec![0.0_f32; self.d_token];
        for token in self.iter() {
            sum.iter_mut().zip(token).for_each(|(s, t)| *s += t);
        }
        let n = count(self.n_tokens);
        sum.iter_mut().for_each(|s| *s /= n);
        sum
    }
}

/// What the encoder and the head say of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[d_model]`; of unit length where the bundle normalises.
    pub values: Vec<f32>,
    /// What `u` was divided by: its length, or 1 where the bundle does not normalise.
    pub norm: f32,
}

/// Which engine runs, truthfully.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// `ort` or `tract`.
    pub backend: String,
    /// Execution provider.
    pub provider: String,
    /// Number format in which it computes.
    pub precision: String,
    /// Version of the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
}

/// An engine that was asked for and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineVerdict {
    /// As the configuration names it.
    pub name: String,
    /// It runs, or was not needed, or failed.
    pub verdict: Verdict,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What became of an engine that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It reads images.
    Running,
    /// An engine before it in the order runs.
    NotNeeded,
    /// It could not be started or failed the self-test.
    Rejected,
}

/// Why an engine could not be started or run.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// This binary was built without the engine.
    #[error("engine {0}: not in this build (Cargo feature)")]
    NotBuilt(&'static str),
    /// The library cannot be loaded.
    #[error("engine cpu: loading {library}: {text}")]
    Library {
        /// Path or name that was tried.
        library: String,
        /// What the loader said.
        text: String,
    },
    /// The engine refuses the bundle's encoder.
    #[error("bundle: encoder.onnx: engine {engine}: {text}")]
    Load {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        text: String,
    },
    /// The engine failed on an image.
    #[error("engine {engine}: running the encoder: {text}")]
    Run {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        text: String,
    },
    /// The encoder's output has another shape.
    #[error("bundle: encoder.onnx: output tokens: expected {expected:?}, found {found:?}")]
    Shape {
        /// From the manifest.
        expected: [usize; 3],
        /// From the engine.
        found: Vec<usize>,
    },
    /// The encoder gave something that is not a number.
    #[error("encoder output: expected finite numbers, found {found} at index {at}")]
    NotFinite {
        /// The value.
        found: f32,
        /// Where.
        at: usize,
    },
}

/// Runs the bundle's encoder on one image at a time.
pub trait Encoder: Send {
    /// Tokens of one image.
    ///
    /// # Errors
    /// The engine fails, or gives another shape or numbers that are not finite.
    fn encode(&mut self, input: &ModelInput) -> Result<Tokens, EncodeError>;

    /// Which engine this is.
    fn engine(&self) -> &Engine;
}

/// Starts one engine on a bundle's encoder.
///
/// # Errors
/// The engine is not in this build, its library cannot be loaded, or it refuses the file.
pub fn start(
    choice: EngineChoice,
    bundle: &Bundle,
    config: &config::Engine,
) -> Result<Box<dyn Encoder>, EncodeError> {
    match choice {
        #[cfg(feature = "ort")]
        EngineChoice::Cpu => Ok(Box::new(onnxruntime::OnnxRuntime::start(bundle, config)?)),
        #[cfg(not(feature = "ort"))]
        EngineChoice::Cpu => Err(EncodeError::NotBuilt("cpu")),
        #[cfg(feature = "tract")]
        EngineChoice::Tract => Ok(Box::new(tract::Tract::start(bundle)?)),
        #[cfg(not(feature = "tract"))]
        EngineChoice::Tract => Err(EncodeError::NotBuilt("tract")),
    }
}

/// Pools and projects: `u = W mean(tokens) (+ b)`, `e = u / ||u||` where the bundle normalises.
#[must_use]
pub fn embed(tokens: &Tokens, head: &Head) -> Embedding {
    let mean = tokens.pooled();
    let mut values: Vec<f32> =
        (0..head.weight.rows).map(|row| dot(head.weight.row(row), &mean)).collect();
    if let Some(bias) = &head.bias {
        values.iter_mut().zip(bias).for_each(|(value, b)| *value += b);
    }
    let norm = if head.normalised { dot(&values, &values).sqrt() } else { 1.0 };
    // An all-zero projection has no direction: it stays zero, and out of distribution.
    let norm = if norm > 0.0 { norm } else { 1.0 };
    values.iter_mut().for_each(|value| *value /= norm);
    Embedding { values, norm }
}

/// A small count as fp32.
#[expect(clippy::cast_precision_loss, reason = "token grids have far fewer than 2^24 tokens")]
pub(crate) fn count(n: usize) -> f32 {
    n as f32
}

/// Checks an engine's output and takes it as tokens.
#[cfg(any(feature = "ort", feature = "tract"))]
fn tokens_from(
    [n_tokens, d_token]: [usize; 2],
    shape: &[usize],
    values: &[f32],
) -> Result<Tokens, EncodeError> {
    let expected = [1, n_tokens, d_token];
    if shape != expected {
        return Err(EncodeError::Shape { expected, found: shape.to_vec() });
    }
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return Err(EncodeError::NotFinite { found: values[at], at });
    }
    Ok(Tokens { n_tokens, d_token, values: values.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Matrix;

    fn tokens(values: &[f32]) -> Tokens {
        Tokens { n_tokens: 2, d_token: 2, values: values.to_vec() }
    }

    #[test]
    fn the_embedding_is_the_projected_mean_at_unit_length() {
        let weight = Matrix { rows: 2, columns: 2, values: vec![1.0, 0.0, 0.0, 2.0] };
        let head = Head { weight, bias: None, normalised: true };
        let embedding = embed(&tokens(&[3.0, 1.0, 3.0, 3.0]), &head);
        // mean = (3, 2), u = (3, 4), ||u|| = 5
        assert_eq!(embedding, Embedding { values: vec![0.6, 0.8], norm: 5.0 });
    }

    #[test]
    fn an_image_without_signal_has_a_zero_embedding_not_nan() {
        let weight = Matrix { rows: 1, columns: 2, values: vec![1.0, 1.0] };
        let head = Head { weight, bias: None, normalised: true };
        assert_eq!(embed(&tokens(&[0.0; 4]), &head).values, [0.0]);
    }
}
