//! A folder with an encoder alone, as training leaves it: what embeddings are made with before
//! there is a dictionary, a name or a finding.
//!
//! `encoder.onnx` and `head.safetensors` are those of a bundle, and `encoder.toml` is that part of
//! its manifest which is about them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clearfilm::bundle::{
    Activation, Bundle, ENCODER, EncoderSpec, FORMAT, Features, FindingRules, GoldenSpec, Head,
    HeadSpec, InputSpec, Level, Manifest, Matrix, NormaliserSpec, OodModel, OodSpec, Sae, SaeSpec,
    Templates, WeightForm, Weights,
};
use clearfilm::id::Digest;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::samples::floats;

/// What the encoder is, beside its weights.
pub const SPEC: &str = "encoder.toml";
/// The projection, as a bundle carries it.
pub const HEAD: &str = "head.safetensors";

/// `encoder.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What it takes.
    pub input: InputSpec,
    /// What it gives.
    pub encoder: EncoderSpec,
    /// From tokens to the embedding.
    pub head: HeadSpec,
}

/// An encoder folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file cannot be read.
    #[error("reading {}: {source}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `encoder.toml` is not what it should be.
    #[error("reading {}: {source}", file.display())]
    Syntax {
        /// Which.
        file: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// The head is not what the spec says.
    #[error("reading {}: expected {expected}, found {found}", file.display())]
    Unfit {
        /// Which.
        file: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// An encoder and everything that says what its embeddings are.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// `encoder.toml`.
    pub spec: Spec,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// The file of the head.
    pub head_file: Vec<u8>,
    /// From tokens to the embedding.
    pub head: Head,
}

impl Encoder {
    /// Reads a folder.
    ///
    /// # Errors
    /// A file is missing, or not what a bundle's is.
    pub fn read(folder: &Path) -> Result<Self, EncoderError> {
        let bytes = |name: &str| {
            let file = folder.join(name);
            fs::read(&file).map_err(|source| EncoderError::Io { file, source })
        };
        let file = folder.join(SPEC);
        let spec: Spec = toml::from_slice(&bytes(SPEC)?)
            .map_err(|source| EncoderError::Syntax { file, source: Box::new(source) })?;
        let head_file = bytes(HEAD)?;
        let head = head(&folder.join(HEAD), &head_file, &spec)?;
        Ok(Self { onnx: bytes(ENCODER)?, head, head_file, spec })
    }

    /// As a bundle that embeds and does nothing else: what engines and `embed` take. It has no
    /// dictionary, states nothing, and lies in no folder; its digest is that of its three files.
    #[must_use]
    pub fn alone(&self) -> Bundle {
        let [spec, onnx, head] = self.digests();
        let Spec { input, encoder, head: head_spec } = self.spec.clone();
        let (d_model, nothing) = (head_spec.d_model, String::from("an encoder alone"));
        let empty = |columns| Matrix { rows: 0, columns, values: Vec::new() };
        let manifest = Manifest {
            format: FORMAT,
            name: nothing.clone(),
            version: String::from("0"),
            licence: String::from("none"),
            intended_use: nothing,
            clinical: false,
            created: String::new(),
            files: BTreeMap::from([(ENCODER.to_owned(), onnx), (HEAD.to_owned(), head)]),
            input,
            encoder,
            head: head_spec,
            sae: SaeSpec {
                level: Level::Embedding,
                d_sae: 0,
                activation: Activation::JumpRelu,
                weights: WeightForm::F32,
            },
            normaliser: NormaliserSpec { kind: "none".into(), scale: 1.0 },
            ood: OodSpec { components: 0, threshold: f32::MAX, borderline: f32::MAX },
            golden: GoldenSpec {
                count: 0,
                cosine_min: 1.0,
                centred_cosine_min: 1.0,
                code_cosine_min: 1.0,
            },
        };
        Bundle {
            digest: Digest::of(format!("{spec} {onnx} {head}").as_bytes()),
            encoder: Cow::Owned(self.onnx.clone()),
            head: self.head.clone(),
            sae: Sae {
                level: Level::Embedding,
                w_enc: Weights::F32(empty(d_model)),
                b_enc: Vec::new(),
                w_dec: Weights::F32(empty(d_model)),
                b_dec: vec![0.0; d_model],
                threshold: Vec::new(),
            },
            ood: OodModel {
                mean: vec![0.0; self.spec.encoder.d_token],
                components: empty(self.spec.encoder.d_token),
                std: Vec::new(),
                residual_std: 1.0,
                centre: vec![0.0; d_model],
                edge: [1.0; 2],
                threshold: f32::MAX,
                borderline: f32::MAX,
            },
            features: Features { format: 1, named_by: String::new(), features: Vec::new() },
            rules: FindingRules { format: 1, findings: Vec::new(), not_assessed: Vec::new() },
            templates: Templates {
                format: 1,
                language: "en".into(),
                technique: BTreeMap::new(),
                findings: BTreeMap::new(),
                limitations: Vec::new(),
            },
            golden: clearfilm::bundle::Golden {
                inputs: Vec::new(),
                embedding: empty(d_model),
                code: empty(0),
            },
            card: String::new(),
            manifest,
        }
    }

    /// Of spec, graph and head.
    fn digests(&self) -> [Digest; 3] {
        // The spec is numbers and words: forming it cannot fail.
        let spec = serde_json::to_vec(&self.spec).unwrap_or_default();
        [Digest::of(&spec), Digest::of(&self.onnx), Digest::of(&self.head_file)]
    }
}

fn head(file: &Path, bytes: &[u8], spec: &Spec) -> Result<Head, EncoderError> {
    let unfit = |expected: String, found: String| EncoderError::Unfit {
        file: file.into(),
        expected,
        found,
    };
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|error| unfit("a safetensors file".into(), error.to_string()))?;
    let read = |name: &str, shape: &[usize]| {
        let expected = || format!("{name} of fp32 {shape:?}, finite");
        let view = tensors.tensor(name).map_err(|error| unfit(expected(), error.to_string()))?;
        let values = floats(&view).filter(|values| values.iter().all(|value| value.is_finite()));
        match values {
            Some(values) if view.shape() == shape => Ok(values),
            _ => Err(unfit(expected(), format!("{:?} {:?}", view.dtype(), view.shape()))),
        }
    };
    let (rows, columns) = (spec.head.d_model, spec.encoder.d_token);
    let values = read("weight", &[rows, columns])?;
    let bias = tensors.tensor("bias").is_ok().then(|| read("bias", &[rows])).transpose()?;
    let weight = Matrix { rows, columns, values };
    Ok(Head { weight, bias, normalised: spec.head.normalised })
}
