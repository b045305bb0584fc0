//! Every encoding against other decoders: pydicom with DCMTK, OpenJPEG and CharLS as the peers.

use std::process::Command;

use crate::peers::{binary, temporary};

/// The script compares some 420 recoded phantoms and the files inside pydicom, one by one.
#[test]
fn every_encoding_gives_the_stored_values_that_another_decoder_gives() {
    let Some(python) = std::env::var_os("CLEARFILM_TEST_PYTHON") else {
        eprintln!("!! SKIPPED: encodings: CLEARFILM_TEST_PYTHON names no Python with pydicom");
        return;
    };
    let work = temporary();
    let script = clearfilm_tests::root().join("tests/golden/encodings/compare.py");
    let done = Command::new(python)
        .arg(script)
        .arg(binary())
        .arg(work.path())
        .output()
        .expect("python starts");
    let text = String::from_utf8_lossy(&done.stdout);
    let told =
        |line: &&str| line.starts_with("phantoms: ") || line.starts_with("pydicom's files: ");
    for line in text.lines().filter(told) {
        eprintln!("{line}");
    }
    let wrong =
        |line: &&str| !["equal", "near", "refused"].iter().any(|good| line.starts_with(good));
    let wrong: Vec<&str> = text.lines().filter(wrong).collect();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}\n{errors}", wrong.join("\n"));
}
