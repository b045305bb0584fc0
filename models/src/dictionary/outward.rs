//! A dictionary in the form that another library reads.
//!
//! What a device runs is a JumpReLU on samples as they come: `b_dec` is not taken from them first.
//! dictionary_learning and SAELens have that form; sparsify knows only the `k` largest, medsae's
//! Matryoshka one threshold for all, so what cannot be said there is refused.

use clearfilm::bundle::{Sae, Weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use serde_json::json;

use crate::kernel::dot;

/// Who is to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `JumpReluAutoEncoder`.
    DictionaryLearning,
    /// Architecture `jumprelu`.
    SaeLens,
    /// `SparseCoder` of the `k` largest.
    Sparsify {
        /// How many fire.
        k: usize,
    },
    /// `MatryoshkaBatchTopKSAE` of EIDOSLAB/medsae, as one group.
    Medsae {
        /// How many fire in the mean.
        k: usize,
    },
}

/// Files of a dictionary: names and bytes.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A dictionary that a library has no form for.
#[derive(Debug, thiserror::Error)]
pub enum OutwardError {
    /// Its thresholds differ.
    #[error("{library}: expected one threshold for all latents, found {least} to {most}")]
    Thresholds {
        /// Which library.
        library: &'static str,
        /// The smallest.
        least: f32,
        /// The largest.
        most: f32,
    },
    /// Tensors that make no file.
    #[error(transparent)]
    Tensors(#[from] SafeTensorError),
}

/// Writes a dictionary for a library.
///
/// # Errors
/// The library has no form for it.
pub fn files(sae: &Sae, library: Library) -> Result<Files, OutwardError> {
    let (latents, d) = (sae.b_enc.len(), sae.b_dec.len());
    let (w_enc, w_dec) = (rows(&sae.w_enc), rows(&sae.w_dec));
    let over = turned(&w_enc, d);
    let (name, mut tensors, (settings_name, settings)) = match library {
        Library::DictionaryLearning | Library::SaeLens => {
            let tensors = vec![
                ("W_enc", vec![d, latents], over),
                ("b_enc", vec![latents], sae.b_enc.clone()),
                ("W_dec", vec![latents, d], w_dec),
                ("threshold", vec![latents], sae.threshold.clone()),
            ];
            if library == Library::SaeLens {
                ("sae_weights.safetensors", tensors, sae_lens(d, latents))
            } else {
                let trainer = json!({
                    "dict_class": "JumpReluAutoEncoder", "activation_dim": d, "dict_size": latents,
                });
                let settings = json!({ "trainer": trainer, "apply_b_dec_to_input": false });
                ("ae.safetensors", tensors, ("config.json", settings))
            }
        }
        Library::Sparsify { k } => {
            let tensors = vec![
                ("encoder.weight", vec![latents, d], w_enc.clone()),
                ("encoder.bias", vec![latents], centred(sae, &w_enc)),
                ("W_dec", vec![latents, d], w_dec),
            ];
            let settings = json!({
                "d_in": d, "num_latents": latents, "k": k, "activation": "topk",
                "normalize_decoder": false, "expansion_factor": latents / d.max(1),
                "multi_topk": false, "skip_connection": false, "transcode": false,
            });
            ("sae.safetensors", tensors, ("cfg.json", settings))
        }
        Library::Medsae { k } => {
            let tensors = vec![
                ("W_enc", vec![d, latents], over),
                ("b_enc", vec![latents], centred(sae, &w_enc)),
                ("W_dec", vec![latents, d], w_dec),
                ("threshold", vec![], vec![one_threshold(sae, "medsae")?]),
            ];
            let settings = json!({ "k": k, "group_sizes": [latents] });
            ("ae.safetensors", tensors, ("config.json", settings))
        }
    };
    tensors.push(("b_dec", vec![d], sae.b_dec.clone()));
    let mut whole: Vec<(&str, Vec<usize>, Vec<u8>)> = Vec::new();
    if let Library::Medsae { k } = library {
        let bytes = |n: usize| (n as u64).to_le_bytes().to_vec();
        whole.push(("k", vec![], bytes(k)));
        whole.push(("group_sizes", vec![1], bytes(latents)));
    }
    let settings = format!("{settings:#}\n").into_bytes();
    Ok(vec![(name, file(&tensors, &whole)?), (settings_name, settings)])
}

fn sae_lens(d: usize, latents: usize) -> (&'static str, serde_json::Value) {
    let settings = json!({
        "architecture": "jumprelu", "d_in": d, "d_sae": latents, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": false, "normalize_activations": "none",
        "reshape_activations": "none", "metadata": {},
    });
    ("cfg.json", settings)
}

fn one_threshold(sae: &Sae, library: &'static str) -> Result<f32, OutwardError> {
    let least = sae.threshold.iter().fold(f32::INFINITY, |least, t| least.min(*t));
    let most = sae.threshold.iter().fold(0.0_f32, |most, t| most.max(*t));
    if least < most {
        return Err(OutwardError::Thresholds { library, least, most });
    }
    Ok(most)
}

/// The encoder's bias for samples that `b_dec` was taken from.
fn centred(sae: &Sae, w_enc: &[f32]) -> Vec<f32> {
    let rows = w_enc.chunks_exact(sae.b_dec.len());
    sae.b_enc.iter().zip(rows).map(|(bias, row)| bias + dot(row, &sae.b_dec)).collect()
}

fn rows(weights: &Weights) -> Vec<f32> {
    (0..weights.rows()).flat_map(|row| weights.row(row)).collect()
}

/// `[latents, d]` as `[d, latents]`.
fn turned(values: &[f32], d: usize) -> Vec<f32> {
    let latents = values.len() / d.max(1);
    (0..d).flat_map(|column| (0..latents).map(move |row| values[row * d + column])).collect()
}

fn file(
    floats: &[(&str, Vec<usize>, Vec<f32>)],
    whole: &[(&str, Vec<usize>, Vec<u8>)],
) -> Result<Vec<u8>, SafeTensorError> {
    let bytes: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = floats
        .iter()
        .map(|(name, shape, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (*name, Dtype::F32, shape.clone(), bytes)
        })
        .chain(
            whole
                .iter()
                .map(|(name, shape, bytes)| (*name, Dtype::I64, shape.clone(), bytes.clone())),
        )
        .collect();
    let views = bytes.iter().map(|(name, dtype, shape, bytes)| {
        Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)
}
