//! The exporter's own tests: key layouts, prompts, and int8 in small graphs.

use std::process::Command;

/// Those that need PyTorch (gigabytes) skip themselves; `models/export/export.sh --test` runs them.
#[test]
fn the_exporter_keeps_what_its_own_tests_say() {
    let Some(python) = std::env::var_os("CLEARFILM_TEST_PYTHON") else {
        eprintln!("!! SKIPPED: export: CLEARFILM_TEST_PYTHON names no Python with onnx");
        return;
    };
    let root = clearfilm_tests::root();
    let done = Command::new(python)
        .args(["-m", "unittest", "discover", "-v", "-s", "models/export/tests", "-t", "models"])
        .current_dir(&root)
        .env("PYTHONPATH", root.join("models"))
        .output()
        .expect("python starts");
    // unittest speaks on standard error.
    let text = String::from_utf8_lossy(&done.stderr);
    for line in text.lines().filter(|line| line.contains("SKIPPED") || line.starts_with("Ran ")) {
        eprintln!("{line}");
    }
    assert!(done.status.success() && text.contains("test_int8"), "{text}");
}
