//! Samples that a dictionary is trained on: rows of one tensor of a safetensors file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use clearfilm::id::Digest;

/// Rows of fp32, and what they were read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Values of a row.
    pub d: usize,
    /// `[n, d]`, every value finite.
    pub values: Vec<f32>,
    /// Of the file.
    pub digest: Digest,
}

/// A file that no samples can be read from.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// It cannot be read.
    #[error("reading {}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no safetensors file, or has no such tensor.
    #[error("reading tensor {tensor} of {}: {source}", file.display())]
    Tensor {
        /// Which file.
        file: PathBuf,
        /// Which tensor.
        tensor: String,
        /// Why.
        source: SafeTensorError,
    },
    /// The tensor is something else.
    #[error("reading tensor {tensor} of {}: expected {expected}, found {found}", file.display())]
    Unfit {
        /// Which file.
        file: PathBuf,
        /// Which tensor.
        tensor: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

impl Samples {
    /// Reads a tensor `[n, d]` of fp32, fp16 or bf16.
    ///
    /// # Errors
    /// The file cannot be read, or the tensor is no matrix of finite numbers.
    pub fn read(file: &Path, tensor: &str) -> Result<Self, SamplesError> {
        let bytes =
            fs::read(file).map_err(|source| SamplesError::Io { file: file.into(), source })?;
        let failed =
            |source| SamplesError::Tensor { file: file.into(), tensor: tensor.into(), source };
        let unfit = |expected, found| {
            Err(SamplesError::Unfit { file: file.into(), tensor: tensor.into(), expected, found })
        };
        let all = SafeTensors::deserialize(&bytes).map_err(failed)?;
        let view = all.tensor(tensor).map_err(failed)?;
        let &[n, d] = view.shape() else {
            return unfit("a matrix", format!("shape {:?}", view.shape()));
        };
        if n == 0 || d == 0 {
            return unfit("at least one row and column", format!("{n} x {d}"));
        }
        let data = view.data();
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is, is refused")]
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::BF16 => {
                data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => return unfit("fp32, fp16 or bf16", format!("{other:?}")),
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return unfit("finite values", format!("{} in row {}", values[at], at / d));
        }
        Ok(Self { d, values, digest: Digest::of(&bytes) })
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() / self.d
    }
}
