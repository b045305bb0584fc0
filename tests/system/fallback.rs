//! What becomes of a service whose better engines fail, each in another way; and of images that
//! arrive while it changes from one engine to another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clearfilm::ingest::send;
use serde_json::Value;

use crate::peers::{Broker, Process, Seen, Site, Subscriber, binary, count, small, temporary};
use crate::schemas::wrong;

/// Every engine, best first: the default.
const ORDER: &str = r#"["tensorrt", "cuda", "cpu", "tract"]"#;

/// The library that fails where it is told to, built with these tests.
pub(crate) fn faulty() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let profile = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
    let library = profile.join("examples/libfaulty.so");
    assert!(
        library.is_file(),
        "expected {}, found none: run `cargo test --workspace`",
        library.display()
    );
    library
}

/// ONNX Runtime's library for the CPU; says loudly where it is not.
pub(crate) fn onnxruntime(what: &str) -> Option<PathBuf> {
    let library = from_environment("CLEARFILM_TEST_ORT");
    if library.is_none() {
        eprintln!("!! SKIPPED: {what}: CLEARFILM_TEST_ORT does not name ONNX Runtime's library");
    }
    library
}

fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.exists())
}

/// A library, and what is to come of it.
struct Case {
    library: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// Backend and provider that read in the end.
    reads: (&'static str, &'static str),
    /// Parts of the reasons for which engines were passed over.
    reasons: Vec<(&'static str, &'static str)>,
}

impl Case {
    fn new(library: impl Into<PathBuf>, reads: (&'static str, &'static str)) -> Self {
        Self { library: library.into(), environment: Vec::new(), reads, reasons: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn because(mut self, engine: &'static str, reason: &'static str) -> Self {
        self.reasons.push((engine, reason));
        self
    }
}

/// The faulty library, told to fail in one way.
fn failing(real: &Path, failure: &str, reads: (&'static str, &'static str)) -> Case {
    Case::new(faulty(), reads)
        .with("CLEARFILM_FAULTY", failure)
        .with("CLEARFILM_FAULTY_REAL", real.display().to_string())
}

const TRACT: (&str, &str) = ("tract", "cpu");
const CPU: (&str, &str) = ("ort", "cpu");

/// What came of the engines, by the last message about it.
fn verdicts(seen: &[Seen]) -> BTreeMap<String, (String, String)> {
    let about = seen.iter().rfind(|s| s.kind() == "about");
    let engines = about.map(|s| s.envelope["payload"]["engines"].clone()).unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let one = |e: &Value| (text(&e["name"]), (text(&e["verdict"]), text(&e["reason"])));
    engines.as_array().into_iter().flatten().map(one).collect()
}

fn settled(seen: &[Seen]) -> bool {
    let verdicts = verdicts(seen);
    let open = |(verdict, _): &(String, String)| verdict == "probing" || verdict == "passed";
    !verdicts.is_empty() && !verdicts.values().any(open)
}

/// Backend and provider of a findings message.
fn engine(message: &Seen) -> (String, String) {
    let engine = &message.envelope["engine"];
    let text = |name: &str| engine[name].as_str().unwrap_or_default().to_owned();
    (text("backend"), text("provider"))
}

fn findings(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|s| s.kind() == "findings").collect()
}

fn start(site: &Site, library: &Path, environment: &[(&'static str, String)]) -> Process {
    let mut command = Command::new(binary());
    command
        .env("CLEARFILM__ENGINE__ORDER", ORDER)
        .env("CLEARFILM__ENGINE__LIBRARY", library)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    site.run_by(&mut command)
}

fn send(site: &Site, seed: u64) {
    let answer = send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0);
    assert_eq!(answer.expect("answered"), 0, "image {seed}");
}

/// The service takes and reads an image at once, whatever its library does, and in the end reads
/// with the right engine and says why not with the others.
#[track_caller]
fn check(what: &str, case: &Case) {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = start(&site, &case.library, &case.environment);
    let mut seen = Vec::new();
    send(&site, 1);
    subscriber.until("the first findings", &mut seen, |seen| count(seen, "findings") == 1);
    subscriber.until("a verdict on every engine", &mut seen, settled);
    send(&site, 2);
    subscriber.until("more findings", &mut seen, |seen| count(seen, "findings") == 2);
    let found: Vec<(String, String)> = findings(&seen).into_iter().map(engine).collect();
    let expected = (case.reads.0.to_owned(), case.reads.1.to_owned());
    assert_eq!(found[1], expected, "{what}");
    let tract = (TRACT.0.to_owned(), TRACT.1.to_owned());
    assert!(found[0] == expected || found[0] == tract, "{what}: {found:?}");
    let verdicts = verdicts(&seen);
    let running = verdicts.iter().filter(|(_, (verdict, _))| verdict == "running");
    let name = if case.reads == TRACT { "tract" } else { case.reads.1 };
    assert_eq!(running.map(|(name, _)| name).collect::<Vec<_>>(), [name], "{what}");
    for (engine, reason) in &case.reasons {
        let (verdict, found) = &verdicts[*engine];
        assert!(
            verdict == "rejected" && found.contains(reason),
            "{what}: {engine}: expected {reason}, found {verdict}: {found}"
        );
    }
    let about = seen.iter().rfind(|s| s.kind() == "about").expect("it told about itself");
    assert_eq!(wrong("about", &about.envelope["payload"]), [""; 0]);
    let share = &findings(&seen)[1].envelope["engine"]["node_share"];
    assert!(share.as_f64().is_some_and(|s| s > 0.0 && s <= 1.0), "{what}: {share}");
    daemon.terminate();
}

#[test]
fn a_library_that_is_not_one_leaves_reading_to_the_engine_that_is_compiled_in() {
    check(
        "absent",
        &Case::new("/nowhere/libonnxruntime.so", TRACT)
            .because("cpu", "/nowhere/libonnxruntime.so")
            .because("cpu", "cannot open shared object file"),
    );
    let another = files_named("libm.so.6");
    check("another library", &Case::new(another, TRACT).because("cpu", "OrtGetApiBase"));
    let folder = temporary();
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, bytes).expect("written");
        file
    };
    let text = file("text.so", &b"not a library\n".repeat(100));
    check("a text", &Case::new(text, TRACT).because("cpu", "invalid ELF header"));
    let Some(real) = onnxruntime("a truncated library") else { return };
    let bytes = fs::read(real).expect("the library");
    let truncated = file("truncated.so", &bytes[..bytes.len() / 3]);
    check(
        "truncated",
        &Case::new(truncated, TRACT).because("cpu", "its process ended with signal"),
    );
}

