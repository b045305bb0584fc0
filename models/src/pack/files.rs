//! A bundle's files, as they lie in its folder.

use std::collections::BTreeMap;

use clearfilm::bundle::{Bundle, FEATURES, FINDINGS, GOLDEN, MANIFEST, OodModel, REPORT, SAE};
use clearfilm::id::Digest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use serde::Serialize;

use super::assemble::Assembled;
use super::{card, int8};
use crate::export;

/// Name of the out-of-distribution model in a bundle folder.
pub const OOD: &str = "ood.safetensors";
/// Name of the model card.
pub const CARD: &str = "card.md";

/// A bundle that does not make files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Tensors of unequal parts.
    #[error("{file}: {source}")]
    Tensors {
        /// Which file.
        file: &'static str,
        /// Why.
        source: SafeTensorError,
    },
    /// Words that make no text.
    #[error("{file}: {text}")]
    Text {
        /// Which file.
        file: &'static str,
        /// Why.
        text: String,
    },
}

/// Every file of a bundle by its path inside the folder, the manifest with the hashes of the others.
///
/// # Errors
/// Tensors do not fit each other, which only a bundle that was put together by hand can bring about.
pub fn files(assembled: &Assembled) -> Result<BTreeMap<String, Vec<u8>>, FilesError> {
    let bundle = &assembled.bundle;
    let tensors = |file, made: Result<Vec<u8>, SafeTensorError>| {
        made.map_err(|source| FilesError::Tensors { file, source })
    };
    let int8 = matches!(bundle.sae.w_enc, clearfilm::bundle::Weights::Int8 { .. });
    let sae = if int8 { int8::file(&bundle.sae) } else { export::file(&bundle.sae) };
    let mut files = BTreeMap::from([
        (SAE.to_owned(), tensors(SAE, sae)?),
        (OOD.to_owned(), tensors(OOD, ood(&bundle.ood))?),
        (GOLDEN.to_owned(), tensors(GOLDEN, golden(bundle))?),
        (FEATURES.to_owned(), text(FEATURES, &bundle.features)?),
        (FINDINGS.to_owned(), text(FINDINGS, &bundle.rules)?),
        (REPORT.to_owned(), text(REPORT, &bundle.templates)?),
        (CARD.to_owned(), card::text(bundle, &assembled.measured).into_bytes()),
    ]);
    files.extend(assembled.taken.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
    let mut manifest = bundle.manifest.clone();
    manifest.files = files.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect();
    let written = toml::to_string(&manifest)
        .map_err(|error| FilesError::Text { file: MANIFEST, text: error.to_string() })?;
    files.insert(MANIFEST.to_owned(), written.into_bytes());
    Ok(files)
}

/// A JSON file that a human can read and compare.
fn text<T: Serialize>(file: &'static str, value: &T) -> Result<Vec<u8>, FilesError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| FilesError::Text { file, text: error.to_string() })?;
    Ok(format!("{text}\n").into_bytes())
}

/// Name, type, shape and bytes of a tensor.
type Part = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn ood(model: &OodModel) -> Result<Vec<u8>, SafeTensorError> {
    let d = model.mean.len();
    serialised(&[
        ("mean", Dtype::F32, vec![d], fp32(&model.mean)),
        ("components", Dtype::F32, vec![model.std.len(), d], fp32(&model.components.values)),
        ("std", Dtype::F32, vec![model.std.len()], fp32(&model.std)),
        ("residual_std", Dtype::F32, vec![1], fp32(&[model.residual_std])),
        ("centre", Dtype::F32, vec![model.centre.len()], fp32(&model.centre)),
        ("edge", Dtype::F32, vec![2], fp32(&model.edge)),
    ])
}

fn golden(bundle: &Bundle) -> Result<Vec<u8>, SafeTensorError> {
    let (golden, input) = (&bundle.golden, &bundle.manifest.input);
    let n = golden.inputs.len();
    serialised(&[
        ("inputs", Dtype::U8, vec![n, input.height, input.width], golden.inputs.concat()),
        (
            "embedding",
            Dtype::F32,
            vec![n, golden.embedding.columns],
            fp32(&golden.embedding.values),
        ),
        ("code", Dtype::F32, vec![n, golden.code.columns], fp32(&golden.code.values)),
    ])
}

fn serialised(parts: &[Part]) -> Result<Vec<u8>, SafeTensorError> {
    let views = parts.iter().map(|(name, kind, shape, bytes)| {
        Ok((*name, TensorView::new(*kind, shape.clone(), bytes)?))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)
}

fn fp32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
