//! Dictionaries of other libraries, as those libraries themselves wrote and ran them
//! (`models/oracle/layouts.py`), and ours as they would read them.

use std::fs;
use std::path::{Path, PathBuf};

use clearfilm::bundle::Sae;
use clearfilm_models::codes::Codes;
use clearfilm_models::dictionary::foreign::{self, find_threshold};
use clearfilm_models::dictionary::outward::{Library, files};
use clearfilm_models::dictionary::{DictionaryError, read};
use clearfilm_models::evaluate::reconstruct::reconstructions;
use clearfilm_models::export;
use safetensors::SafeTensors;

/// Both sides compute in fp32, in other orders.
const CLOSE: f32 = 1e-5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/layouts")
}

/// Samples, features `[n, latents]` and reconstructions that a library gave.
struct Expected {
    samples: Vec<f32>,
    features: Vec<f32>,
    reconstructed: Vec<f32>,
}

impl Expected {
    fn of(name: &str) -> Self {
        let bytes = fs::read(folder().join(name).join("expected.safetensors")).expect("a fixture");
        let all = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let values = |name: &str| -> Vec<f32> {
            let data = all.tensor(name).expect("a tensor").data().to_vec();
            data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let [samples, features, reconstructed] =
            ["samples", "features", "reconstructed"].map(values);
        Self { samples, features, reconstructed }
    }
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < CLOSE, "{what}, {at}: {found}, expected {expected}");
    }
}

/// Features of every sample, `[n, latents]`.
fn dense(sae: &Sae, samples: &[f32]) -> Vec<f32> {
    let codes = Codes::of(sae, samples);
    let columns: Vec<Vec<f32>> = (0..codes.features()).map(|f| codes.spread(f)).collect();
    (0..codes.samples).flat_map(|row| columns.iter().map(move |column| column[row])).collect()
}

/// Imports a library's file and holds features and reconstructions against its own.
fn check(name: &str, library: &str) {
    let found = foreign::read(&folder().join(name).join("sae.safetensors")).expect(name);
    assert_eq!((found.library, found.k), (library, None), "{name}");
    let expected = Expected::of(name);
    close(name, &dense(&found.sae, &expected.samples), &expected.features);
    let codes = Codes::of(&found.sae, &expected.samples);
    close(name, &reconstructions(&found.sae, &codes), &expected.reconstructed);
}

#[test]
fn dictionary_learnings_kinds_fire_as_they_do_there() {
    for kind in ["standard", "gated", "jumprelu", "top-k", "batch-top-k", "matryoshka"] {
        check(&format!("dictionary_learning-{kind}"), "dictionary_learning");
    }
}

#[test]
fn sae_lenss_kinds_fire_as_they_do_there() {
    for kind in ["standard", "gated", "jumprelu"] {
        check(&format!("sae_lens-{kind}"), "SAELens");
    }
}

#[test]
fn where_the_largest_fire_the_largest_are_the_same_and_a_threshold_is_found() {
    for (name, library) in [("sae_lens-top-k", "SAELens"), ("sparsify", "sparsify")] {
        let mut found = foreign::read(&folder().join(name).join("sae.safetensors")).expect(name);
        assert_eq!((found.library, found.k), (library, Some(4)));
        let expected = Expected::of(name);
        let latents = found.sae.b_enc.len();
        let mut largest = dense(&found.sae, &expected.samples);
        for row in largest.chunks_exact_mut(latents) {
            let mut sorted = row.to_vec();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            row.iter_mut().filter(|v| **v < sorted[3]).for_each(|v| *v = 0.0);
        }
        close(name, &largest, &expected.features);
        find_threshold(&mut found, &expected.samples);
        let fired = dense(&found.sae, &expected.samples).iter().filter(|v| **v > 0.0).count();
        assert_eq!((found.k, fired), (None, 4 * 40), "{name}: 4 of a sample in the mean");
    }
}

#[test]
fn what_is_written_for_a_library_comes_back_the_same() {
    let name = "dictionary_learning-matryoshka";
    let own = foreign::read(&folder().join(name).join("sae.safetensors")).expect(name).sae;
    let expected = Expected::of(name);
    let libraries = [
        Library::DictionaryLearning,
        Library::SaeLens,
        Library::Sparsify { k: 4 },
        Library::Medsae { k: 4 },
    ];
    for library in libraries {
        let written = tempfile::tempdir().expect("a folder");
        let files = files(&own, library).expect("a form");
        for (name, bytes) in &files {
            fs::write(written.path().join(name), bytes).expect("written");
        }
        let mut back = foreign::read(&written.path().join(files[0].0)).expect("read back");
        if back.k.is_some() {
            // sparsify has no threshold.
            back.sae.threshold.clone_from(&own.threshold);
        }
        let found = dense(&back.sae, &expected.samples);
        close(&format!("{library:?}"), &found, &expected.features);
    }
    let mut uneven = own.clone();
    uneven.threshold[0] = 0.9;
    let error = files(&uneven, Library::Medsae { k: 4 }).expect_err("two thresholds");
    assert!(error.to_string().contains("0.9"), "{error}");
}

#[test]
fn a_file_of_nobody_known_is_refused_by_its_names() {
    let written = tempfile::tempdir().expect("a folder");
    let name = "dictionary_learning-matryoshka";
    let own = foreign::read(&folder().join(name).join("sae.safetensors")).expect(name).sae;
    let path = written.path().join("sae.safetensors");
    fs::write(&path, export::file(&own).expect("a file")).expect("written");
    assert_eq!(read(&path).expect("ours"), own);
    let error = foreign::read(&path).expect_err("ours is no other library's");
    assert!(matches!(&error, DictionaryError::Unfit { found, .. } if found.contains("w_enc")));
    // SAELens without its settings does not say whether b_dec is taken away first.
    let alone = written.path().join("alone.safetensors");
    fs::copy(folder().join("sae_lens-jumprelu/sae.safetensors"), &alone).expect("copied");
    let error = foreign::read(&alone).expect_err("no settings");
    assert!(error.to_string().contains("apply_b_dec_to_input"), "{error}");
}
