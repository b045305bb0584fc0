//! The model bundle: encoder, head, SAE, names, rules and sentences, versioned as a whole.
//!
//! A bundle is refused as a whole: a wrong hash, a missing or an unlisted file, an unknown key,
//! a wrong shape or a number that is not finite each give an error that names the file, what was
//! expected and what was found. That its golden outputs come out is checked by `selftest`,
//! which needs an engine. `docs/bundle.md` describes the folder.

mod error;
mod fit;
mod folder;
mod manifest;
mod weights;
mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

pub use error::BundleError;
pub use folder::{embedded_demo, files_in};
pub use manifest::{
    Activation, EncoderSpec, FORMAT, Fit, GOLDEN_MIN, GoldenSpec, HeadSpec, InputSpec, Level,
    Manifest, NormaliserSpec, OodSpec, Precision, SaeSpec, WeightForm,
};
pub use weights::{Matrix, Weights, dot};
pub use words::{
    Calibration, Code, Feature, Features, FindingRule, FindingRules, LabelSource, LatentWeight,
    Sentences, Templates, ValidatedOn, Validation,
};

use crate::config::BundleChoice;
use crate::device::installed_bundle;
use crate::id::Digest;
use weights::TensorFile;

/// Name of the manifest in a bundle folder.
pub const MANIFEST: &str = "manifest.toml";
/// Name of the encoder.
pub const ENCODER: &str = "encoder.onnx";
const HEAD: &str = "head.safetensors";
/// Name of the SAE.
pub const SAE: &str = "sae.safetensors";
const OOD: &str = "ood.safetensors";
/// Name of the features' file.
pub const FEATURES: &str = "features.json";
/// Name of the findings' file.
pub const FINDINGS: &str = "findings.json";
/// Name of the sentences' file.
pub const REPORT: &str = "report.json";
/// Name of the golden inputs and outputs.
pub const GOLDEN: &str = "golden/golden.safetensors";
const CARD: &str = "card.md";

/// Every file that a bundle holds beside its manifest; neither more nor fewer.
const FILES: [&str; 8] = [ENCODER, HEAD, SAE, OOD, FEATURES, FINDINGS, REPORT, GOLDEN];

/// Files of a bundle by their path inside it.
pub type Files = BTreeMap<String, Cow<'static, [u8]>>;

/// A bundle whose bytes, shapes and numbers were checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the manifest, and through its hashes of every file.
    pub digest: Digest,
    /// The ONNX file.
    pub encoder: Cow<'static, [u8]>,
    /// From tokens to the embedding.
    pub head: Head,
    /// The sparse autoencoder.
    pub sae: Sae,
    /// Out-of-distribution model.
    pub ood: OodModel,
    /// Names of latents.
    pub features: Features,
    /// Findings.
    pub rules: FindingRules,
    /// Sentences.
    pub templates: Templates,
    /// Inputs and outputs of the self-test.
    pub golden: Golden,
    /// The model card.
    pub card: String,
}

/// `u = W mean(tokens) (+ b)`; never quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[d_model, d_token]`.
    pub weight: Matrix,
    /// `[d_model]`.
    pub bias: Option<Vec<f32>>,
    /// The embedding is `u / ||u||`.
    pub normalised: bool,
}

/// The sparse autoencoder, mean and scale folded in.
#[derive(Debug, Clone, PartialEq)]
pub struct Sae {
    /// What it reads.
    pub level: Level,
    /// `[d_sae, d_in]`.
    pub w_enc: Weights,
    /// `[d_sae]`.
    pub b_enc: Vec<f32>,
    /// The dictionary `[d_sae, d_in]`.
    pub w_dec: Weights,
    /// `[d_in]`.
    pub b_dec: Vec<f32>,
    /// `[d_sae]`, >= 0: a latent is active above it.
    pub threshold: Vec<f32>,
}

