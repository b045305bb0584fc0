//! The trainer against PyTorch: 100 steps of every kind of dictionary on the same batches.
//!
//! `models/oracle/steps.py` wrote what PyTorch gives, dense and by autograd.

use std::fs;
use std::path::PathBuf;

use clearfilm_models::kernel::Kernel;
use clearfilm_models::recipe::Recipe;
use clearfilm_models::train::{Layout, Losses, Trainer, Weights};
use safetensors::{Dtype, SafeTensors};

/// Most that a loss or the weights as a whole may be off, relative.
const CLOSE: f64 = 1e-4;

/// Steps of a fixture, and of one of its epochs.
const STEPS: usize = 100;
const EPOCH: usize = 25;

struct Fixture {
    bytes: Vec<u8>,
}

impl Fixture {
    fn open(name: &str) -> Self {
        let path = folder().join(format!("{name}.safetensors"));
        Self { bytes: fs::read(&path).expect("a fixture of models/oracle/steps.py") }
    }

    /// A tensor as fp64, row-major, and its shape.
    fn tensor(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let all = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let tensor = all.tensor(name).expect("the tensor is there");
        let data = tensor.data();
        let values = if tensor.dtype() == Dtype::F64 {
            data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
        } else {
            assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
            let one = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
            data.as_chunks().0.iter().map(one).collect()
        };
        (values, tensor.shape().to_vec())
    }

    #[expect(clippy::cast_possible_truncation, reason = "they were written as fp32")]
    fn fp32(&self, name: &str) -> Vec<f32> {
        self.tensor(name).0.into_iter().map(|value| value as f32).collect()
    }

    /// Weights that were stored part by part.
    fn weights(&self, when: &str, gated: bool) -> Weights {
        let part = |name: &str| self.fp32(&format!("{when}.{name}"));
        let shape = self.tensor(&format!("{when}.w_enc")).1;
        let [latents, d] = shape.try_into().expect("a matrix");
        let layout = Layout { d };
        let mut weights = Weights::zeros(latents, d);
        weights.b_dec = part("b_dec");
        let (w_enc, w_dec, b_enc) = (part("w_enc"), part("w_dec"), part("b_enc"));
        let (r_mag, b_mag) = (part("r_mag"), part("b_mag"));
        for latent in 0..latents {
            let record = weights.record_mut(latent);
            record[layout.w_enc()].copy_from_slice(&w_enc[latent * d..][..d]);
            record[layout.w_dec()].copy_from_slice(&w_dec[latent * d..][..d]);
            record[layout.b_enc()] = b_enc[latent];
            if gated {
                record[layout.r_mag()] = r_mag[latent];
                record[layout.b_mag()] = b_mag[latent];
            }
        }
        weights
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/trainer")
}

fn recipe(name: &str) -> Recipe {
    let path = folder().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).expect("a recipe of models/oracle/steps.py");
    serde_json::from_str(&text).expect("a recipe")
}

/// Distance of two vectors over the length of the second.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    let squares = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>();
    let mut difference = found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    (squares(&mut difference) / squares(&mut expected.iter().map(|x| f64::from(*x)))).sqrt()
}

/// Both kernels, where the CPU has them; bf16 only looks, so the same holds.
fn check(name: &str) {
    for kernel in [Kernel::Fp32, Kernel::Bf16] {
        if kernel.runs_here() {
            check_on(kernel, name);
        }
    }
}

fn check_on(kernel: Kernel, name: &str) {
    let (recipe, shared, fixture) = (recipe(name), Fixture::open("batches"), Fixture::open(name));
    let gated = name.starts_with("gated");
    let batch = recipe.batch;
    let start = shared.weights("start", gated);
    let d = start.d;
    recipe.check(d).expect("a recipe");
    let mut trainer =
        Trainer::new(recipe.clone(), start, (batch * EPOCH) as u64).with_kernel(kernel);
    let batches = shared.fp32("batches");
    let (expected, _) = fixture.tensor("losses");
    let (mut auxiliary, mut clipped, mut reseeded) = (0, 0, 0);
    for step in 0..STEPS {
        let found: Losses =
            trainer.step(&batches[step * batch * d..][..batch * d]).expect("a step");
        let row = &expected[step * 6..][..6];
        let pairs = [found.reconstruction, found.sparsity, found.auxiliary, found.l0, found.norm];
        for (at, (found, expected)) in pairs.iter().zip([0, 1, 2, 3, 5].map(|i| row[i])).enumerate()
        {
            let off = (found - expected).abs() / expected.abs().max(1e-6);
            assert!(off <= CLOSE, "{name}, step {step}, {at}: expected {expected}, found {found}");
        }
        #[expect(clippy::cast_precision_loss, reason = "96 latents")]
        let dead = found.dead as f64;
        assert!((dead - row[4]).abs() < 0.5, "{name}, step {step}: dead {dead}, not {}", row[4]);
        auxiliary += usize::from(found.auxiliary > 0.0);
        clipped += usize::from(found.norm > f64::from(recipe.optimiser.clip));
        reseeded += usize::from((step + 1) % EPOCH == 0 && step < 70 && found.dead > 0);
    }
    assert!(auxiliary > 0 || name == "standard", "{name}: the auxiliary loss never counted");
    assert!((1..STEPS).contains(&clipped), "{name}: clipped in {clipped} steps");
    assert!(reseeded > 0, "{name}: nobody was re-seeded");
    for (when, found) in [("end", trainer.weights()), ("mean", trainer.best())] {
        let expected = fixture.weights(when, gated);
        let off = apart(&found.records, &expected.records);
        assert!(off <= CLOSE, "{name}, {when}: weights {off} off");
        let off = apart(&found.b_dec, &expected.b_dec);
        assert!(off <= CLOSE, "{name}, {when}: b_dec {off} off");
    }
}

#[test]
fn standard_steps_are_pytorchs() {
    check("standard");
}

#[test]
fn gated_steps_are_pytorchs() {
    check("gated");
}

#[test]
fn gated_steps_with_decoder_norms_are_pytorchs() {
    check("gated-decoder-norm");
}

#[test]
fn top_k_steps_are_pytorchs() {
    check("top-k");
}

#[test]
fn batch_top_k_steps_are_pytorchs() {
    check("batch-top-k");
}

#[test]
fn matryoshka_steps_are_pytorchs() {
    check("matryoshka");
}
