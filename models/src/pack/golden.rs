//! Golden images of a bundle: drawn pictures, and what the encoder made of them before it was
//! quantised.

use std::path::{Path, PathBuf};

use clearfilm::bundle::{Bundle, Golden, Matrix};
use clearfilm::config::{Config, EngineChoice};
use clearfilm::decode;
use clearfilm::encode::{self, EncodeError};
use clearfilm::preprocess::{self, ModelInput, Picture};
use clearfilm::selftest::{self, Nearness, SelftestError};
use clearfilm::sparse;

use super::plan;

/// Golden outputs that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A picture cannot be read.
    #[error("golden picture {}: {source}", file.display())]
    Picture {
        /// Which.
        file: PathBuf,
        /// Why.
        source: decode::DecodeError,
    },
    /// The engine fails.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The bundle does not give its own golden outputs.
    #[error(transparent)]
    Selftest(#[from] SelftestError),
}

/// What is asked of cosines while it is not known how near they come.
const ANYTHING: f32 = -1.0;

/// Inputs and outputs: pictures fitted as a device fits them, through the encoder that was not
/// quantised, by the engine that is compiled in.
///
/// # Errors
/// A picture cannot be read, or the engine fails.
pub fn make(
    reference: &Bundle,
    asked: &plan::Golden,
    config: &Config,
) -> Result<Golden, GoldenError> {
    let mut encoder = encode::start(EngineChoice::Tract, reference, &config.engine)?;
    let spec = &reference.manifest.input;
    let mut golden = Golden {
        inputs: Vec::new(),
        embedding: Matrix { rows: 0, columns: reference.head.weight.rows, values: Vec::new() },
        code: Matrix { rows: 0, columns: reference.sae.b_enc.len(), values: Vec::new() },
    };
    for name in &asked.names {
        let picture = fitted(&asked.pictures.join(name), reference, config)?;
        golden.inputs.push(picture.pixels.clone());
        let tokens = encoder.encode(&ModelInput::of_fitted(picture, spec))?;
        let embedding = encode::embed(&tokens, &reference.head);
        let code = sparse::encode(&reference.sae, &tokens, &embedding);
        golden.embedding.values.extend(&embedding.values);
        golden.code.values.extend(code.image.dense(golden.code.columns));
        golden.embedding.rows += 1;
        golden.code.rows += 1;
    }
    Ok(golden)
}

fn fitted(file: &Path, bundle: &Bundle, config: &Config) -> Result<Picture, GoldenError> {
    let frame = decode::decode_file(file, &config.decode, &config.dicom.limits)
        .map_err(|source| GoldenError::Picture { file: file.into(), source })?;
    let spec = &bundle.manifest.input;
    Ok(preprocess::fit(&preprocess::render(&frame), spec.fit, [spec.height, spec.width]))
}

/// Engines that golden outputs are held against: both that run on a CPU. What accelerators are there
/// differs between machines, and a bundle must not.
const ENGINES: [EngineChoice; 2] = [EngineChoice::Cpu, EngineChoice::Tract];

/// How near a bundle's file comes to its golden outputs, the worst over both engines.
///
/// # Errors
/// An engine fails, or an output is nearer to another image's.
pub fn nearness(bundle: &Bundle, config: &Config) -> Result<Nearness, GoldenError> {
    let mut open = bundle.clone();
    let spec = &mut open.manifest.golden;
    spec.cosine_min = ANYTHING;
    spec.centred_cosine_min = ANYTHING;
    spec.code_cosine_min = ANYTHING;
    let mut worst = Nearness { cosine: 1.0, centred_cosine: 1.0, code_cosine: 1.0 };
    for choice in ENGINES {
        let mut encoder = encode::start(choice, &open, &config.engine)?;
        let near = selftest::check(&open, encoder.as_mut())?;
        worst.cosine = worst.cosine.min(near.cosine);
        worst.centred_cosine = worst.centred_cosine.min(near.centred_cosine);
        worst.code_cosine = worst.code_cosine.min(near.code_cosine);
    }
    Ok(worst)
}

/// The smallest cosine that a self-test takes: twice as far from 1 as the worst that was seen,
/// rounded outwards to three digits.
#[must_use]
pub fn tolerance(worst: f32) -> f32 {
    let apart = 2.0 * (1.0 - f64::from(worst));
    #[expect(clippy::cast_possible_truncation, reason = "three digits")]
    let least = (((1.0 - apart) * 1000.0).floor() / 1000.0) as f32;
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_twice_as_far_as_the_worst_and_never_nearer() {
        assert!((tolerance(0.999) - 0.998).abs() < 1e-6 || (tolerance(0.999) - 0.997).abs() < 1e-6);
        assert!(tolerance(0.9) < 0.801);
        assert!(tolerance(1.0) <= 1.0);
    }
}
