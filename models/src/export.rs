//! From a trained dictionary to the one that a bundle carries: centring and scale folded into the
//! weights, one threshold a latent in the place of any selection over others.

use clearfilm::bundle::{Level, Matrix, Sae, Weights as Stored};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use crate::normalise::Normaliser;
use crate::recipe::Kind;
use crate::train::{Selection, Weights};

/// Training samples that a threshold is taken from, at most. Its error falls with their root: of
/// 65,536 samples with 32 firings each the threshold's frequency is known to 0.07 %.
const THRESHOLD_SAMPLES: usize = 65_536;

/// Thresholds in normalised units, `[latents]`: a latent fires where its pre-activation is above.
///
/// A dictionary that selects over a sample or a batch gets one for all: the value above which `k`
/// latents of a sample fire in the mean, so that no image depends on others.
#[must_use]
pub fn thresholds(weights: &Weights, kind: &Kind, samples: &[f32]) -> Vec<f32> {
    let latents = weights.latents();
    match kind {
        Kind::Standard { .. } => vec![0.0; latents],
        Kind::Gated { .. } => {
            // The gate opens above -b_gate, where the magnitude's pre-activation is this.
            let layout = weights.layout();
            let at = |latent: usize| {
                let record = weights.record(latent);
                let opens =
                    record[layout.b_mag()] - record[layout.r_mag()].exp() * record[layout.b_enc()];
                opens.max(0.0)
            };
            (0..latents).map(at).collect()
        }
        Kind::TopK { k } | Kind::BatchTopK { k } | Kind::MatryoshkaBatchTopK { k, .. } => {
            let samples = &samples[..samples.len().min(THRESHOLD_SAMPLES * weights.d)];
            let parts = Selection::Batch { k: *k }.of(weights, samples);
            let values = parts.iter().flat_map(|part| part.samples().flatten()).map(|f| f.value);
            let least = values.reduce(f32::min).unwrap_or(0.0);
            vec![least.next_down().max(0.0); latents]
        }
    }
}

/// The dictionary as a device runs it: on embeddings as the bundle's head gives them.
#[must_use]
pub fn fold(weights: &Weights, kind: &Kind, thresholds: &[f32], normaliser: &Normaliser) -> Sae {
    let (d, latents, layout) = (weights.d, weights.latents(), weights.layout());
    let Normaliser { mean, scale } = normaliser;
    let gated = matches!(kind, Kind::Gated { .. });
    let mut sae = Sae {
        level: Level::Embedding,
        w_enc: Stored::F32(Matrix { rows: latents, columns: d, values: Vec::new() }),
        b_enc: Vec::with_capacity(latents),
        w_dec: Stored::F32(Matrix { rows: latents, columns: d, values: Vec::new() }),
        b_dec: weights.b_dec.iter().zip(mean).map(|(b, mean)| b / scale + mean).collect(),
        threshold: thresholds.to_vec(),
    };
    let (mut w_enc, mut w_dec) = (Vec::new(), Vec::new());
    for latent in 0..latents {
        let record = weights.record(latent);
        let (longer, bias) = if gated {
            (record[layout.r_mag()].exp(), record[layout.b_mag()])
        } else {
            (1.0, record[layout.b_enc()])
        };
        let row = &record[layout.w_enc()];
        // w . ((x - mean) scale - b_dec) + bias, with what does not depend on x in the bias.
        let still: f64 = (row.iter().zip(mean).zip(&weights.b_dec))
            .map(|((w, mean), b)| f64::from(w * longer) * f64::from(mean * scale + b))
            .sum();
        #[expect(clippy::cast_possible_truncation, reason = "a bundle holds fp32")]
        sae.b_enc.push((f64::from(bias) - still) as f32);
        w_enc.extend(row.iter().map(|w| w * longer * scale));
        w_dec.extend(record[layout.w_dec()].iter().map(|w| w / scale));
    }
    sae.w_enc = Stored::F32(Matrix { rows: latents, columns: d, values: w_enc });
    sae.w_dec = Stored::F32(Matrix { rows: latents, columns: d, values: w_dec });
    sae
}

/// The file `sae.safetensors` of a bundle, in fp32.
///
/// # Errors
/// The tensors make no file, which only a dictionary of unequal parts can bring about.
pub fn file(sae: &Sae) -> Result<Vec<u8>, SafeTensorError> {
    let (rows, d) = (sae.b_enc.len(), sae.b_dec.len());
    let matrix = |weights: &Stored| (0..rows).flat_map(|row| weights.row(row).to_vec()).collect();
    let parts: [(&str, Vec<usize>, Vec<f32>); 5] = [
        ("w_enc", vec![rows, d], matrix(&sae.w_enc)),
        ("b_enc", vec![rows], sae.b_enc.clone()),
        ("w_dec", vec![rows, d], matrix(&sae.w_dec)),
        ("b_dec", vec![d], sae.b_dec.clone()),
        ("threshold", vec![rows], sae.threshold.clone()),
    ];
    let bytes = parts.map(|(name, shape, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (name, shape, bytes)
    });
    let views = bytes.iter().map(|(name, shape, bytes)| {
        Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)
}