/// Mahalanobis distance in the leading principal components, the rest as one more, and the share
/// that the dictionary leaves over.
#[derive(Debug, Clone, PartialEq)]
pub struct OodModel {
    /// `[d_token]`, of the pooled tokens.
    pub mean: Vec<f32>,
    /// `[components, d_token]`, orthonormal rows.
    pub components: Matrix,
    /// `[components]`, > 0.
    pub std: Vec<f32>,
    /// Root mean square of the rest's norm, > 0.
    pub residual_std: f32,
    /// `[d_in]`: mean of what the SAE reads of training images, from which variance is taken.
    pub centre: Vec<f32>,
    /// Where usual images end, of the distance and of what is left over; > 0.
    pub edge: [f32; 2],
    /// Above it: out of distribution.
    pub threshold: f32,
    /// Above it: borderline.
    pub borderline: f32,
}

/// Inputs and outputs of the self-test.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// Fitted 8-bit pictures `[count][height * width]`.
    pub inputs: Vec<Vec<u8>>,
    /// `[count, d_model]`.
    pub embedding: Matrix,
    /// `[count, d_sae]`.
    pub code: Matrix,
}

impl Bundle {
    /// Loads the configured bundle: a folder; without one what was installed with this program, or
    /// else the embedded demo bundle.
    ///
    /// # Errors
    /// Anything that makes a bundle refused.
    pub fn load(choice: &BundleChoice) -> Result<Self, BundleError> {
        let max_file = choice.max_file.as_u64();
        if !choice.path.as_os_str().is_empty() {
            return Self::from_folder(&choice.path, max_file);
        }
        match installed_bundle() {
            Some(folder) => Self::from_folder(&folder, max_file),
            None => Self::from_files(embedded_demo()),
        }
    }

    /// Loads a folder, each of whose files may have `max_file` bytes.
    ///
    /// # Errors
    /// Anything that makes a bundle refused.
    pub fn from_folder(folder: &Path, max_file: u64) -> Result<Self, BundleError> {
        Self::from_files(files_in(folder, max_file)?)
    }

    /// Checks files and takes them as a bundle.
    ///
    /// # Errors
    /// Anything that makes a bundle refused.
    pub fn from_files(mut files: Files) -> Result<Self, BundleError> {
        let text =
            files.remove(MANIFEST).ok_or_else(|| BundleError::Missing { file: MANIFEST.into() })?;
        let manifest: Manifest = parse_toml(MANIFEST, &text)?;
        if let Some((expected, found)) = manifest.problem() {
            return Err(BundleError::Value { file: MANIFEST.into(), expected, found });
        }
        check_files(&manifest, &files)?;
        let mut take = |file: &str| {
            files.remove(file).ok_or_else(|| BundleError::Missing { file: file.into() })
        };
        let bundle = Self {
            digest: Digest::of(&text),
            encoder: take(ENCODER)?,
            head: head(&manifest, &take(HEAD)?)?,
            sae: sae(&manifest, &take(SAE)?)?,
            ood: ood(&manifest, &take(OOD)?)?,
            features: parse_json(FEATURES, &take(FEATURES)?)?,
            rules: parse_json(FINDINGS, &take(FINDINGS)?)?,
            templates: parse_json(REPORT, &take(REPORT)?)?,
            golden: golden(&manifest, &take(GOLDEN)?)?,
            card: String::from_utf8_lossy(&take(CARD)?).into_owned(),
            manifest,
        };
        bundle.check_words()?;
        Ok(bundle)
    }

    /// Digest of one file as the manifest lists it.
    #[must_use]
    pub fn digest_of(&self, file: &str) -> Digest {
        self.manifest.files.get(file).copied().unwrap_or(self.digest)
    }
}

/// Every file is listed, every listed one is there, and the bytes are those that were listed.
fn check_files(manifest: &Manifest, files: &Files) -> Result<(), BundleError> {
    let known = |file: &str| FILES.contains(&file) || file == CARD;
    let odd = files.keys().find(|f| !manifest.files.contains_key(*f));
    if let Some(file) = odd.or_else(|| manifest.files.keys().find(|f| !known(f))) {
        return Err(BundleError::Unlisted { file: file.clone() });
    }
    for (file, expected) in &manifest.files {
        let bytes = files.get(file).ok_or_else(|| BundleError::Missing { file: file.clone() })?;
        let found = Digest::of(bytes);
        if found != *expected {
            return Err(BundleError::Digest { file: file.clone(), expected: *expected, found });
        }
    }
    Ok(())
}

fn parse_toml<T: serde::de::DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, BundleError> {
    toml::from_slice(bytes)
        .map_err(|e| BundleError::Syntax { file: file.into(), text: e.to_string() })
}

