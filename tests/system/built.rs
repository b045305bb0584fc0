//! Engines that TensorRT built: what does not fit is moved aside, and no engine's process ever
//! opens it. TensorRT itself needs a GPU; here a library plays its part that opens whatever engine
//! it finds, and builds one where it finds none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fallback::{faulty, onnxruntime};
use crate::peers::{binary, temporary};

/// The verb that a process of an engine is started with.
const VERB: &str = "probe-child";

/// What one run of `doctor` did.
struct Run {
    /// It said that TensorRT passed.
    passed: bool,
    /// Engines that processes of engines opened to read.
    opened: Vec<PathBuf>,
}

/// `clearfilm doctor` under strace, with the library that plays TensorRT.
fn doctor(real: &Path, storage: &Path) -> Run {
    let trace = storage.join("trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-s", "4096", "-e", "trace=execve,clone,clone3,vfork,openat", "-o"])
        .arg(&trace)
        .arg(binary())
        .args(["doctor", "--engines", "--json"])
        .env("CLEARFILM__STORAGE__PATH", storage)
        .env("CLEARFILM__ENGINE__ORDER", r#"["tensorrt", "tract"]"#)
        .env("CLEARFILM__ENGINE__LIBRARY", faulty())
        .env("CLEARFILM_FAULTY", "tensorrt")
        .env("CLEARFILM_FAULTY_REAL", real)
        .output()
        .expect("strace is installed");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["engines"][0]["name"], "tensorrt", "{told}");
    let text = fs::read_to_string(&trace).expect("a trace");
    fs::remove_file(&trace).expect("removed");
    Run { passed: told["engines"][0]["verdict"] == "passed", opened: opened(&text) }
}

/// Engines that were opened to read by a process that had begun with [`VERB`], or a thread of one.
fn opened(trace: &str) -> Vec<PathBuf> {
    let (mut engines, mut opened) = (BTreeSet::new(), Vec::new());
    for line in trace.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if call.starts_with("execve(") && call.contains(VERB) {
            engines.insert(pid.to_owned());
        }
        let born = call.starts_with("clone") || call.starts_with("<... clone");
        if born && engines.contains(pid) {
            engines.extend(call.rsplit("= ").next().map(|tid| tid.trim().to_owned()));
        }
        let path = call.split('"').nth(1).unwrap_or_default();
        if call.starts_with("openat(")
            && engines.contains(pid)
            && path.ends_with(".engine")
            && call.contains("O_RDONLY")
        {
            opened.push(path.into());
        }
    }
    opened
}

#[test]
fn a_trace_tells_what_an_engines_process_opened_and_what_others_did() {
    let trace = "10 execve(\"/proc/self/exe\", [\"/proc/self/exe\", \"probe-child\"], 0x1) = 0\n\
                 9  openat(AT_FDCWD, \"/s/a.engine\", O_RDONLY|O_CLOEXEC) = 3\n\
                 10 clone3({flags=CLONE_THREAD}, 88) = 11\n\
                 11 openat(AT_FDCWD, \"/s/b.engine\", O_RDONLY|O_CLOEXEC) = 3\n\
                 10 openat(AT_FDCWD, \"/s/c.engine\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3\n";
    assert_eq!(opened(trace), [PathBuf::from("/s/b.engine")]);
}

/// What `change` leaves in the folder of built engines is moved aside unopened, and built anew.
#[track_caller]
fn check(real: &Path, what: &str, change: impl FnOnce(&Path)) {
    let storage = temporary();
    let current = storage.path().join("engines/current");
    let engine = current.join("built.engine");
    let first = doctor(real, storage.path());
    assert!(first.passed && first.opened.is_empty(), "{what}: the first builds");
    let second = doctor(real, storage.path());
    assert!(second.passed, "{what}: the second finds it");
    assert_eq!(second.opened, std::slice::from_ref(&engine), "{what}: what fits is opened");
    change(&current);
    let left = names(&current);
    let third = doctor(real, storage.path());
    assert!(third.passed, "{what}: it builds anew");
    let opened = &third.opened;
    assert!(opened.is_empty(), "{what}: what does not fit is never opened, found {opened:?}");
    assert_eq!(names(&storage.path().join("engines/aside")), left, "{what}: it lies aside");
    assert_eq!(fs::read_to_string(&engine).expect("there"), "an engine", "{what}");
    assert_eq!(doctor(real, storage.path()).opened, [engine], "{what}: the new one fits");
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The record, changed by hand.
fn edited(current: &Path, edit: impl FnOnce(&mut Value)) {
    let file = current.join("record.json");
    let mut record: Value =
        serde_json::from_slice(&fs::read(&file).expect("a record")).expect("JSON");
    edit(&mut record);
    fs::write(file, record.to_string()).expect("written");
}

#[test]
fn a_stale_foreign_or_edited_engine_is_moved_aside_unopened_and_built_anew() {
    let Some(real) = onnxruntime("engines that TensorRT built") else { return };
    let write = |name: &'static str, text: &'static str| {
        move |current: &Path| fs::write(current.join(name), text).expect("written")
    };
    check(&real, "edited", write("built.engine", "another engine"));
    check(&real, "foreign", write("foreign.engine", "from a USB stick"));
    check(&real, "stale: another encoder", |current| {
        edited(current, |record| record["key"]["encoder"] = "sha256:0".into());
    });
    check(&real, "stale: another library", |current| {
        edited(current, |record| record["key"]["onnxruntime"] = "ORT of last year".into());
    });
    check(&real, "without a record", |current| {
        fs::remove_file(current.join("record.json")).expect("removed");
    });
}
