//! Real radiographs in twelve DICOM encodings against the pictures they were made from.
//!
//! The data is not part of the repository; where it is absent the test says so and passes.

use std::path::Path;

use super::render;
use crate::config::{Decode, DicomLimits};
use crate::decode::decode_file;
use crate::ingest::syntax;

/// Is a file shown as expected? False where this build has no codec for it.
fn check(folder: &Path, line: &str) -> bool {
    let columns: Vec<&str> = line.split(',').collect();
    let [file, _, _, syntax, _, _, _, expected, tolerance, ..] = columns[..] else {
        panic!("a line of 11 columns")
    };
    let frame = decode_file(&folder.join(file), &Decode::default(), &DicomLimits::default());
    if syntax::of(syntax).is_none() {
        assert_eq!(frame.expect_err("refused").code(), "decode-syntax-unsupported", "{file}");
        return false;
    }
    let picture = render(&frame.unwrap_or_else(|e| panic!("{file}: {e}")));
    let expected = decode_file(&folder.join(expected), &Decode::default(), &DicomLimits::default());
    let expected = render(&expected.expect("the expected picture"));
    assert_eq!([picture.rows, picture.columns], [expected.rows, expected.columns], "{file}");
    let differences = picture.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b));
    let greatest = differences.max().unwrap_or(u8::MAX);
    println!("{file}: greatest difference {greatest}, tolerance {tolerance}");
    assert!(greatest <= tolerance.parse().expect("a number"), "{file}: {greatest} of {tolerance}");
    true
}

#[test]
fn every_encoding_of_a_real_radiograph_is_shown_as_it_was_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dicom-wrapped");
    let Ok(index) = std::fs::read_to_string(folder.join("index.csv")) else {
        println!("SKIPPED: expected radiographs in ../shared/data/dicom-wrapped, found none");
        return;
    };
    let compared = index.lines().skip(1).filter(|line| check(&folder, line)).count();
    let jpeg_ls = usize::from(cfg!(feature = "jpeg-ls"));
    assert_eq!(compared, 11 + jpeg_ls);
}
