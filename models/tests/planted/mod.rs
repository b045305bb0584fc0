//! Images of which it is known what their labels follow.

use std::collections::BTreeMap;

use clearfilm::bundle::{Level, Matrix, Sae, Weights};
use clearfilm_models::codes::Codes;
use clearfilm_models::evaluate::evaluation::Loaded;
use clearfilm_models::evaluate::images::Columns;
use clearfilm_models::start::{Stream, numbers};
use clearfilm_models::synthetic::Planted;
use rand::RngExt as _;

const PATIENTS: usize = 300;
/// Of each patient.
const IMAGES: usize = 3;
const FEATURES: usize = 40;

/// The feature that the label "seen" follows, and the one that goes with the view alone.
pub(crate) const SEEN: usize = 5;
pub(crate) const VIEW: usize = 7;

/// Embeddings with planted features, the dictionary that was planted, and a table. One feature is
/// stronger in AP images; of the labels "seen" follows a feature, "bedside" the view, "coin" none.
pub(crate) fn drawn() -> (Loaded, Sae) {
    let planted = Planted {
        d: 32,
        features: FEATURES,
        active: 3.0,
        power: 0.0,
        gamma: 0.0,
        noise: 0.02,
        seed: 9,
    };
    let drawn = planted.draw(PATIENTS * IMAGES);
    let matrix = |values: &[f32]| {
        Weights::F32(Matrix { rows: FEATURES, columns: planted.d, values: values.to_vec() })
    };
    let sae = Sae {
        level: Level::Embedding,
        w_enc: matrix(&drawn.directions),
        b_enc: vec![0.0; FEATURES],
        w_dec: matrix(&drawn.directions),
        b_dec: vec![0.0; planted.d],
        threshold: vec![0.4; FEATURES],
    };
    let mut random = numbers(4, Stream::Samples);
    let n = PATIENTS * IMAGES;
    let ap: Vec<bool> = (0..n).map(|_| random.random_bool(0.4)).collect();
    let mut embeddings = drawn.samples;
    for (row, ap) in embeddings.chunks_exact_mut(planted.d).zip(&ap) {
        if *ap && random.random_bool(0.5) {
            let direction = &drawn.directions[VIEW * planted.d..][..planted.d];
            row.iter_mut().zip(direction).for_each(|(x, w)| *x += w);
        }
    }
    let seen = Codes::of(&sae, &embeddings).spread(SEEN);
    let mut flip = |yes: bool, share: f64| Some(i32::from(yes != random.random_bool(share)));
    let labels = vec![
        ("seen".to_owned(), seen.iter().map(|v| flip(*v > 0.0, 0.1)).collect()),
        ("bedside".to_owned(), ap.iter().map(|ap| flip(*ap, 0.1)).collect()),
        ("coin".to_owned(), (0..n).map(|_| flip(true, 0.5)).collect()),
    ];
    let word = |yes: bool, a: &str, b: &str| Some(if yes { a } else { b }.to_owned());
    let columns = Columns {
        image: (0..n).map(|i| format!("{i}.png")).collect(),
        patient: (0..n).map(|i| (i / IMAGES).to_string()).collect(),
        split: (0..n).map(|i| word(i / IMAGES < PATIENTS * 2 / 3, "train", "test")).collect(),
        words: BTreeMap::from([(
            "position".to_owned(),
            ap.iter().map(|ap| word(*ap, "AP", "PA")).collect(),
        )]),
        numbers: BTreeMap::from([("intensity_mean".to_owned(), vec![Some(1.0); n])]),
        labels,
    };
    (Loaded { columns, embeddings, d: planted.d }, sae)
}
