//! A run that can be cut off at any instant and goes on to the same bytes.

use std::collections::HashMap;
use std::fs;
use std::io::Error;
use std::path::{Path, PathBuf};

use clearfilm::id::Digest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::files::{FileError, io, put};
use crate::kernel::Kernel;
use crate::recipe::Recipe;
use crate::train::{Kept, StateError};

/// The layout of the file; another one is refused.
const VERSION: u32 = 2;

/// Name of the metadata entry that holds [`State`].
const STATE: &str = "state";

/// Everything of a run that is no tensor of fp32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Layout of the file.
    pub v: u32,
    /// What is trained.
    pub recipe: Recipe,
    /// What finds who may fire.
    pub kernel: Kernel,
    /// The files that it is trained and held out on.
    pub data: [Digest; 2],
    /// Steps done.
    pub step: u64,
    /// Samples since each latent fired.
    pub silent: Vec<u64>,
    /// What each epoch came to.
    pub history: Vec<Epoch>,
    /// The epoch whose weights are kept as the best; none before the first.
    pub best: Option<u64>,
}

/// What one epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean loss of its steps.
    pub loss: f64,
    /// Dead latents at its end.
    pub dead: usize,
    /// On samples that were held out, selected as in training.
    pub fvu: f64,
}

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no checkpoint.
    #[error("reading {}: {source}", file.display())]
    Format {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// It belongs to another run.
    #[error("{}: expected a checkpoint of {expected}, found another; remove it to begin anew", file.display())]
    Other {
        /// Which file.
        file: PathBuf,
        /// What it should agree in.
        expected: &'static str,
    },
    /// A tensor does not fit.
    #[error(transparent)]
    State(#[from] StateError),
}

impl State {
    /// The state at the first step.
    #[must_use]
    pub fn new(recipe: Recipe, kernel: Kernel, data: [Digest; 2]) -> Self {
        let silent = vec![0; recipe.latents];
        let history = Vec::new();
        Self { v: VERSION, recipe, kernel, data, step: 0, silent, history, best: None }
    }

    /// Writes state and tensors: a new file, synced, in the place of the old one.
    ///
    /// # Errors
    /// The disk fails; the old file stays.
    pub fn write(&self, file: &Path, tensors: &[Kept]) -> Result<(), CheckpointError> {
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|kept| kept.values.iter().flat_map(|value| value.to_le_bytes()).collect())
            .collect();
        let format = |source| CheckpointError::Format { file: file.into(), source };
        let mut views = Vec::new();
        for (kept, bytes) in tensors.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, vec![kept.values.len()], bytes);
            views.push((kept.name.as_str(), view.map_err(format)?));
        }
        let state =
            serde_json::to_string(self).map_err(Error::from).map_err(io("forming", file))?;
        let metadata = HashMap::from([(STATE.to_owned(), state)]);
        let all = safetensors::serialize(views, Some(metadata)).map_err(format)?;
        Ok(put(file, &all)?)
    }

    /// Reads what was written; none where there is no file.
    ///
    /// # Errors
    /// It is no checkpoint, or one of another recipe, of other samples, of another layout or of
    /// another kernel than `asked`; or of one that this CPU does not have.
    pub fn read(
        &self,
        file: &Path,
        asked: Option<Kernel>,
    ) -> Result<Option<(Self, Vec<Kept>)>, CheckpointError> {
        let bytes = match fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io("reading", file))?,
        };
        let format = |source| CheckpointError::Format { file: file.into(), source };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let text = metadata.metadata().as_ref().and_then(|all| all.get(STATE));
        let other = |expected| CheckpointError::Other { file: file.into(), expected };
        let text = text.ok_or(other("this program"))?;
        let found: Self =
            serde_json::from_str(text).map_err(Error::from).map_err(io("understanding", file))?;
        if found.v != self.v {
            return Err(other("this layout"));
        }
        if found.recipe != self.recipe {
            return Err(other("this recipe"));
        }
        if found.data != self.data {
            return Err(other("these samples"));
        }
        if asked.is_some_and(|asked| asked != found.kernel) {
            return Err(other("this kernel"));
        }
        if !found.kernel.runs_here() {
            return Err(other("a kernel that this CPU has"));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(format)?;
        let kept = tensors.iter().map(|(name, view)| Kept {
            name: name.to_owned(),
            values: view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        });
        Ok(Some((found, kept.collect())))
    }
}
