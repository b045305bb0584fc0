//! Clearfilm and its peers as receivers over loopback, each with a new folder.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use clearfilm::ingest::send;
use serde_json::json;

use crate::load::{Load, Run};
use crate::peers::{
    Broker, Process, Site, Subscriber, binary, free_port, published, small, temporary, wait_until,
};

/// Longest PDU that everybody takes, bytes: the most that DCMTK allows, and Clearfilm's default.
const PDU: u32 = 131_072;

/// Who takes the objects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Receiver {
    /// No receiver: new files, synced.
    Disk,
    /// The daemon without an engine: it receives and keeps.
    Kept,
    /// The daemon as it is: it reads what it received while it receives more.
    Reading,
    /// DCMTK; it never syncs.
    Storescp,
    /// Orthanc; it syncs its files.
    Orthanc,
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "raw write and fsync",
            Self::Kept => "Clearfilm, no engine",
            Self::Reading => "Clearfilm, reading",
            Self::Storescp => "DCMTK `storescp`",
            Self::Orthanc => "Orthanc",
        })
    }
}

impl Receiver {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 5] =
        [Self::Disk, Self::Kept, Self::Reading, Self::Storescp, Self::Orthanc];

    /// Starts it on an empty folder and a synced disk, sends, and ends it.
    pub(crate) fn run(self, load: &Load, broker: &Broker) -> Run {
        sync();
        match self {
            Self::Disk => {
                let folder = temporary();
                stored(load.write(folder.path()), load, folder.path())
            }
            Self::Kept => kept(load, broker),
            Self::Reading => reading(load, broker),
            Self::Storescp => {
                let (folder, port) = (temporary(), free_port());
                let mut command = Command::new("storescp");
                // Without --fork it serves one association after the other.
                command.args(["--fork", "--max-pdu", &PDU.to_string(), "--output-directory"]);
                command.arg(folder.path()).arg(port.to_string());
                listening(&mut command, port, load, folder.path())
            }
            Self::Orthanc => {
                let (folder, port) = (temporary(), free_port());
                let file = folder.path().join("orthanc.json");
                fs::write(&file, orthanc(folder.path(), port, load)).expect("written");
                listening(Command::new("Orthanc").arg(file), port, load, folder.path())
            }
        }
    }
}

/// The daemon where ONNX Runtime is the only engine asked for and its library is nowhere.
fn kept(load: &Load, broker: &Broker) -> Run {
    let site = Site::new(broker.port, "");
    let mut command = Command::new(binary());
    command.env("CLEARFILM__ENGINE__ORDER", "[\"cpu\"]").stderr(Stdio::null());
    command.env("CLEARFILM__ENGINE__LIBRARY", site.folder.path().join("no-engine.so"));
    let daemon = site.run_by(&mut command);
    let run = load.send(site.address(), "CLEARFILM");
    daemon.kill();
    stored(run, load, &site.storage())
}

/// The daemon with the demo bundle on tract, after it has read a first image.
fn reading(load: &Load, broker: &Broker) -> Run {
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = site.run_by(&mut Command::new(binary()));
    let status = send::store(site.address(), "CLEARFILM", "BENCH", &small(1).0).expect("sent");
    assert_eq!(status, 0, "expected success, found {status:04x}");
    subscriber.until("a reading", &mut Vec::new(), |seen| published(seen) > 0);
    subscriber.end();
    let run = load.send(site.address(), "CLEARFILM");
    daemon.kill();
    stored(run, load, &site.storage())
}

/// Two settings are not Orthanc's own: as many threads as associations, and the PDU.
fn orthanc(folder: &Path, port: u16, load: &Load) -> String {
    let configuration = json!({
        "Name": "bench",
        "StorageDirectory": folder.join("storage"),
        "IndexDirectory": folder.join("index"),
        "Plugins": [],
        "HttpServerEnabled": false,
        "DicomPort": port,
        "DicomCheckCalledAet": false,
        "DicomThreadsCount": load.associations,
        "MaximumPduLength": PDU,
        "SyncStorageArea": true,
    });
    configuration.to_string()
}

/// Starts a peer, sends, and ends it.
fn listening(command: &mut Command, port: u16, load: &Load, folder: &Path) -> Run {
    // DCMTK, which Orthanc is built on, sends an answer in two pieces; without it the second waits
    // 40 ms until the sender acknowledges the first.
    let command = command.env("TCP_NODELAY", "1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let process = Process(child.expect("DCMTK and Orthanc are installed"));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until("an answer to C-ECHO", || {
        send::echo(address, "PEER", "BENCH").is_ok_and(|status| status == 0)
    });
    let run = load.send(address, "PEER");
    process.kill();
    stored(run, load, folder)
}

/// A run whose objects do lie in the folder; those of the warm-up are there too.
fn stored(run: Run, load: &Load, folder: &Path) -> Run {
    let found = files_of(folder, load.bytes());
    assert!(
        found >= run.times.len(),
        "expected {} objects in {}, found {found}",
        run.times.len(),
        folder.display()
    );
    run
}

/// Everything on every disk, so that nobody writes what another left behind.
fn sync() {
    assert!(
        Command::new("sync").status().expect("sync is there").success(),
        "the disks are synced"
    );
}

/// Files of at least `bytes` in a folder and all folders in it.
fn files_of(folder: &Path, bytes: u64) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let counted = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => files_of(&entry.path(), bytes),
        Ok(about) => usize::from(about.len() >= bytes),
        Err(_) => 0,
    });
    counted.sum()
}
