//! `manifest.toml`: what a bundle says of itself. `docs/bundle.md` describes every key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// The bundle format that this software reads.
pub const FORMAT: u32 = 1;

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the bundle format.
    pub format: u32,
    /// Name of the bundle.
    pub name: String,
    /// Version of the bundle.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// What it may be used for, in words.
    pub intended_use: String,
    /// May its results be used in the clinic?
    pub clinical: bool,
    /// Day it was made.
    pub created: String,
    /// SHA-256 of every other file.
    pub files: BTreeMap<String, Digest>,
    /// What the encoder takes.
    pub input: InputSpec,
    /// What the encoder gives.
    pub encoder: EncoderSpec,
    /// From tokens to the embedding.
    pub head: HeadSpec,
    /// The sparse autoencoder.
    pub sae: SaeSpec,
    /// How embeddings were centred and scaled before training; for the record, it is folded in.
    pub normaliser: NormaliserSpec,
    /// Out-of-distribution score.
    pub ood: OodSpec,
    /// Tolerances of the self-test.
    pub golden: GoldenSpec,
}

/// What the encoder takes: `[1, channels, height, width]`, `(pixel / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Channels; a radiograph is repeated into each.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// How a radiograph is brought to `[height, width]`.
    pub fit: Fit,
    /// Mean per channel, of pixels in 0..=1.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, of pixels in 0..=1.
    pub std: Vec<f32>,
}

/// How a radiograph is brought to the encoder's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Padded to a square with black, then Pillow's bicubic (`MedCLIPProcessor`).
    Pad,
    /// Aspect ratio given up, antialiased bilinear (MedSAE's training).
    Squash,
}

/// What the encoder gives: `tokens [1, n_tokens, d_token]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSpec {
    /// Tokens of one image.
    pub n_tokens: usize,
    /// Rows and columns of the token map.
    pub grid: [usize; 2],
    /// Values of one token.
    pub d_token: usize,
    /// Number format of the file.
    pub precision: Precision,
}

/// Number format of an encoder file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point.
    Fp16,
    /// Signed symmetric 8-bit integers with quantise/dequantise pairs.
    Int8,
    /// Weights of signed symmetric 8-bit integers, computed with in 32-bit floating point.
    Int8Weights,
}

/// From tokens to the embedding: `u = W mean(tokens) (+ b)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSpec {
    /// Values of the embedding.
    pub d_model: usize,
    /// The embedding is `u / ||u||`.
    pub normalised: bool,
}

/// The sparse autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeSpec {
    /// What it reads.
    pub level: Level,
    /// Latents.
    pub d_sae: usize,
    /// Its activation.
    pub activation: Activation,
    /// How its weights are stored.
    pub weights: WeightForm,
}

/// What the SAE reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The embedding `[d_model]`.
    Embedding,
    /// Each token `[d_token]`; the image's code is the mean of the tokens' activations.
    Tokens,
}

/// The SAE's activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The pre-activation where it is above the latent's threshold, else 0.
    JumpRelu,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightForm {
    /// 32-bit floating point.
    F32,
    /// Signed 8-bit integers with one scale per latent: `real = q * scale`.
    Int8,
}

/// How embeddings were centred and scaled before the SAE was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormaliserSpec {
    /// Name of the rule.
    pub kind: String,
    /// Factor after centring.
    pub scale: f64,
}

/// Out-of-distribution score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OodSpec {
    /// Principal components used.
    pub components: usize,
    /// Above it an image is out of distribution.
    pub threshold: f32,
    /// Above it an image is borderline.
    pub borderline: f32,
}

/// Tolerances of the self-test, each a smallest cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenSpec {
    /// Golden inputs.
    pub count: usize,
    /// Between an embedding and its golden one.
    pub cosine_min: f32,
    /// The same after subtracting the golden set's mean.
    pub centred_cosine_min: f32,
    /// Between an image's code and its golden one.
    pub code_cosine_min: f32,
}

impl Manifest {
    /// What is wrong with the values themselves, as `(expected, found)`.
    pub(super) fn problem(&self) -> Option<(String, String)> {
        let [rows, columns] = self.encoder.grid;
        let input = &self.input;
        let checks = [
            (self.format == FORMAT, format!("format = {FORMAT}"), self.format.to_string()),
            (
                rows * columns == self.encoder.n_tokens && rows > 0,
                format!("encoder.grid of {} tokens", self.encoder.n_tokens),
                format!("{rows} x {columns}"),
            ),
            (
                (1..=4).contains(&input.channels) && input.mean.len() == input.channels,
                format!("input.mean of {} values", input.channels),
                input.mean.len().to_string(),
            ),
            (
                input.std.len() == input.channels,
                format!("input.std of {} values", input.channels),
                input.std.len().to_string(),
            ),
            (
                input.mean.iter().all(|m| m.is_finite())
                    && input.std.iter().all(|s| s.is_finite() && *s > 0.0),
                "input.mean finite and input.std > 0".into(),
                format!("{:?}, {:?}", input.mean, input.std),
            ),
            (
                (1..=4096).contains(&input.height) && (1..=4096).contains(&input.width),
                "input.height and input.width from 1 to 4096".into(),
                format!("{} x {}", input.height, input.width),
            ),
            (
                self.ood.threshold.is_finite() && self.ood.borderline <= self.ood.threshold,
                "ood.borderline <= ood.threshold, both finite".into(),
                format!("{} and {}", self.ood.borderline, self.ood.threshold),
            ),
            (
                self.golden.count >= GOLDEN_MIN,
                format!("golden.count >= {GOLDEN_MIN}"),
                self.golden.count.to_string(),
            ),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, expected, found)| (expected, found))
    }

    /// Values that the SAE reads at once.
    #[must_use]
    pub fn d_in(&self) -> usize {
        match self.sae.level {
            Level::Embedding => self.head.d_model,
            Level::Tokens => self.encoder.d_token,
        }
    }
}

/// With fewer golden inputs, one taken for another could pass: on a weak network every
/// embedding is alike.
pub const GOLDEN_MIN: usize = 16;
