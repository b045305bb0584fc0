//! TLS with real peers: DCMTK and OpenSSL at the DICOM port, mosquitto at the other end, and
//! certificates that are right, wrong, too old and replaced while it runs.

mod broker;
mod certificates;
mod files;
mod rotation;
mod senders;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::peers::{Process, Site, binary, wait_until};

/// A daemon whose log is read by the test.
struct Logged {
    process: Process,
    log: PathBuf,
}

impl Logged {
    /// Starts it; it may not be ready yet.
    fn start(site: &Site) -> Self {
        Self::start_by(site, &mut Command::new(binary()))
    }

    /// The same by a command that the binary's arguments are added to.
    fn start_by(site: &Site, command: &mut Command) -> Self {
        Self { process: site.start_by(command), log: site.log() }
    }

    /// Everything it has said.
    fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Waits until it says so, in what comes after the first `from` bytes.
    #[track_caller]
    fn says(&self, from: usize, text: &str) {
        wait_until(&format!("{text:?} in the log"), || self.said()[from..].contains(text));
    }
}
