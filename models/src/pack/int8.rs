//! The dictionary as a bundle carries it: int8 rows with one scale each, thresholds and biases fp32.

use clearfilm::bundle::{Level, Sae, Weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use super::compensate::Together;

/// Largest int8 number that is used: symmetric, so that 0 stays 0.
pub(super) const MOST: f32 = 127.0;

/// A dictionary with int8 weights at a level. Where it is known how the values of usual vectors go
/// together, its encoder is rounded so that activations stay; otherwise, and its decoder, to the
/// nearest.
#[must_use]
pub fn quantised(sae: &Sae, level: Level, usual: Option<&Together>) -> Sae {
    let (count, d) = (sae.b_enc.len(), sae.b_dec.len());
    let encoder = |together: &Together| {
        let (mut values, mut scale) = (Vec::with_capacity(count * d), Vec::with_capacity(count));
        for at in 0..count {
            let (row, step) = together.rounded(&sae.w_enc.row(at));
            values.extend(row);
            scale.push(step);
        }
        Weights::Int8 { columns: d, values, scale }
    };
    Sae {
        level,
        w_enc: usual.map_or_else(|| rows(&sae.w_enc, count, d), encoder),
        w_dec: rows(&sae.w_dec, count, d),
        ..sae.clone()
    }
}

fn rows(weights: &Weights, count: usize, columns: usize) -> Weights {
    let (mut values, mut scale) = (Vec::with_capacity(count * columns), Vec::with_capacity(count));
    for at in 0..count {
        let row = weights.row(at);
        let most = row.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
        // A row of zeros is 0 at any scale; a bundle wants scales above 0.
        let step = if most > 0.0 { most / MOST } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
        values.extend(row.iter().map(|w| (w / step).round().clamp(-MOST, MOST) as i8));
        scale.push(step);
    }
    Weights::Int8 { columns, values, scale }
}

/// The file `sae.safetensors` of a dictionary with int8 weights; empty rows where they are fp32.
///
/// # Errors
/// The tensors make no file, which only a dictionary of unequal parts can bring about.
pub fn file(sae: &Sae) -> Result<Vec<u8>, SafeTensorError> {
    let (count, d) = (sae.b_enc.len(), sae.b_dec.len());
    let fp32 = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut parts = vec![
        ("b_enc", Dtype::F32, vec![count], fp32(&sae.b_enc)),
        ("b_dec", Dtype::F32, vec![d], fp32(&sae.b_dec)),
        ("threshold", Dtype::F32, vec![count], fp32(&sae.threshold)),
    ];
    let names = [("w_enc", "w_enc_scale", &sae.w_enc), ("w_dec", "w_dec_scale", &sae.w_dec)];
    for (name, scale_name, weights) in names {
        if let Weights::Int8 { values, scale, .. } = weights {
            let bytes = values.iter().map(|v| v.cast_unsigned()).collect();
            parts.push((name, Dtype::I8, vec![count, d], bytes));
            parts.push((scale_name, Dtype::F32, vec![count], fp32(scale)));
        }
    }
    let views = parts.iter().map(|(name, kind, shape, bytes)| {
        Ok((*name, TensorView::new(*kind, shape.clone(), bytes)?))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)
}

#[cfg(test)]
mod tests {
    use clearfilm::bundle::Matrix;

    use super::*;

    #[test]
    fn rows_come_back_within_half_a_step_and_the_file_is_read_again() {
        let matrix = |values: [f32; 6]| {
            Weights::F32(Matrix { rows: 2, columns: 3, values: values.to_vec() })
        };
        let sae = Sae {
            level: Level::Embedding,
            w_enc: matrix([1.0, -0.5, 0.2, 0.0, 0.0, 0.0]),
            b_enc: vec![0.1, 0.2],
            w_dec: matrix([0.01, 0.02, -0.03, 4.0, 5.0, -6.0]),
            b_dec: vec![0.0; 3],
            threshold: vec![0.5; 2],
        };
        let small = quantised(&sae, Level::Tokens, None);
        for row in 0..2 {
            for (w, q) in sae.w_dec.row(row).iter().zip(small.w_dec.row(row).iter()) {
                let most = sae.w_dec.row(row).iter().fold(0.0_f32, |m, w| m.max(w.abs()));
                assert!((w - q).abs() <= most / MOST / 2.0 * 1.001, "{w} {q}");
            }
        }
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sae.safetensors");
        std::fs::write(&path, file(&small).expect("file")).expect("written");
        let read = crate::dictionary::read(&path).expect("dictionary");
        assert_eq!(Sae { level: Level::Tokens, ..read }, small);
    }
}
