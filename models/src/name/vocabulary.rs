//! Names without a server: the word whose embedding lies nearest to a feature's direction
//! (MedSAE's second way, `assign_names.py`).
//!
//! It needs the text tower that was taught together with the image encoder; words of any other
//! tower lie anywhere.

use std::fs;

use clearfilm::bundle::Sae;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use super::plan::Words;
use super::{NameError, unfit};
use crate::files::io;

/// Name of the tensor of words, `[words, d_model]`.
const TENSOR: &str = "text";

/// A feature's nearest word.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Match {
    /// Latent of the dictionary.
    pub latent: usize,
    /// The word.
    pub word: String,
    /// Cosine of the two after both lost their means, -1 to 1.
    pub cosine: f64,
    /// That cosine less the second word's: near 0, the word was picked by a hair.
    pub margin: f64,
    /// The second word.
    pub second: String,
}

/// The nearest word of each feature's direction in the decoder.
///
/// # Errors
/// A file cannot be read, or is not of the dictionary's width, or there are fewer than two words.
pub fn matched(sae: &Sae, words: &Words) -> Result<Vec<Match>, NameError> {
    let text = fs::read_to_string(&words.words).map_err(io("reading", &words.words))?;
    let list: Vec<&str> = text.lines().map(str::trim).filter(|word| !word.is_empty()).collect();
    let bytes = fs::read(&words.embeddings).map_err(io("reading", &words.embeddings))?;
    let failed = |source| NameError::Tensors { file: words.embeddings.clone(), source };
    let all = SafeTensors::deserialize(&bytes).map_err(failed)?;
    let tensor = all.tensor(TENSOR).map_err(failed)?;
    let d = sae.b_dec.len();
    if tensor.shape() != [list.len(), d] || tensor.dtype() != Dtype::F32 || list.len() < 2 {
        let expected = format!("two words or more, and fp32 [{}, {d}]", list.len());
        let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        return Err(unfit(words.embeddings.display().to_string(), expected, found));
    }
    let values = tensor.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
    let vocabulary = directions(values.collect(), d);
    let rows = (0..sae.b_enc.len()).flat_map(|latent| sae.w_dec.row(latent)).map(f64::from);
    let decoder = directions(rows.collect(), d);
    let one = |(latent, own): (usize, &[f64])| {
        let cosine = |word: &[f64]| word.iter().zip(own).map(|(a, b)| a * b).sum::<f64>();
        let mut cosines: Vec<(f64, usize)> =
            vocabulary.chunks_exact(d).map(cosine).zip(0..).collect();
        cosines.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (cosine, first) = cosines[0];
        let (next, second) = cosines[1];
        let [word, second] = [first, second].map(|at: usize| list[at].to_owned());
        Match { latent, word, cosine, margin: cosine - next, second }
    };
    Ok(decoder.par_chunks_exact(d).enumerate().map(one).collect())
}

/// Rows without their mean, each of length 1.
fn directions(mut rows: Vec<f64>, d: usize) -> Vec<f64> {
    let n = super::score::whole(rows.len() / d);
    let mut mean = vec![0.0; d];
    for row in rows.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / n);
    }
    for row in rows.chunks_exact_mut(d) {
        row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}
