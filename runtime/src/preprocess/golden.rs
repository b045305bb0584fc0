//! Fitted pictures against Pillow's and torchvision's, which `tests/golden/preprocess.py` wrote.

use safetensors::SafeTensors;

use super::{Picture, fit};
use crate::bundle::Fit;

const FITTED: &[u8] = include_bytes!("../../../tests/golden/preprocess/fitted.safetensors");

/// The greatest difference of a pixel, grey values.
struct Tolerance(u8);

/// The arithmetic is Pillow's own.
const EXACT: Tolerance = Tolerance(0);

/// Floats are summed in another order than torch does: a value near one half may round otherwise.
const ONE_STEP: Tolerance = Tolerance(1);

/// The script's `drawn`: rings, a gradient and noise.
fn drawn(rows: usize, columns: usize) -> Picture {
    let pixel = |r: usize, c: usize| {
        let rings =
            ((7 * r.abs_diff(rows / 2).pow(2) + 5 * c.abs_diff(columns / 2).pow(2)) >> 6) & 127;
        let noise = (((r * 73_856_093) ^ (c * 19_349_663)) >> 13) & 31;
        u8::try_from(rings + noise + c * 97 / columns).expect("at most 127 + 31 + 96")
    };
    let pixels = (0..rows).flat_map(|r| (0..columns).map(move |c| pixel(r, c))).collect();
    Picture { rows, columns, pixels }
}

fn check(fit_as: Fit, name: &str, Tolerance(most): &Tolerance) {
    let golden = SafeTensors::deserialize(FITTED).expect("a safetensors file");
    let mut compared = 0;
    for (key, golden) in golden.iter().filter(|(key, _)| key.starts_with(name)) {
        let (_, size) = key.split_once('.').expect("named fit.rowsxcolumns");
        let (rows, columns) = size.split_once('x').expect("named fit.rowsxcolumns");
        let source = drawn(rows.parse().expect("a number"), columns.parse().expect("a number"));
        let fitted = fit(&source, fit_as, [golden.shape()[0], golden.shape()[1]]);
        assert_eq!([fitted.rows, fitted.columns], golden.shape());
        let differences: Vec<u8> =
            fitted.pixels.iter().zip(golden.data()).map(|(a, b)| a.abs_diff(*b)).collect();
        let greatest = differences.iter().max().copied().expect("has pixels");
        let equal = differences.iter().filter(|d| **d == 0).count();
        let of = differences.len();
        println!("{key}: {equal} of {of} pixels equal, greatest difference {greatest}");
        assert!(
            greatest <= *most,
            "{key}: {equal} of {of} pixels equal, greatest difference {greatest}, expected {most}"
        );
        compared += 1;
    }
    assert_eq!(compared, 6, "expected 6 golden pictures of {name}");
}

#[test]
fn padded_pictures_equal_those_of_pillow() {
    check(Fit::Pad, "pad.", &EXACT);
}

#[test]
fn squashed_pictures_are_those_of_torchvision_within_one_step() {
    check(Fit::Squash, "squash.", &ONE_STEP);
}
