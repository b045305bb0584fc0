//! Real radiographs in twelve DICOM encodings against the pictures they were made from.
//!
//! The data is not part of the repository; where it is absent the test says so and passes.

use std::path::Path;

use super::render;
use crate::config::{Decode, DicomLimits};
use crate::decode::decode_file;

/// Encodings that are refused, until a codec for them has a place.
const REFUSED: [&str; 2] = ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"];

/// The greatest difference of a pixel of one file; none where the file is refused as it must be.
fn check(folder: &Path, line: &str) -> Option<u8> {
    let columns: Vec<&str> = line.split(',').collect();
    let [file, _, _, syntax, _, _, _, expected, tolerance, ..] = columns[..] else {
        panic!("a line of 11 columns")
    };
    let frame = decode_file(&folder.join(file), &Decode::default(), &DicomLimits::default());
    if REFUSED.contains(&syntax) {
        assert_eq!(frame.expect_err("refused").code(), "decode-syntax-unsupported", "{file}");
        return None;
    }
    let picture = render(&frame.unwrap_or_else(|e| panic!("{file}: {e}")));
    let expected = decode_file(&folder.join(expected), &Decode::default(), &DicomLimits::default());
    let expected = render(&expected.expect("the expected picture"));
    assert_eq!([picture.rows, picture.columns], [expected.rows, expected.columns], "{file}");
    let differences = picture.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b));
    let greatest = differences.max().unwrap_or(u8::MAX);
    println!("{file}: greatest difference {greatest}, tolerance {tolerance}");
    assert!(greatest <= tolerance.parse().expect("a number"), "{file}: {greatest} of {tolerance}");
    Some(greatest)
}

#[test]
fn every_encoding_of_a_real_radiograph_is_shown_as_it_was_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dicom-wrapped");
    let Ok(index) = std::fs::read_to_string(folder.join("index.csv")) else {
        println!("SKIPPED: expected radiographs in ../shared/data/dicom-wrapped, found none");
        return;
    };
    let compared = index.lines().skip(1).filter_map(|line| check(&folder, line)).count();
    assert_eq!(compared, 12 - REFUSED.len());
}
