//! The package on a Jetson's processor: installed into the oldest Debian that has its glibc, run
//! by its own unit's line, and held against the same commit on this machine.
//!
//! qemu is no Jetson: it runs the device's instructions, on this machine's kernel and without a GPU.

mod device;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;

use clearfilm::ingest::send;
use serde_json::Value;

use crate::engines::MARGIN;
use crate::peers::{
    Broker, Process, Seen, Site, Subscriber, binary, free_port, published, says_nobody, small,
    temporary, wait_until,
};
use crate::schemas::wrong;
use device::{Device, onnx_runtime, said};

/// Most by which a probability may differ between two processors: as far from a threshold as two
/// engines must agree.
const PROBABILITY: f64 = MARGIN;

/// A try of an engine takes a hundred times as long under emulation as on a device.
const EMULATED: (&str, &str) = ("CLEARFILM__ENGINE__PROBE_WALL", "20m");

/// Phantoms that are read on both; each variant is drawn differently.
const PHANTOMS: std::ops::Range<u64> = 1..4;

/// Files with small phantoms.
fn drawn(folder: &std::path::Path) -> Vec<PathBuf> {
    let draw = |seed: u64| {
        let file = folder.join(format!("phantom-{seed}.dcm"));
        fs::write(&file, small(seed).0).expect("written");
        file
    };
    PHANTOMS.map(draw).collect()
}

/// Two lists of findings say the same: the same findings, decided alike, with probabilities that
/// are as good as equal.
#[track_caller]
fn check_alike(there: &Value, here: &Value) {
    let [there, here] = [there, here].map(|f| f.as_array().expect("findings").clone());
    assert!(!here.is_empty(), "expected findings to compare, found none");
    let ids = |f: &[Value]| -> Vec<String> { f.iter().map(|f| f["id"].to_string()).collect() };
    assert_eq!(ids(&there), ids(&here));
    for (there, here) in there.iter().zip(&here) {
        let of = |f: &Value, key: &str| f[key].as_f64().expect("a number");
        let (p, q) = (of(there, "probability"), of(here, "probability"));
        assert!((p - q).abs() <= PROBABILITY, "{}: {p} there, {q} here", here["id"]);
        if (q - of(here, "threshold")).abs() > PROBABILITY {
            assert_eq!(there["decision"], here["decision"], "{}: {p} there, {q} here", here["id"]);
        }
    }
}