/// A library of the system, wherever this distribution has it.
fn files_named(name: &str) -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let found = maps.lines().filter_map(|l| l.find('/').map(|at| PathBuf::from(&l[at..])));
    let mut found = found.filter(|p| p.file_name().is_some_and(|n| n == name));
    found.next().expect("this test uses it itself")
}

#[test]
fn a_library_of_an_older_interface_is_passed_over_by_its_version() {
    let Some(library) = from_environment("CLEARFILM_TEST_ORT_OLD") else {
        eprintln!("!! SKIPPED: an older ONNX Runtime: CLEARFILM_TEST_ORT_OLD does not name one");
        return;
    };
    check("older", &Case::new(library, TRACT).because("cpu", "got '1.23.2'"));
}

#[test]
fn a_library_that_crashes_hangs_or_takes_all_memory_does_so_alone() {
    let Some(real) = onnxruntime("a library that crashes") else { return };
    check(
        "crashes when it is loaded",
        &failing(&real, "crash-on-load", TRACT).because("cpu", "SIGSEGV"),
    );
    check(
        "crashes when a session is made",
        &failing(&real, "crash-in-session", TRACT).because("cpu", "SIGABRT"),
    );
    check(
        "hangs",
        &failing(&real, "hang-on-load", TRACT)
            .with("CLEARFILM__ENGINE__PROBE_WALL", "2s")
            .because("cpu", "expected an answer within 2s"),
    );
    check(
        "takes all memory",
        &failing(&real, "memory", TRACT)
            .with("CLEARFILM__ENGINE__MEMORY", "512MiB")
            .because("cpu", "memory allocation of"),
    );
}

#[test]
fn a_library_that_answers_wrongly_or_holds_nothing_is_never_chosen() {
    let Some(real) = onnxruntime("a library that answers wrongly") else { return };
    check(
        "answers wrongly",
        &failing(&real, "wrong-answer", TRACT).because("cpu", "golden/golden.safetensors"),
    );
    check(
        "registers TensorRT, which holds nothing",
        &failing(&real, "no-nodes", CPU)
            .because("tensorrt", "expected it to hold nodes of the encoder's graph, found cpu"),
    );
}

#[test]
fn a_library_for_gpus_on_a_machine_without_one_reads_on_the_cpu_and_says_what_it_lacks() {
    let Some(library) = from_environment("CLEARFILM_TEST_ORT_GPU") else {
        eprintln!("!! SKIPPED: ONNX Runtime for GPUs: CLEARFILM_TEST_ORT_GPU does not name it");
        return;
    };
    if Path::new("/dev/nvidiactl").exists() {
        eprintln!("!! SKIPPED: ONNX Runtime for GPUs without a GPU: this machine has one");
        return;
    }
    check(
        "no GPU",
        &Case::new(&library, CPU)
            .because("tensorrt", "cannot open shared object file")
            .because("cuda", "cannot open shared object file"),
    );
    // CUDA's own libraries are large: where they are not, the driver's stub is not asked.
    let cuda = from_environment("CLEARFILM_TEST_CUDA");
    let reason = if cuda.is_some() { "CUDA failure" } else { "cannot open shared object file" };
    let stub = stub_of_the_driver();
    let folders = [Some(stub.path().to_path_buf()), cuda].into_iter().flatten();
    let path = std::env::join_paths(folders).expect("no colons").into_string().expect("text");
    check(
        "a stub of the driver",
        &Case::new(&library, CPU).with("LD_LIBRARY_PATH", path).because("cuda", reason),
    );
}

