//! Disks that lose their power, and disks without room, by loop devices and small file systems.
//! As root only; elsewhere the tests say that they were skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::ingest::send;

use crate::faults::{Ends, findings, load};
use crate::peers::{Broker, Process, Seen, Site, Subscriber, binary, small, temporary, wait_until};

/// Power cuts in an ordinary run; `CLEARFILM_TEST_CUTS` asks for more.
const CUTS: u64 = 25;

/// `FS_IOC_SHUTDOWN` with `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`: what was not synced is gone.
const SHUT: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// A file system of its own at a folder, unmounted in the end.
struct Mounted(PathBuf);

impl Mounted {
    /// None where this user may not mount.
    fn at(folder: &Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder");
        let mut command = Command::new("mount");
        let status = command.args(arguments).arg(folder).stderr(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("!! SKIPPED: disks: mounting needs root and a loop device");
            return None;
        }
        Some(Self(folder.into()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

/// An ext4 image that outlives its mounts.
struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    fn new() -> Option<Self> {
        let image = Self { folder: temporary() };
        File::create(image.path()).and_then(|f| f.set_len(2 << 30)).expect("an image");
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image.path()).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("!! SKIPPED: disks: no mkfs.ext4");
            return None;
        }
        Some(image)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    fn mount(&self, folder: &Path) -> Option<Mounted> {
        let path = self.path();
        Mounted::at(folder, &["-o", "loop", path.to_str()?])
    }
}

/// A store that was begun anew is filled from the spool, so that no image is missed: only the log
/// tells that what was synced is gone.
#[track_caller]
fn opened(site: &Site, cuts: u64) {
    let log = fs::read_to_string(site.log()).expect("a log");
    let anew = log.lines().find(|line| line.contains("the store could not be opened"));
    assert_eq!(anew, None, "after {cuts} cuts");
}

#[test]
fn power_cuts_under_load_lose_no_acknowledged_object_and_the_store_opens_every_time() {
    let Some(image) = Image::new() else { return };
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let cuts = std::env::var("CLEARFILM_TEST_CUTS").ok();
    let cuts = cuts.map_or(CUTS, |n| n.parse().expect("a number"));
    let (seed, ledger) = (AtomicU64::new(1000), Mutex::new(Vec::new()));
    let acknowledged = || ledger.lock().expect("no panic").len();
    for round in 0..cuts {
        let Some(mounted) = image.mount(&site.storage()) else { return };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Ends(&stop);
            let daemon = site.run();
            opened(&site, round);
            let before = acknowledged();
            scope.spawn(|| load(&site, &seed, &stop, &ledger));
            wait_until("an acknowledged object", || acknowledged() > before);
            // Long enough for one reading even of an object that is read apart, and then a moment
            // that moves by 31 ms a round.
            let until = SystemClock.monotonic() + Duration::from_millis(300 + 31 * round);
            wait_until("the moment of the cut", || SystemClock.monotonic() >= until);
            let shut = Command::new("python3").args(["-c", SHUT]).arg(&mounted.0).status();
            assert!(shut.expect("python3").success(), "the file system is shut down");
            daemon.kill();
        });
        drop(mounted);
    }
    let Some(_mounted) = image.mount(&site.storage()) else { return };
    let ledger = ledger.into_inner().expect("no panic");
    let owed: BTreeSet<String> = ledger.iter().map(|study| site.exam(study)).collect();
    let daemon = site.run();
    opened(&site, cuts);
    let mut seen = Vec::new();
    subscriber.until("the findings of every acknowledged object", &mut seen, |seen| {
        let told = findings(seen);
        owed.iter().all(|exam| told.contains_key(exam.as_str()))
    });
    daemon.terminate();
    let twice: BTreeMap<_, _> =
        findings(&seen).into_iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.is_empty(), "one reading of each: {twice:?}");
    // What was sent was synced before: no number is given out again after a cut.
    let mut numbers: BTreeMap<u64, &str> = BTreeMap::new();
    for message in &seen {
        let Some(number) = message.envelope["seq"].as_u64() else { continue };
        let first = *numbers.entry(number).or_insert_with(|| message.id());
        assert_eq!(first, message.id(), "two messages have the number {number}");
    }
    eprintln!("{} objects acknowledged over {cuts} power cuts, none lost", ledger.len());
}

/// Fills the file system to its last byte; removing the file makes room again.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).expect("a file");
    for size in [1 << 20, 4096, 1] {
        let piece = vec![0; size];
        while file.write_all(&piece).is_ok() {}
    }
    path
}

fn state(seen: &[Seen], wanted: &str) -> usize {
    let is = |s: &&Seen| s.kind() == "state" && s.envelope["payload"]["state"] == wanted;
    seen.iter().filter(is).count()
}

#[test]
fn a_full_disk_is_answered_and_reception_resumes_without_a_hand() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let Some(_mounted) = Mounted::at(&site.storage(), &["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
    else {
        return;
    };
    let subscriber = Subscriber::start(broker.port, &[]);
    let mut seen = Vec::new();
    let send = |seed| send::store(site.address(), "CLEARFILM", "TEST", &small(seed).0);
    // At receive: refused while there is no room, taken once there is.
    let daemon = site.run();
    assert_eq!(send(1).expect("an answer"), 0);
    let filler = fill(&site.storage());
    assert_eq!(send(2).expect("an answer"), 0xA700);
    fs::remove_file(&filler).expect("removed");
    assert_eq!(send(2).expect("an answer"), 0);
    subscriber.until("both readings", &mut seen, |seen| state(seen, "read") == 2);
    // At commit: it waits in the inbox, and is read once there is room again, by this process or by
    // the next one that the service manager starts.
    let child = crate::children::spare(&daemon);
    crate::children::signal(child, "STOP");
    assert_eq!(send(3).expect("an answer"), 0);
    let filler = fill(&site.storage());
    crate::children::signal(child, "CONT");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(state(&seen, "quarantined"), 0);
    drop(daemon);
    // At start: no store opens without room, and none is set aside for that.
    let config = site.folder.path().join("config.toml");
    let mut start = Command::new(binary());
    let mut unlucky =
        Process(start.arg("run").arg("--config").arg(config).spawn().expect("it starts"));
    std::thread::sleep(Duration::from_secs(2));
    drop(unlucky.0.kill());
    drop(unlucky);
    fs::remove_file(&filler).expect("removed");
    let entries = fs::read_dir(site.storage()).expect("a folder").flatten();
    let names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|name| !name.contains("broken")), "{names:?}");
    let daemon = site.run();
    subscriber.until("the third reading", &mut seen, |seen| state(seen, "read") == 3);
    daemon.terminate();
}
