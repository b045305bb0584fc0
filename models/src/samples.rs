//! Samples that a dictionary is trained on: rows of one tensor, of a safetensors file or of the
//! shards of an embeddings folder.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use clearfilm::id::Digest;

use crate::embed::{EmbedError, Folder, Manifest};
use crate::table::{self, TableError};

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
    /// A folder has no manifest.
    #[error(transparent)]
    Folder(#[from] EmbedError),
    /// A folder has no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A shard or table is not the one that the manifest lists.
    #[error("{}: expected {expected} as its manifest says, found {found}", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// As listed.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// No row of the folder is wanted.
    #[error("{}: expected rows of {wanted}, found splits {found:?}", folder.display())]
    None {
        /// Where.
        folder: PathBuf,
        /// Split and views.
        wanted: String,
        /// The splits there are.
        found: Vec<String>,
    },
}

/// Which rows of an embeddings folder are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Of this split only.
    pub split: Option<String>,
    /// Of so many views of each picture only, the picture itself first.
    pub views: Option<u32>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.split {
            Some(split) => write!(f, "split {split:?}")?,
            None => write!(f, "any split")?,
        }
        match self.views {
            Some(count) => write!(f, ", the first {count} views"),
            None => write!(f, ", all views"),
        }
    }
}

impl Part {
    fn holds(&self, split: Option<&str>, view: u32) -> bool {
        self.split.as_deref().is_none_or(|wanted| split == Some(wanted))
            && self.views.is_none_or(|count| view < count)
    }
}

impl Samples {
    /// Reads a tensor `[n, d]` or `[n, tokens, d]`, each token a row, of fp32, fp16 or bf16.
    ///
    /// # Errors
    /// The file cannot be read, or the tensor is no matrix of finite numbers.
    pub fn read(file: &Path, tensor: &str) -> Result<Self, SamplesError> {
        let bytes =
            fs::read(file).map_err(|source| SamplesError::Io { file: file.into(), source })?;
        let [n, _, d] = shape(&bytes, file, tensor)?;
        if n == 0 {
            let (file, tensor) = (file.into(), tensor.into());
            let (expected, found) = ("at least one row", "none".into());
            return Err(SamplesError::Unfit { file, tensor, expected, found });
        }
        let values = values(&bytes, file, tensor)?;
        Ok(Self { d, values, digest: Digest::of(&bytes) })
    }

    /// Reads the rows of an embeddings folder that are wanted, in the order of its table.
    ///
    /// # Errors
    /// The folder is not finished, a file is not the one that its manifest lists, or no row is
    /// wanted.
    pub fn read_folder(path: &Path, tensor: &str, part: &Part) -> Result<Self, SamplesError> {
        let folder = Folder::at(path);
        let (manifest, digest) = Manifest::read(&folder)?;
        listed(&folder.rows(), manifest.rows_sha256)?;
        let rows = table::read(&folder.rows())?;
        let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); manifest.shards.len()];
        for at in 0..rows.count() {
            if part.holds(rows.split.get(at), rows.view[at])
                && let Some(shard) = wanted.get_mut(rows.shard[at] as usize)
            {
                shard.push(rows.row[at] as usize);
            }
        }
        let mut samples = Self { d: 0, values: Vec::new(), digest };
        for (index, picked) in wanted.iter().enumerate().filter(|(_, picked)| !picked.is_empty()) {
            let file = folder.shard(index);
            let bytes = listed(&file, manifest.shards[index].sha256)?;
            let [n, each, d] = shape(&bytes, &file, tensor)?;
            if picked.last().is_some_and(|last| *last >= n) {
                let (tensor, found) = (tensor.into(), format!("{n}"));
                let expected = "as many rows as the table says";
                return Err(SamplesError::Unfit { file, tensor, expected, found });
            }
            let values = values(&bytes, &file, tensor)?;
            samples.d = d;
            for row in picked {
                samples.values.extend(&values[row * each * d..][..each * d]);
            }
        }
        if samples.values.is_empty() {
            let wanted = part.to_string();
            let (folder, found) = (path.into(), rows.split.distinct().to_vec());
            return Err(SamplesError::None { folder, wanted, found });
        }
        // Another part of the same folder is other samples.
        samples.digest = Digest::of(format!("{digest}\n{tensor}\n{part}").as_bytes());
        Ok(samples)
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() / self.d
    }
}

/// A file's bytes, if they are those that were listed.
fn listed(file: &Path, expected: Digest) -> Result<Vec<u8>, SamplesError> {
    let bytes = fs::read(file).map_err(|source| SamplesError::Io { file: file.into(), source })?;
    let found = Digest::of(&bytes);
    if found == expected {
        return Ok(bytes);
    }
    Err(SamplesError::Damaged { file: file.into(), expected, found })
}

/// Shape `[n, tokens, d]` of a tensor; a matrix has one token a row.
fn shape(bytes: &[u8], file: &Path, tensor: &str) -> Result<[usize; 3], SamplesError> {
    let failed = |source| SamplesError::Tensor { file: file.into(), tensor: tensor.into(), source };
    let all = SafeTensors::deserialize(bytes).map_err(failed)?;
    let view = all.tensor(tensor).map_err(failed)?;
    let found = match *view.shape() {
        [n, d] if d > 0 => return Ok([n, 1, d]),
        [n, tokens, d] if tokens > 0 && d > 0 => return Ok([n, tokens, d]),
        _ => format!("shape {:?}", view.shape()),
    };
    let expected = "rows and columns, or rows of tokens";
    Err(SamplesError::Unfit { file: file.into(), tensor: tensor.into(), expected, found })
}

/// All values of a tensor.
fn values(bytes: &[u8], file: &Path, tensor: &str) -> Result<Vec<f32>, SamplesError> {
    let failed = |source| SamplesError::Tensor { file: file.into(), tensor: tensor.into(), source };
    let unfit = |expected, found| {
        Err(SamplesError::Unfit { file: file.into(), tensor: tensor.into(), expected, found })
    };
    let all = SafeTensors::deserialize(bytes).map_err(failed)?;
    let view = all.tensor(tensor).map_err(failed)?;
    let Some(values) = floats(&view) else {
        return unfit("fp32, fp16 or bf16", format!("{:?}", view.dtype()));
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => unfit("finite values", format!("{} at value {at}", values[at])),
        None => Ok(values),
    }
}

/// A tensor's values as fp32; none where it holds other numbers than fp32, fp16 and bf16.
pub(crate) fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is, is refused")]
    match view.dtype() {
        Dtype::F32 => Some(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F16 => {
            Some(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
        }
        Dtype::BF16 => {
            Some(data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())
        }
        _ => None,
    }
}
