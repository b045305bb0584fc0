//! Bundles that must be refused, each by the name of the file that is wrong.

use std::borrow::Cow;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::*;

/// The shipped bundle with one file changed and, where `sealed`, every hash made to fit again.
#[expect(clippy::unwrap_in_result, reason = "a test's own set-up")]
fn changed(
    file: &str,
    sealed: bool,
    change: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<Bundle, BundleError> {
    let mut files = embedded_demo();
    let bytes = change(&files[file]);
    if sealed && file != MANIFEST {
        let text = String::from_utf8(files[MANIFEST].to_vec()).expect("text");
        let (old, new) = (Digest::of(&files[file]).to_string(), Digest::of(&bytes).to_string());
        assert!(text.contains(&old), "{file} is listed");
        files.insert(MANIFEST.into(), Cow::Owned(text.replace(&old, &new).into_bytes()));
    }
    files.insert(file.into(), Cow::Owned(bytes));
    Bundle::from_files(files)
}

fn check(result: Result<Bundle, BundleError>, parts: &[&str]) {
    let error = result.expect_err("refused").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} in {error:?}");
    }
}

/// A safetensors file with one tensor made anew by `edit(shape, bytes)`.
fn with_tensor(
    file: &[u8],
    name: &str,
    edit: impl Fn(Vec<usize>, Vec<u8>) -> (Vec<usize>, Vec<u8>),
) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).expect("safetensors");
    let edited: Vec<_> = tensors
        .tensors()
        .into_iter()
        .map(|(n, view)| {
            let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
            let (shape, bytes) = if n == name { edit(shape, bytes) } else { (shape, bytes) };
            (n, view.dtype(), shape, bytes)
        })
        .collect();
    let views = edited.iter().map(|(n, dtype, shape, bytes)| {
        (n.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("fits"))
    });
    safetensors::serialize(views, None).expect("serialised")
}

#[test]
fn the_shipped_bundle_is_accepted_and_says_that_it_is_no_medclip() {
    let bundle = Bundle::from_files(embedded_demo()).expect("accepted");
    assert!(!bundle.manifest.clinical);
    assert!(bundle.card.contains("not MedCLIP"), "{}", &bundle.card[..200]);
}

#[test]
fn one_flipped_byte_in_any_file_is_refused_by_name() {
    let files: Vec<String> = embedded_demo().into_keys().filter(|f| f != MANIFEST).collect();
    for file in files {
        let result = changed(&file, false, |bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        });
        check(result, &[&file, "expected sha256:", "found sha256:"]);
    }
}

#[test]
fn a_missing_and_an_extra_file_are_refused_by_name() {
    for file in embedded_demo().into_keys() {
        let mut files = embedded_demo();
        files.remove(&file);
        check(Bundle::from_files(files), &[&file, "found none"]);
    }
    let mut files = embedded_demo();
    files.insert("extra.bin".into(), Cow::Borrowed(b"x"));
    check(Bundle::from_files(files), &["extra.bin"]);
}

#[test]
fn an_unknown_key_is_refused_in_every_file_of_words() {
    let result = changed(MANIFEST, false, |bytes| [b"surprise = 1\n", bytes].concat());
    check(result, &[MANIFEST, "surprise"]);
    for file in [FEATURES, FINDINGS, REPORT] {
        let result = changed(file, true, |bytes| {
            String::from_utf8_lossy(bytes).replacen('{', "{\"surprise\": 1, ", 1).into_bytes()
        });
        check(result, &[file, "surprise"]);
    }
}

#[test]
fn a_wrong_shape_is_refused_with_both_shapes() {
    let result = changed(SAE, true, |bytes| {
        with_tensor(bytes, "b_enc", |shape, bytes| (vec![shape[0] - 1], bytes[4..].to_vec()))
    });
    check(result, &[SAE, "b_enc", "expected F32 [", "found F32 ["]);
}

#[test]
fn a_weight_that_is_not_a_number_is_refused() {
    for (file, tensor) in
        [("head.safetensors", "weight"), (SAE, "threshold"), ("ood.safetensors", "mean")]
    {
        let result = changed(file, true, |bytes| {
            with_tensor(bytes, tensor, |shape, mut bytes| {
                bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                (shape, bytes)
            })
        });
        check(result, &[file, tensor, "NaN"]);
    }
}

#[test]
fn a_tensor_that_nobody_asked_for_is_refused() {
    let result = changed("head.safetensors", true, |bytes| {
        let tensors = SafeTensors::deserialize(bytes).expect("safetensors");
        let extra = ("extra".to_owned(), tensors.tensor("weight").expect("there"));
        let views = tensors.tensors().into_iter().chain([extra]);
        safetensors::serialize(views, None).expect("serialised")
    });
    check(result, &["head.safetensors", "extra"]);
}

#[test]
fn a_finding_over_an_unnamed_latent_is_refused() {
    let result = changed(FINDINGS, true, |bytes| {
        let mut rules: FindingRules = serde_json::from_slice(bytes).expect("parsed");
        rules.findings[0].weights[0].latent = crate::id::LatentIndex(1_000_000);
        serde_json::to_vec(&rules).expect("written")
    });
    check(result, &[FINDINGS, "#1000000"]);
}

#[test]
fn a_later_format_is_refused() {
    let result = changed(MANIFEST, false, |bytes| {
        String::from_utf8_lossy(bytes).replacen("format = 1", "format = 2", 1).into_bytes()
    });
    check(result, &[MANIFEST, "format = 1", "2"]);
}
