//! What the bundle was made of: images, encoder, dictionary, files.

use clearfilm::bundle::Bundle;
use serde_json::Value;

use super::super::apart::MOVED;
use super::super::assemble::Measured;
use super::{percent, table};

/// The data sheet.
pub(super) fn images(measured: &Measured) -> String {
    let rows = measured.sources.iter().map(|source| {
        let parts: Vec<String> =
            source.images.iter().map(|(split, n)| format!("{n} {split}")).collect();
        let sexes: Vec<String> =
            source.sexes.iter().map(|(sex, share)| format!("{sex} {share} %")).collect();
        let ages = source.ages.map_or("unknown".into(), |[youngest, middle, oldest]| {
            format!("{youngest:.0} to {oldest:.0}, median {middle:.0}")
        });
        vec![
            source.what.clone(),
            parts.join(", "),
            source.patients.to_string(),
            if sexes.is_empty() { "unknown".into() } else { sexes.join(", ") },
            ages,
            source.used_for.clone(),
            source.licence.clone(),
        ]
    });
    let head =
        ["images", "by part", "patients", "sex", "age", "used for", "licence and attribution"];
    format!(
        "## What it was made from\n\n{}\nParts are by patient. No real pixel is in the bundle: its golden images are phantoms.\n",
        table(&head, rows)
    )
}

/// How the encoder was trained and chosen.
pub(super) fn encoder(measured: &Measured) -> String {
    let of = |path: &str| shown(measured.encoder.pointer(path));
    let candidates = measured.encoder.get("candidates").and_then(Value::as_array);
    let rows = candidates.into_iter().flatten().map(|one| {
        let keys = ["name", "seed", "steps", "lesions", "overlap", "participation", "probe"];
        keys.map(|key| shown(one.get(key))).to_vec()
    });
    let head = [
        "candidate",
        "seed",
        "steps",
        "weight of drawn lesions",
        "neighbours shared with the teachers",
        "participation ratio",
        "unseen drawn lesions, AUROC",
    ];
    format!(
        "## Encoder\n\nA residual network of 3x3 convolutions, {} weights; weights are int8 with one scale a channel but for the first small layers, rounded so that each layer's outputs stay; activations are fp32; {} bytes. Taught by two ImageNet networks (MobileNet v1 and v2, google-coral/test_data, Apache-2.0) on {} views of each radiograph, on some of which lesions were drawn; no label of any patient entered, and no phantom. Neither the teachers' weights nor their features are in the bundle.\nThe candidate was chosen by measures that need no label, on development images:\n\n{}\nShipped: {}.\n",
        of("/parameters"),
        measured.encoder_bytes,
        of("/views"),
        table(&head, rows),
        of("/chosen")
    )
}

/// A value of somebody else's file, as text.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "unknown".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// How the dictionary was trained, and what it leaves.
pub(super) fn dictionary(measured: &Measured) -> String {
    let number = |path: &str| {
        let found = measured.dictionary.pointer(path).and_then(Value::as_f64);
        found.map_or("unknown".into(), |x| format!("{x:.4}"))
    };
    let of = |path: &str| shown(measured.dictionary.pointer(path));
    let found = &measured.explained;
    format!(
        "## Sparse autoencoder\n\n{} latents, trained on {} vectors of views ({}); dead in the exported form on them: {}. Weights are int8 as shipped.\nOn {} usual images that took no part in training: FVU {:.4}, with as many principal components {:.4}; {:.1} latents fire on a vector; {} of {} never fire.\n",
        of("/recipe/latents"),
        of("/training/samples"),
        shown(measured.dictionary.pointer("/recipe/select")),
        number("/training/dead"),
        found.images,
        found.fvu,
        found.fvu_pca,
        found.l0,
        found.silent,
        found.latents
    )
}

/// How far files and engines are apart, and for each finding where anything moved.
pub(super) fn engines(measured: &Measured) -> String {
    let rows = measured.engines.iter().map(|of| {
        let three = |[mean, low, worst]: [f64; 3]| format!("{mean:.5} / {low:.5} / {worst:.5}");
        vec![
            of.name.clone(),
            of.images.to_string(),
            three(of.cosine),
            three(of.centred),
            percent(of.still),
            format!("{:.4}", of.most),
            of.likeness.to_string(),
        ]
    });
    let still = format!("images where no probability moves by more than {MOVED}");
    let head = [
        "compared",
        "images",
        "cosine of the embedding, mean / 5th percentile / worst",
        "the same, centred",
        &still,
        "largest move",
        "likeness that differs",
    ];
    let moved = measured.engines.iter().filter(|of| of.most > 0.0).flat_map(|of| {
        of.findings.iter().map(|finding| {
            vec![
                of.name.clone(),
                finding.id.clone(),
                percent(finding.still),
                format!("{:.4}", finding.most),
                finding.differ.to_string(),
            ]
        })
    });
    let still = format!("images where it moves by no more than {MOVED}");
    let each = ["compared", "finding", &still, "largest move", "decisions that differ"];
    format!(
        "## Files and engines\n\n{}\nBy finding, where any probability moves:\n\n{}",
        table(&head, rows),
        table(&each, moved)
    )
}

/// What the self-test asks.
pub(super) fn golden(bundle: &Bundle, measured: &Measured) -> String {
    let [cosine, centred, code] = measured.golden;
    let asked = &bundle.manifest.golden;
    format!(
        "## Self-test\n\n{} golden phantoms; their outputs come from the encoder before it was quantised. Worst over all engines: cosine {cosine:.5}, centred {centred:.5}, code {code:.5}; asked for: {}, {}, {}.\n",
        asked.count, asked.cosine_min, asked.centred_cosine_min, asked.code_cosine_min
    )
}
