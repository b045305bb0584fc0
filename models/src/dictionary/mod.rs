//! Dictionaries in files: the workshop's own, and those of other libraries.

pub mod foreign;
pub mod outward;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clearfilm::bundle::{Level, Matrix, Sae, Weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::samples::floats;

/// A file that no dictionary can be read from.
#[derive(Debug, thiserror::Error)]
pub enum DictionaryError {
    /// It cannot be read.
    #[error("reading {}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no safetensors file, or a tensor is missing.
    #[error("reading {}: {source}", file.display())]
    Tensor {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// Something in it is not what a dictionary has.
    #[error("reading {}: expected {expected}, found {found}", file.display())]
    Unfit {
        /// Which file.
        file: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// Reads `sae.safetensors` as a bundle carries it, in fp32 or int8.
///
/// # Errors
/// The file cannot be read, or a tensor is missing, misshapen or not finite.
pub fn read(path: &Path) -> Result<Sae, DictionaryError> {
    let bytes =
        fs::read(path).map_err(|source| DictionaryError::Io { file: path.into(), source })?;
    let failed = |source| DictionaryError::Tensor { file: path.into(), source };
    let all = SafeTensors::deserialize(&bytes).map_err(failed)?;
    let tensors = Tensors { file: path, all };
    let w_enc = tensors.weights("w_enc")?;
    let w_dec = tensors.weights("w_dec")?;
    let b_dec = tensors.floats("b_dec")?;
    let (rows, d) = (w_enc.rows(), b_dec.len());
    let sae = Sae {
        level: Level::Embedding,
        b_enc: tensors.vector("b_enc", rows)?,
        threshold: tensors.vector("threshold", rows)?,
        w_enc,
        w_dec,
        b_dec,
    };
    for (name, of) in [("w_enc", &sae.w_enc), ("w_dec", &sae.w_dec)] {
        let width = if of.rows() == 0 { d } else { of.row(0).len() };
        if of.rows() != rows || width != d {
            let found = format!("[{}, {width}]", of.rows());
            return Err(tensors.unfit(format!("{name} of [{rows}, {d}]"), found));
        }
    }
    Ok(sae)
}

/// Tensors of one file.
struct Tensors<'a> {
    file: &'a Path,
    all: SafeTensors<'a>,
}

impl Tensors<'_> {
    fn unfit(&self, expected: impl Into<String>, found: impl Into<String>) -> DictionaryError {
        let (expected, found) = (expected.into(), found.into());
        DictionaryError::Unfit { file: self.file.into(), expected, found }
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, DictionaryError> {
        let failed = |source| DictionaryError::Tensor { file: self.file.into(), source };
        self.all.tensor(name).map_err(failed)
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, DictionaryError> {
        let view = self.view(name)?;
        let Some(values) = floats(&view) else {
            let found = format!("{:?}", view.dtype());
            return Err(self.unfit(format!("{name} in fp32, fp16 or bf16"), found));
        };
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.unfit(format!("finite values in {name}"), value.to_string())),
            None => Ok(values),
        }
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, DictionaryError> {
        let values = self.floats(name)?;
        if values.len() != length {
            let found = values.len().to_string();
            return Err(self.unfit(format!("{length} values in {name}"), found));
        }
        Ok(values)
    }

    fn vector_length(&self, name: &str) -> Result<usize, DictionaryError> {
        Ok(self.view(name)?.shape().iter().product())
    }

    /// A whole number.
    fn whole(&self, name: &str) -> Result<u64, DictionaryError> {
        let view = self.view(name)?;
        let data = view.data();
        let wide = data.first_chunk().map(|b| i64::from_le_bytes(*b));
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is, is refused")]
        let number = match view.dtype() {
            Dtype::I64 => wide,
            Dtype::I32 => data.first_chunk().map(|b| i64::from(i32::from_le_bytes(*b))),
            _ => None,
        };
        let found = format!("{:?} {:?}", view.dtype(), view.shape());
        let number = number.and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| self.unfit(format!("a whole number {name}"), found))
    }

    fn weights(&self, name: &str) -> Result<Weights, DictionaryError> {
        let view = self.view(name)?;
        let &[rows, columns] = view.shape() else {
            return Err(self.unfit(format!("a matrix {name}"), format!("shape {:?}", view.shape())));
        };
        if view.dtype() != Dtype::I8 {
            return Ok(Weights::F32(Matrix { rows, columns, values: self.floats(name)? }));
        }
        let values = view.data().iter().map(|byte| byte.cast_signed()).collect();
        let scale = self.vector(&format!("{name}_scale"), rows)?;
        Ok(Weights::Int8 { columns, values, scale })
    }
}