/// A `libcuda.so.1` that is there and does not work, as images without a driver carry it: every
/// function that ONNX Runtime's provider asks for says CUDA_ERROR_STUB_LIBRARY.
fn stub_of_the_driver() -> tempfile::TempDir {
    let folder = temporary();
    let source =
        "int cuInit(unsigned f) { return 34; }\nint cuTensorMapEncodeTiled(void) { return 34; }\n";
    let file = folder.path().join("stub.c");
    fs::write(&file, source).expect("written");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(folder.path().join("libcuda.so.1"))
        .arg(&file)
        .status();
    assert!(status.expect("a C compiler is installed").success());
    folder
}

/// What must hold of images that were sent while the engine changed: each was read once.
#[track_caller]
fn check_each_once(seen: &[Seen], sent: usize) {
    let found = findings(seen);
    let exams: BTreeSet<&str> = found.iter().filter_map(|s| s.exam()).collect();
    let ids: BTreeSet<&str> = found.iter().map(|s| s.id()).collect();
    assert_eq!((found.len(), exams.len(), ids.len()), (sent, sent, sent));
    for message in &found {
        assert_eq!(message.envelope["payload"]["revision"], 1, "{}", message.topic);
    }
}

#[test]
fn changing_engines_while_images_arrive_loses_none_and_each_names_its_own() {
    let Some(real) = onnxruntime("a change of engines") else { return };
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let case = failing(&real, "tensorrt", ("ort", "tensorrt"))
        .with("CLEARFILM_FAULTY_BUILD_MS", "3000")
        .with("CLEARFILM__ENGINE__SESSIONS", "2");
    let daemon = start(&site, &case.library, &case.environment);
    let (mut seen, mut sent) = (Vec::new(), 0);
    let by = |seen: &[Seen], provider: &str| {
        findings(seen).iter().filter(|s| engine(s).1 == provider).count()
    };
    // As fast as they are taken, until the better engine has read some.
    while by(&seen, "tensorrt") < 10 {
        sent += 1;
        send(&site, u64::try_from(sent).expect("few"));
        subscriber.so_far(&mut seen);
        assert!(sent < 2_000, "expected another engine by now, found {:?}", verdicts(&seen));
    }
    subscriber.until("all findings", &mut seen, |seen| count(seen, "findings") >= sent);
    check_each_once(&seen, sent);
    let (before, after) = (by(&seen, "cpu"), by(&seen, "tensorrt"));
    eprintln!("{sent} images: {before} by tract, then {after} by the better engine");
    assert!(before > 0 && before + after == sent, "{before} and {after} of {sent}");
    for message in findings(&seen) {
        let (backend, provider) = engine(message);
        assert!(matches!(
            (backend.as_str(), provider.as_str()),
            ("tract", "cpu") | ("ort", "tensorrt")
        ));
    }
    daemon.terminate();
}

#[test]
fn an_engine_that_fails_while_it_reads_gives_its_place_to_the_next() {
    let Some(real) = onnxruntime("an engine that fails while it reads") else { return };
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let trigger = site.folder.path().join("fail");
    let case = failing(&real, "no-nodes", CPU)
        .with("CLEARFILM_FAULTY_TRIGGER", trigger.display().to_string());
    let daemon = start(&site, &case.library, &case.environment);
    let mut seen = Vec::new();
    subscriber.until("a verdict on every engine", &mut seen, settled);
    send(&site, 1);
    subscriber.until("findings", &mut seen, |seen| count(seen, "findings") == 1);
    assert_eq!(engine(findings(&seen)[0]), ("ort".into(), "cpu".into()));
    fs::write(&trigger, "").expect("written");
    for seed in 2..6 {
        send(&site, seed);
    }
    subscriber.until("the rest", &mut seen, |seen| count(seen, "findings") == 5);
    check_each_once(&seen, 5);
    for message in &findings(&seen)[1..] {
        assert_eq!(engine(message), ("tract".into(), "cpu".into()));
    }
    subscriber.until("its verdict", &mut seen, |seen| {
        verdicts(seen)["cpu"].1.contains("the device fell off the bus")
    });
    daemon.terminate();
}
