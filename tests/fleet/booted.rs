//! Good and bad releases on a device that really boots: systemd, the shipped units, the shipped
//! programs, a broker, and a modality that sends all the while.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::phantom::{Encoding, Phantom, Projection, Variant};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::PATIENCE;
use crate::office::{Office, binary, write_program};

/// A failed release is left within this time from its start: the goal for a device.
const LEFT_WITHIN: Duration = Duration::from_secs(120);

/// Longest time in which no image is accepted while a good release is started.
const PAUSE: Duration = Duration::from_secs(15);

const LOOK: Duration = Duration::from_millis(250);

/// The site's own settings.
const SITE: &str = "[unit]\nsite = \"north\"\nname = \"north-dx-2\"\n\
    [dicom.scp]\nunknown_peers = \"accept\"\nmax_associations_per_peer = 64\nassociations_per_minute = 100000\n\
    [engine]\norder = [\"tract\"]\n[bundle]\nunvalidated = true\n[storage]\nfree_min = \"1MiB\"\n\
    [mqtt]\nurl = \"mqtt://127.0.0.1:1883\"\n\
    [update]\nsource = \"/io/repo\"\nroot_file = \"/io/root.json\"\nfree_min = \"1MiB\"\n\
    poll = \"2s\"\nquiet = \"0s\"\napprove_bundle = false\ntrial = \"15s\"\nready_within = \"15s\"\n";

/// Sends one image each 200 ms, each again until it is taken, and writes down when it was.
const MODALITY: &str = "#!/bin/sh\n\
    while [ ! -e /io/enough ]; do\n\
      begun=$(date +%s%N)\n\
      until storescu +IS 1 -aec CLEARFILM -aet DX 127.0.0.1 11112 /io/phantom.dcm 2>/dev/null; do sleep 0.2; done\n\
      date +%s.%N >>/io/sent\n\
      left=$(( 200 - ($(date +%s%N) - begun) / 1000000 ))\n\
      if [ $left -gt 0 ]; then sleep 0.$(printf %03d $left); fi\n\
    done\n";

/// A device that is booted, until it is dropped.
struct Booted {
    nspawn: Child,
    pid: String,
    io: PathBuf,
    _folder: tempfile::TempDir,
}

