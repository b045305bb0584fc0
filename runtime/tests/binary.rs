//! The binary as its user meets it: what it says, and how it ends.

use std::path::Path;
use std::process::{Command, Output};

fn clearfilm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clearfilm")).args(arguments).output().expect("it starts")
}

#[track_caller]
fn check(arguments: &[&str], status: i32, said: &[&str]) -> String {
    let output = clearfilm(arguments);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(status), "{text}");
    for part in said {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    text
}

#[test]
fn help_teaches_every_verb() {
    check(
        &["--help"],
        0,
        &["run", "demo", "read", "check", "selftest", "phantom", "watch", "clearfilm demo"],
    );
}

#[test]
fn an_unknown_key_of_the_configuration_ends_with_4_and_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[mqtt]\nulr = \"mqtt://x:1\"\n").expect("written");
    for verb in ["check", "run"] {
        check(&[verb, "--config", file.to_str().expect("UTF-8")], 4, &["ulr", "mqtt"]);
    }
}

#[test]
fn a_damaged_bundle_ends_with_4_and_the_file_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/bundles/demo"), folder.path());
    let file = folder.path().join("sae.safetensors");
    let mut bytes = std::fs::read(&file).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let bundle = folder.path().to_str().expect("UTF-8");
    check(
        &["selftest", "--bundle", bundle],
        4,
        &["sae.safetensors", "expected sha256:", "found sha256:"],
    );
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn reading_a_file_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().to_str().expect("UTF-8");
    check(
        &[
            "phantom",
            "--out",
            out,
            "--count",
            "1",
            "--seed",
            "3",
            "--rows",
            "500",
            "--columns",
            "400",
        ],
        0,
        &[],
    );
    let file = std::fs::read_dir(folder.path())
        .expect("read")
        .flatten()
        .next()
        .expect("one phantom")
        .path();
    let file = file.to_str().expect("UTF-8");
    let read = || clearfilm(&["read", "--json", "--unvalidated", "--engine", "tract", file]);
    let (first, second) = (read(), read());
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(first.stdout.len() > 1000);
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn the_demo_prints_what_the_broker_brings_back_and_nothing_without_it() {
    let with = check(
        &["demo", "--once", "--count", "2"],
        0,
        &["AI DRAFT - NOT VERIFIED", "Pleural effusion"],
    );
    assert_eq!(with.matches("AI DRAFT").count(), 2);
    let without = check(
        &["demo", "--once", "--count", "1", "--no-broker", "--patience", "5s"],
        3,
        &["0 of 1 drafts"],
    );
    assert!(!without.contains("AI DRAFT"), "{without}");
}
