//! Do a bundle's golden outputs come out on this engine?
//!
//! The golden inputs are fitted 8-bit pictures of phantoms; the golden embeddings and codes come
//! from the workshop's reference. Each output must be near its own golden output *and* nearer to
//! it than to any other: on a weak network all embeddings are alike, and a swapped input would
//! pass a plain cosine.

pub mod child;
pub mod probe;

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, GOLDEN, Matrix, dot};
use crate::encode::{self, EncodeError, Encoder, EngineVerdict, Verdict, count};
use crate::preprocess::{ModelInput, Picture};
use crate::sparse;

/// How near the outputs came, each the worst over the golden set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearness {
    /// Cosine of the embeddings.
    pub cosine: f32,
    /// The same after subtracting the golden set's mean.
    pub centred_cosine: f32,
    /// Cosine of the image codes.
    pub code_cosine: f32,
}

/// Why a bundle and an engine do not fit.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// The engine failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An output is not the golden one.
    #[error("bundle: {file}: input {input}: expected {expected}, found {found}")]
    Mismatch {
        /// The golden file.
        file: &'static str,
        /// Which golden input.
        input: usize,
        /// What is wanted.
        expected: String,
        /// What came out.
        found: String,
    },
    /// None of the engines in the configured order runs.
    #[error("no engine runs this bundle: {}", list(.0))]
    NoEngine(Vec<EngineVerdict>),
}

/// Runs every golden input through an engine and compares.
///
/// # Errors
/// The engine fails, or an output is not the golden one; the error names the golden file.
pub fn check(bundle: &Bundle, encoder: &mut dyn Encoder) -> Result<Nearness, SelftestError> {
    let golden = &bundle.golden;
    let spec = &bundle.manifest.golden;
    let centred_golden = centred(&golden.embedding, &mean(&golden.embedding));
    let mut worst = Nearness { cosine: 1.0, centred_cosine: 1.0, code_cosine: 1.0 };
    for (input, pixels) in golden.inputs.iter().enumerate() {
        let (embedding, code) = encoded(bundle, encoder, pixels)?;
        let mismatch = |expected: String, found: String| SelftestError::Mismatch {
            file: GOLDEN,
            input,
            expected,
            found,
        };
        let cosine = cosine(&embedding, golden.embedding.row(input));
        let centre = mean(&golden.embedding);
        let own: Vec<f32> = embedding.iter().zip(&centre).map(|(e, m)| e - m).collect();
        let nearest = nearest(&own, &centred_golden);
        if nearest != input {
            return Err(mismatch(
                format!("golden embedding {input} as the nearest"),
                format!("golden embedding {nearest}"),
            ));
        }
        let centred_cosine = self::cosine(&own, centred_golden.row(input));
        let code_cosine = self::cosine(&code, golden.code.row(input));
        for (what, found, least) in [
            ("embedding: cosine", cosine, spec.cosine_min),
            ("embedding: centred cosine", centred_cosine, spec.centred_cosine_min),
            ("code: cosine", code_cosine, spec.code_cosine_min),
        ] {
            // Written so that a NaN fails too.
            if !matches!(
                found.partial_cmp(&least),
                Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal)
            ) {
                return Err(mismatch(format!("{what} of at least {least}"), format!("{found}")));
            }
        }
        worst.cosine = worst.cosine.min(cosine);
        worst.centred_cosine = worst.centred_cosine.min(centred_cosine);
        worst.code_cosine = worst.code_cosine.min(code_cosine);
    }
    Ok(worst)
}

/// Why each of the engines that were passed over was.
#[must_use]
pub fn list(verdicts: &[EngineVerdict]) -> String {
    let rejected = verdicts.iter().filter(|v| v.verdict == Verdict::Rejected);
    let parts: Vec<String> = rejected.map(|v| format!("{}: {}", v.name, v.reason)).collect();
    parts.join("; ")
}

/// Embedding and dense code of one golden input.
fn encoded(
    bundle: &Bundle,
    encoder: &mut dyn Encoder,
    pixels: &[u8],
) -> Result<(Vec<f32>, Vec<f32>), EncodeError> {
    let spec = &bundle.manifest.input;
    let picture = Picture { rows: spec.height, columns: spec.width, pixels: pixels.to_vec() };
    let tokens = encoder.encode(&ModelInput::of_fitted(picture, spec))?;
    let embedding = encode::embed(&tokens, &bundle.head);
    let code = sparse::encode(&bundle.sae, &tokens, &embedding);
    Ok((embedding.values, code.image.dense(bundle.manifest.sae.d_sae)))
}

fn mean(matrix: &Matrix) -> Vec<f32> {
    let mut sum = vec![0.0_f32; matrix.columns];
    for row in 0..matrix.rows {
        sum.iter_mut().zip(matrix.row(row)).for_each(|(s, v)| *s += v);
    }
    sum.iter_mut().for_each(|s| *s /= count(matrix.rows));
    sum
}

fn centred(matrix: &Matrix, mean: &[f32]) -> Matrix {
    let rows =
        (0..matrix.rows).flat_map(|row| matrix.row(row).iter().zip(mean).map(|(v, m)| v - m));
    Matrix { values: rows.collect(), ..*matrix }
}

fn nearest(x: &[f32], rows: &Matrix) -> usize {
    let cosines = (0..rows.rows).map(|row| cosine(x, rows.row(row)));
    cosines.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(row, _)| row)
}

/// Cosine; 1 for two zero vectors, 0 where only one is zero.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else if dot(a, a) + dot(b, b) > 0.0 {
        0.0
    } else {
        1.0
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the values are exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn cosines_of_nothing_are_not_nan() {
        assert_eq!(cosine(&[0.0], &[0.0]), 1.0);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
        assert_eq!(cosine(&[2.0, 0.0], &[3.0, 0.0]), 1.0);
    }

    #[test]
    fn the_nearest_row_is_found_by_direction() {
        let rows = Matrix { rows: 2, columns: 2, values: vec![1.0, 0.0, 0.0, 5.0] };
        assert_eq!(nearest(&[0.1, 0.2], &rows), 1);
    }
}