impl Booted {
    /// None where this machine cannot boot one, which is said.
    fn start(office: &Office) -> Option<Self> {
        let root = std::env::var("CLEARFILM_TEST_BOOT_ROOT").ok().filter(|root| !root.is_empty());
        let is_root = rustix::process::geteuid().is_root();
        let Some(root) = root.filter(|_| is_root) else {
            eprintln!(
                "!! SKIPPED: bad releases under systemd: expected root and CLEARFILM_TEST_BOOT_ROOT"
            );
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let io = folder.path().to_owned();
        fs::copy(office.repository().join("metadata/1.root.json"), io.join("root.json"))
            .expect("copied");
        fs::write(io.join("modality"), MODALITY).expect("written");
        let small = Encoding { rows: 512, columns: 512, ..Encoding::default() };
        let phantom = Phantom { seed: 1, projection: Projection::Pa, variant: Variant::ALL[0] };
        fs::write(io.join("phantom.dcm"), phantom.to_dicom(&small).expect("drawn"))
            .expect("written");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/deb.sh");
        let daemon = binary().with_file_name("clearfilm");
        let deb = io.join("clearfilm.deb");
        let made = Command::new(script).arg(daemon).arg(binary()).arg(deb).status();
        assert!(made.expect("bash is there").success());
        // Who may enter is decided in the device.
        drop(Command::new("chmod").arg("755").arg(&io).status());
        let nspawn = Command::new("systemd-nspawn")
            .args(["-q", "-D", &root, "--volatile=overlay", "-b", "--register=no", "--keep-unit"])
            .arg("--private-network")
            .arg(format!("--bind={}:/io", io.display()))
            .arg(format!("--bind-ro={}:/io/repo", office.repository().display()))
            .stdin(Stdio::null())
            .stdout(fs::File::create(io.join("console")).expect("made"))
            .stderr(fs::File::create(io.join("nspawn")).expect("made"))
            .spawn()
            .ok()?;
        let mut booted = Self { nspawn, pid: String::new(), io, _folder: folder };
        if !booted.is_up() {
            let said = fs::read_to_string(booted.io.join("nspawn")).unwrap_or_default();
            eprintln!("!! SKIPPED: bad releases under systemd: it does not boot here: {said}");
            return None;
        }
        Some(booted)
    }

    /// Waits until the services of the system are started.
    fn is_up(&mut self) -> bool {
        let own = self.nspawn.id();
        let begun = SystemClock.monotonic();
        while SystemClock.monotonic() - begun < PATIENCE {
            let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
            self.pid = children.unwrap_or_default().trim().to_owned();
            if !self.pid.is_empty() && self.sh("systemctl is-active multi-user.target").0 {
                return true;
            }
            if matches!(self.nspawn.try_wait(), Ok(Some(_))) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        false
    }

    /// Runs a command in the device: whether it succeeded, and what it printed.
    fn sh(&self, words: &str) -> (bool, String) {
        let output = Command::new("nsenter")
            .args(["-t", &self.pid, "-m", "-u", "-i", "-n", "-p", "sh", "-c", words])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("nsenter is there");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    #[track_caller]
    fn done(&self, words: &str) -> String {
        let (done, text) = self.sh(words);
        assert!(done, "{words}: {text}\n{}", self.log());
        text
    }

    fn log(&self) -> String {
        let units = "-u clearfilm-agent -u 'clearfilm-switch@*' -u clearfilm";
        // Of each image there are two lines.
        let images = "grep -vE 'object received|INFO read '";
        self.sh(&format!("journalctl --no-pager {units} | {images} | tail -n 60")).1
    }

    #[track_caller]
    fn until(&self, what: &str, most: Duration, words: &str) {
        let begun = SystemClock.monotonic();
        while !self.sh(words).0 {
            let waited = SystemClock.monotonic() - begun;
            assert!(waited < most, "{what}: {words}\n{}", self.log());
            std::thread::sleep(LOOK);
        }
    }

    /// How many lines of a file hold these words.
    fn count(&self, file: &str, words: &str) -> usize {
        let text = fs::read_to_string(self.io.join(file)).unwrap_or_default();
        text.lines().filter(|line| line.contains(words)).count()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid.parse()
            && let Some(pid) = Pid::from_raw(pid)
        {
            // The device's own first process: everything in it ends with it.
            let ended = kill_process(pid, Signal::KILL);
            assert!(matches!(ended, Ok(()) | Err(Errno::SRCH)), "{ended:?}");
        }
        drop(self.nspawn.wait());
    }
}

/// What a bad daemon does when it is run; everything else it does as a good one.
const CONDUCTS: [(&str, &str); 3] = [
    ("crash", "exit 1"),
    ("hang", "exec sleep 1000"),
    ("late", "(sleep 8; kill -9 $$) & exec \"$real\" \"$@\""),
];

/// Programs of a release: the real ones behind a script that misbehaves.
fn programs(office: &Office, number: u32, conduct: &str) {
    let app = office.path(&format!("app-{number}"));
    fs::create_dir_all(&app).expect("made");
    let daemon = binary().with_file_name("clearfilm");
    for (from, to) in [(daemon, "clearfilm.real"), (binary(), "clearfilm-fleet")] {
        let done = Command::new("strip").arg("-o").arg(app.join(to)).arg(from).status();
        assert!(done.expect("every linker comes with strip").success());
    }
    let words = format!(
        "real=$(readlink -f \"$0\").real\nif [ \"$1\" = run ]; then {conduct}\nfi\nexec \"$real\" \"$@\""
    );
    write_program(&app.join("clearfilm"), &words);
}

/// A bundle whose dictionary is another one than its golden outputs were made with.
fn spoil(bundle: &Path) {
    let manifest = fs::read_to_string(bundle.join("manifest.toml")).expect("read");
    let file = bundle.join("sae.safetensors");
    let mut bytes = fs::read(&file).expect("read");
    let before = clearfilm::id::Digest::of(&bytes).to_string().replace("sha256:", "");
    assert!(manifest.contains(&before), "the manifest names its files by their hashes");
    let end = bytes.len();
    // Whole numbers of it stay numbers.
    bytes[end / 2..].rotate_left(1024);
    let after = clearfilm::id::Digest::of(&bytes).to_string().replace("sha256:", "");
    fs::write(&file, bytes).expect("written");
    fs::write(bundle.join("manifest.toml"), manifest.replace(&before, &after)).expect("written");
}

#[test]
fn bad_releases_are_left_and_a_good_one_stays_while_images_arrive() {
    let office = Office::open();
    office.release(1, "");
    office.publish();
    let Some(device) = Booted::start(&office) else { return };
    device.done("dpkg -i /io/clearfilm.deb");
    fs::write(device.io.join("site.toml"), SITE).expect("written");
    device.done("install -m 640 -g clearfilm /io/site.toml /etc/clearfilm/conf.d/site.toml");
    device.done("systemctl start mosquitto");
    device.done(
        "systemd-run --unit=listen sh -c \
         'exec mosquitto_sub -h 127.0.0.1 -q 1 -i listen -c -t \"clearfilm/v1/#\" -F \"%t %p\" >/io/heard'",
    );
    device.done("systemctl enable --now clearfilm");
    device.until(
        "ready",
        PATIENCE,
        "clearfilm status --config /etc/clearfilm/config.toml | grep -q '^engine *ok'",
    );
    // Tenths: 15 is 1.5.
    for unit in ["clearfilm.service", "clearfilm-agent.service", "clearfilm-switch@.service"] {
        let security = "systemd-analyze security --no-pager --offline=yes --threshold=15";
        device.done(&format!("{security} /lib/systemd/system/{unit}"));
    }
    device.done("systemd-run --unit=modality sh /io/modality");
    // What the first release has is no program: it is told to nobody before the second is.
    for (number, (name, conduct)) in (2..).zip(CONDUCTS) {
        programs(&office, number, conduct);
        office.draft(number, "");
        office.publish();
        device.done("systemctl enable --now clearfilm-agent");
        check_left(&device, name);
    }
    programs(&office, 5, ":");
    spoil(&office.path("bundle"));
    office.draft(5, "");
    office.publish();
    check_left(&device, "golden");
    check_good(&office, &device);
}

/// The device goes back to the factory's release, says that this one failed, and reads on.
#[track_caller]
fn check_left(device: &Booted, name: &str) {
    let begun = SystemClock.monotonic();
    let failed = r#"grep -so '"failed":"[^"]*"' /var/lib/clearfilm-agent/progress.json"#;
    let before = device.sh(failed).1;
    let words = format!("now=$({failed}) && [ \"$now\" != '{}' ]", before.trim());
    device.until(name, LEFT_WITHIN, &words);
    let took = SystemClock.monotonic() - begun;
    let text = device.done("cat /var/lib/clearfilm-agent/progress.json");
    eprintln!("{name}: left after {took:.1?} from its publication: {text}");
    device.until(name, PATIENCE, "systemctl is-active clearfilm");
    let current = device.done("readlink /var/lib/clearfilm-slots/daemon/current");
    assert_eq!(current.trim(), "/usr/lib/clearfilm/factory", "{name}");
    let alarm = "clearfilm status --config /etc/clearfilm/config.toml | grep -q update-failed";
    device.until(name, PATIENCE, alarm);
    device.done("clearfilm alarm clear update-failed --config /etc/clearfilm/config.toml");
}

/// A good release stays, brings its agent, and costs no image.
fn check_good(office: &Office, device: &Booted) {
    fs::remove_dir_all(office.path("bundle")).expect("removed");
    for (path, bytes) in clearfilm::bundle::embedded_demo() {
        let file = office.path("bundle").join(path);
        fs::create_dir_all(file.parent().expect("it has one")).expect("made");
        fs::write(file, bytes).expect("written");
    }
    programs(office, 6, ":");
    office.draft(6, "");
    let before = device.count("sent", "");
    office.publish();
    let slots = "/var/lib/clearfilm-slots";
    for slot in ["daemon", "agent"] {
        let committed =
            format!("grep -q '^committed' {slots}/{slot}/outcome && [ ! -e {slots}/{slot}/trial ]");
        device.until(slot, PATIENCE, &committed);
    }
    let current = device.done("readlink /var/lib/clearfilm-slots/agent/current");
    assert!(current.starts_with("/var/lib/clearfilm-agent/releases/"), "{current}");
    std::thread::sleep(Duration::from_secs(5));
    fs::write(device.io.join("enough"), "").expect("written");
    device.until("the modality's end", PATIENCE, "! systemctl is-active modality");
    let sent = fs::read_to_string(device.io.join("sent")).expect("images were sent");
    let times: Vec<f64> = sent.lines().map(|line| line.parse().expect("a time")).collect();
    // A bad one may hang for as long as it is given.
    let pause =
        times[before.max(1) - 1..].windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    eprintln!("{} images, longest pause {pause:.1} s", times.len());
    assert!(pause < PAUSE.as_secs_f64(), "expected a pause under {PAUSE:?}, found {pause}");
    let waits = "clearfilm status --config /etc/clearfilm/config.toml | grep -q '^inbox *0'";
    device.until("everything is read", PATIENCE, waits);
    let waits = "clearfilm status --config /etc/clearfilm/config.toml | grep -q '^outbox *0'";
    device.until("everything is told", PATIENCE, waits);
    let heard = fs::read_to_string(device.io.join("heard")).expect("the broker was listened to");
    let read: std::collections::BTreeSet<&str> = heard
        .lines()
        .filter_map(|line| line.split(' ').next()?.strip_suffix("/findings"))
        .collect();
    assert_eq!(read.len(), times.len(), "every image that was accepted is read and told once");
    let withdrawn = device.count("heard", "\"state\":\"withdrawn\"");
    eprintln!("{withdrawn} exams of the release that crashed late were withdrawn");
    assert!(withdrawn > 0, "what a release had said that was rolled back is withdrawn");
}