fn parse_json<T: serde::de::DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, BundleError> {
    serde_json::from_slice(bytes)
        .map_err(|e| BundleError::Syntax { file: file.into(), text: e.to_string() })
}

fn head(manifest: &Manifest, bytes: &[u8]) -> Result<Head, BundleError> {
    let mut file = TensorFile::open(HEAD, bytes)?;
    let d_model = manifest.head.d_model;
    let weight = file.matrix("weight", d_model, manifest.encoder.d_token)?;
    let bias = if file.has("bias") { Some(file.f32("bias", &[d_model])?) } else { None };
    file.finish()?;
    Ok(Head { weight, bias, normalised: manifest.head.normalised })
}

fn sae(manifest: &Manifest, bytes: &[u8]) -> Result<Sae, BundleError> {
    let mut file = TensorFile::open(SAE, bytes)?;
    let (d_sae, d_in) = (manifest.sae.d_sae, manifest.d_in());
    let form = manifest.sae.weights;
    let w_enc = weights_of(&mut file, form, ["w_enc", "w_enc_scale"], [d_sae, d_in])?;
    let w_dec = weights_of(&mut file, form, ["w_dec", "w_dec_scale"], [d_sae, d_in])?;
    let b_enc = file.f32("b_enc", &[d_sae])?;
    let b_dec = file.f32("b_dec", &[d_in])?;
    let threshold = file.f32("threshold", &[d_sae])?;
    if let Some(t) = threshold.iter().find(|t| **t < 0.0) {
        return Err(file.value("threshold", "numbers >= 0", t.to_string()));
    }
    file.finish()?;
    Ok(Sae { level: manifest.sae.level, w_enc, b_enc, w_dec, b_dec, threshold })
}

fn weights_of(
    file: &mut TensorFile<'_>,
    form: WeightForm,
    [name, scale_name]: [&'static str; 2],
    [rows, columns]: [usize; 2],
) -> Result<Weights, BundleError> {
    match form {
        WeightForm::F32 => Ok(Weights::F32(file.matrix(name, rows, columns)?)),
        WeightForm::Int8 => {
            let values = file.int8(name, &[rows, columns])?;
            let scale = file.f32(scale_name, &[rows])?;
            match scale.iter().find(|s| **s <= 0.0) {
                None => Ok(Weights::Int8 { columns, values, scale }),
                Some(s) => Err(file.value(scale_name, "numbers > 0", s.to_string())),
            }
        }
    }
}

fn ood(manifest: &Manifest, bytes: &[u8]) -> Result<OodModel, BundleError> {
    let mut file = TensorFile::open(OOD, bytes)?;
    let (d_token, components) = (manifest.encoder.d_token, manifest.ood.components);
    let mean = file.f32("mean", &[d_token])?;
    let matrix = file.matrix("components", components, d_token)?;
    let std = file.f32("std", &[components])?;
    let residual_std = file.f32("residual_std", &[1])?[0];
    let centre = file.f32("centre", &[manifest.d_in()])?;
    let edge = file.f32("edge", &[2])?;
    if let Some(s) = std.iter().chain([&residual_std]).chain(&edge).find(|s| **s <= 0.0) {
        return Err(file.value("std, residual_std and edge", "numbers > 0", s.to_string()));
    }
    file.finish()?;
    let OodSpec { threshold, borderline, .. } = manifest.ood;
    let edge = [edge[0], edge[1]];
    let components = matrix;
    Ok(OodModel { mean, components, std, residual_std, centre, edge, threshold, borderline })
}

fn golden(manifest: &Manifest, bytes: &[u8]) -> Result<Golden, BundleError> {
    let mut file = TensorFile::open(GOLDEN, bytes)?;
    let (count, input) = (manifest.golden.count, &manifest.input);
    let pixels = file.uint8("inputs", &[count, input.height, input.width])?;
    let embedding = file.matrix("embedding", count, manifest.head.d_model)?;
    let code = file.matrix("code", count, manifest.sae.d_sae)?;
    file.finish()?;
    let inputs = pixels.chunks_exact(input.height * input.width).map(<[u8]>::to_vec).collect();
    Ok(Golden { inputs, embedding, code })
}

#[cfg(test)]
mod tests;
