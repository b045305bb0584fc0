//! From a model input to tokens, by one of two engines, and from tokens to the embedding.
//!
//! The engines run the ONNX file up to its spatial tokens. Mean, projection and norm are a few
//! thousand multiplications: they are our own fp32 code in a fixed order of summation, so that a
//! latent's pre-activation splits exactly into one share per token whatever engine ran.
//!
//! An engine is only ever handed a batch of one, so the bits of a reading never depend on a queue.

mod error;
#[cfg(feature = "ort")]
mod onnxruntime;
pub mod built;
pub mod platform;
mod status;
#[cfg(feature = "tract")]
mod strip;
#[cfg(feature = "tract")]
mod tract;
// The parser of ONNX files is tract's.
#[cfg(all(feature = "tract", feature = "ort", target_arch = "x86_64"))]
mod unsigned;

use std::path::Path;

use crate::bundle::{Bundle, Head, dot};
use crate::config::{self, EngineChoice};
use crate::preprocess::ModelInput;

pub use error::EncodeError;
pub use status::{Engine, EngineVerdict, Nodes, Verdict};

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

/// Runs the bundle's encoder on one image at a time.
pub trait Encoder: Send {
    /// Tokens of one image.
    ///
    /// # Errors
    /// The engine fails, or gives another shape or numbers that are not finite.
    fn encode(&mut self, input: &ModelInput) -> Result<Tokens, EncodeError>;

    /// Which engine this is.
    fn engine(&self) -> &Engine;

    /// Who holds the graph's nodes.
    fn nodes(&self) -> &Nodes;
}

/// Starts one engine on a bundle's encoder; what TensorRT builds is forgotten with the process.
///
/// # Errors
/// The engine is not in this build, its library cannot be loaded, its provider is missing or holds
/// nothing of the graph, or it refuses the file.
pub fn start(
    choice: EngineChoice,
    bundle: &Bundle,
    config: &config::Engine,
) -> Result<Box<dyn Encoder>, EncodeError> {
    start_with(choice, bundle, config, None)
}

/// The same, with the folder where TensorRT finds the engines that it built and leaves new ones.
/// Whoever names one has checked what lies in it: a built engine is native code.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    choice: EngineChoice,
    bundle: &Bundle,
    config: &config::Engine,
    built: Option<&Path>,
) -> Result<Box<dyn Encoder>, EncodeError> {
    match choice {
        #[cfg(feature = "ort")]
        EngineChoice::TensorRt | EngineChoice::Cuda | EngineChoice::Cpu => {
            Ok(Box::new(onnxruntime::OnnxRuntime::start(choice, bundle, config, built)?))
        }
        #[cfg(not(feature = "ort"))]
        EngineChoice::TensorRt | EngineChoice::Cuda | EngineChoice::Cpu => {
            Err(EncodeError::NotBuilt(choice.name()))
        }
        #[cfg(feature = "tract")]
        EngineChoice::Tract => Ok(Box::new(tract::Tract::start(bundle, config.threads)?)),
        #[cfg(not(feature = "tract"))]
        EngineChoice::Tract => Err(EncodeError::NotBuilt("tract")),
    }
}

/// Everything that a built engine depends on beside the bundle: library, driver, CUDA, TensorRT,
/// GPU and options, as they are when the provider is registered.
///
/// # Errors
/// The library cannot be loaded, or does not give TensorRT.
pub fn platform(config: &config::Engine) -> Result<platform::Platform, EncodeError> {
    #[cfg(feature = "ort")]
    {
        onnxruntime::platform(config)
    }
    #[cfg(not(feature = "ort"))]
    {
        Err(EncodeError::NotBuilt(EngineChoice::TensorRt.name()))
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
