//! Do a bundle's golden outputs come out on this engine?
//!
//! The golden inputs are fitted 8-bit pictures of phantoms; the golden embeddings and codes come
//! from the workshop's reference. Each output must be near its own golden output *and* nearer to
//! it than to any other: on a weak network all embeddings are alike, and a swapped input would
//! pass a plain cosine.

use crate::bundle::{Bundle, GOLDEN, Matrix, dot};
use crate::config::{self, EngineChoice};
use crate::encode::{self, EncodeError, Encoder, EngineVerdict, Verdict, count};
use crate::preprocess::{ModelInput, Picture};
use crate::sparse;

/// How near the outputs came, each the worst over the golden set.
#[derive(Debug, Clone, PartialEq)]
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

/// Starts the first engine of the configured order that passes [`check`], and says what became
/// of the others.
///
/// # Errors
/// No engine passes; the error says why for each.
pub fn start_engine(
    bundle: &Bundle,
    config: &config::Engine,
) -> Result<(Box<dyn Encoder>, Vec<EngineVerdict>), SelftestError> {
    let mut verdicts = Vec::new();
    let mut running: Option<Box<dyn Encoder>> = None;
    for &choice in &config.order {
        let name = name(choice).to_owned();
        if running.is_some() {
            verdicts.push(EngineVerdict {
                name,
                verdict: Verdict::NotNeeded,
                reason: String::new(),
            });
            continue;
        }
        let started = encode::start(choice, bundle, config).map_err(SelftestError::from);
        let checked =
            started.and_then(|mut encoder| check(bundle, encoder.as_mut()).map(|_| encoder));
        match checked {
            Ok(encoder) => {
                running = Some(encoder);
                verdicts.push(EngineVerdict {
                    name,
                    verdict: Verdict::Running,
                    reason: String::new(),
                });
            }
            Err(e) => verdicts.push(EngineVerdict {
                name,
                verdict: Verdict::Rejected,
                reason: e.to_string(),
            }),
        }
    }
    match running {
        Some(encoder) => Ok((encoder, verdicts)),
        None => Err(SelftestError::NoEngine(verdicts)),
    }
}

/// An engine's name in the configuration.
#[must_use]
pub fn name(choice: EngineChoice) -> &'static str {
    match choice {
        EngineChoice::Cpu => "cpu",
        EngineChoice::Tract => "tract",
    }
}

fn list(verdicts: &[EngineVerdict]) -> String {
    let parts: Vec<String> = verdicts.iter().map(|v| format!("{}: {}", v.name, v.reason)).collect();
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