/// The findings of each line of `read --json`.
#[track_caller]
fn findings_read(command: &mut Command, files: &[PathBuf]) -> Vec<Value> {
    let arguments = ["read", "--json", "--unvalidated"];
    let output = command.args(arguments).args(files).output().expect("it starts");
    let (read, text) = said(&output);
    assert!(read, "{text}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = lines.lines().map(|l| serde_json::from_str::<Value>(l).expect("a line is JSON"));
    let findings: Vec<Value> = lines.map(|l| l["reading"]["findings"].clone()).collect();
    assert_eq!(findings.len(), files.len());
    findings
}

/// The device reads its own copies of these files as this machine does.
#[track_caller]
fn check_reads_alike(device: &Device, files: &[PathBuf], environment: &[(&str, &str)]) {
    let copies: Vec<PathBuf> =
        files.iter().map(|f| PathBuf::from("/tmp").join(f.file_name().expect("a name"))).collect();
    for (file, copy) in files.iter().zip(&copies) {
        fs::copy(file, device.path(&copy.to_string_lossy())).expect("copied");
    }
    let mut there = device.program("/usr/bin/clearfilm");
    let there = findings_read(there.envs(environment.iter().copied()), &copies);
    let tract = ("CLEARFILM__ENGINE__ORDER", "[\"tract\"]");
    let here = findings_read(Command::new(binary()).envs([tract]), files);
    for (there, here) in there.iter().zip(&here) {
        check_alike(there, here);
    }
}

/// `selftest` passes on the device, by the engines that the environment names.
#[track_caller]
fn check_selftest(device: &Device, environment: &[(&str, &str)], engine: &str) {
    let mut command = device.program("/usr/bin/clearfilm");
    let output = command.arg("selftest").envs(environment.iter().copied()).output();
    let (passed, text) = said(&output.expect("chroot is there"));
    assert!(passed && text.contains(&format!("{engine}: passed")), "{text}");
    eprintln!("arm64: {}", text.trim());
}

#[test]
fn the_installed_program_checks_itself_and_reads_as_on_this_machine() {
    let Some(device) = Device::with_package("reading on arm64") else { return };
    let folder = temporary();
    let files = drawn(folder.path());
    let checked = device.program("/usr/bin/clearfilm").arg("check").output();
    let (valid, text) = said(&checked.expect("chroot is there"));
    assert!(valid && text.contains("# bundle demo"), "{text}");
    let tract = [("CLEARFILM__ENGINE__ORDER", "[\"tract\"]"), EMULATED];
    check_selftest(&device, &tract, "tract");
    check_reads_alike(&device, &files, &tract);
    let Some(library) = onnx_runtime("ONNX Runtime on arm64") else { return };
    fs::copy(library, device.path("/usr/lib/libonnxruntime.so")).expect("copied");
    let ort = [
        ("CLEARFILM__ENGINE__ORDER", "[\"cpu\"]"),
        ("CLEARFILM__ENGINE__LIBRARY", "/usr/lib/libonnxruntime.so"),
        EMULATED,
    ];
    check_selftest(&device, &ort, "cpu");
    check_reads_alike(&device, &files, &ort);
}

/// Findings of each exam of one unit, in the order of their arrival.
fn findings_of(seen: &[Seen], unit: &str) -> Vec<Value> {
    let of_unit = |s: &&Seen| s.kind() == "findings" && s.topic.contains(&format!("/{unit}/"));
    seen.iter().filter(of_unit).map(|s| s.envelope.clone()).collect()
}

#[test]
fn the_installed_service_publishes_what_the_same_image_gives_on_this_machine() {
    let Some(device) = Device::with_package("the service on arm64") else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(broker.port, &[]);
    let port = free_port();
    device.configure("site", &settings(port, broker.port));
    device.make_state();
    let line = device.exec_start();
    assert_eq!(line[0], "/var/lib/clearfilm-slots/daemon/current/app/clearfilm");
    let folder = temporary();
    let log = folder.path().join("log");
    let mut service = device.program_of_service(&line[0]);
    service.args(&line[1..]).stderr(fs::File::create(&log).expect("made"));
    let service = Process(service.spawn().expect("chroot is there"));
    let address = ([127, 0, 0, 1], port).into();
    wait_until("an answer to C-ECHO from arm64", || {
        send::echo(address, "CLEARFILM", "TEST").is_ok_and(|status| status == 0)
    });
    let file = drawn(folder.path()).remove(0);
    let sent = Command::new("storescu")
        .args(["-aec", "CLEARFILM", "-aet", "TEST", "127.0.0.1", &port.to_string()])
        .arg(&file)
        .status();
    assert!(sent.expect("storescu is installed").success());
    let mut seen = Vec::new();
    subscriber.until("the exam from arm64", &mut seen, |seen| published(seen) == 1);
    service.terminate();
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("engine reads backend=\"tract\""), "{log}");
    says_nobody("the log of arm64", &log);
    let site = Site::new(broker.port, "");
    let here = site.run();
    site.storescu(&[file]);
    subscriber.until("the exam from here", &mut seen, |seen| published(seen) == 2);
    here.terminate();
    let [there, here] = ["arm-dx-1", "north-dx-2"].map(|unit| findings_of(&seen, unit));
    assert_eq!((there.len(), here.len()), (1, 1), "one findings message each");
    let none: [String; 0] = [];
    assert_eq!(wrong("envelope", &there[0]), none);
    assert_eq!(wrong("findings", &there[0]["payload"]), none);
    check_alike(&there[0]["payload"]["findings"], &here[0]["payload"]["findings"]);
}

/// What an operator sets on a new unit.
fn settings(port: u16, broker: u16) -> String {
    format!(
        "[unit]\nsite = \"north\"\nname = \"arm-dx-1\"\n\
         [dicom.scp]\nlisten = \"127.0.0.1:{port}\"\nunknown_peers = \"accept\"\n\
         [engine]\norder = [\"tract\"]\n\
         [storage]\nfree_min = \"1MiB\"\n\
         [bundle]\nunvalidated = true\n\
         [http]\nlisten = \"\"\n\
         [telemetry]\nmetrics = \"\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{broker}\"\n"
    )
}

#[test]
fn a_package_can_be_installed_twice_and_leaves_images_behind_when_it_goes() {
    let Some(device) = Device::with_package("installing on arm64") else { return };
    let (user, group) = device.service_user();
    let (again, text) = device.dpkg(&["--install", "/clearfilm.deb"]);
    assert!(again, "{text}");
    assert_eq!(device.service_user(), (user, group));
    let config = fs::metadata(device.path("/etc/clearfilm/config.toml")).expect("there");
    assert_eq!((config.permissions().mode() & 0o777, config.gid()), (0o640, group));
    let links = "/etc/systemd/system/multi-user.target.wants/clearfilm.service";
    assert!(!device.path(links).exists(), "nothing is started that nobody configured");
    let (whole, text) = device.dpkg(&["--verify", "clearfilm"]);
    assert!(whole && text.is_empty(), "{text}");
    device.make_state();
    let (removed, text) = device.dpkg(&["--purge", "clearfilm"]);
    assert!(removed && text.contains("/var/lib/clearfilm"), "{text}");
    assert!(device.path("/var/lib/clearfilm").is_dir(), "images stay");
    for gone in ["/usr/bin/clearfilm", "/etc/clearfilm", "/usr/lib/clearfilm"] {
        assert!(!device.path(gone).exists(), "{gone} stayed");
    }
}
