//! A device of another processor: a copy of an arm64 Debian root, the package installed into it,
//! and its programs run by qemu through the kernel's `binfmt_misc`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::peers::temporary;

/// The service's user and state folder.
const USER: &str = "clearfilm";
const STATE: &str = "var/lib/clearfilm";

/// What `tests/run.sh` prepared.
struct Prepared {
    /// A Debian root of the device's processor with the oldest glibc.
    root: PathBuf,
    deb: PathBuf,
}

/// Says loudly where nothing was prepared; `tests/run.sh` has said why.
fn prepared(what: &str) -> Option<Prepared> {
    let of = |name: &str| {
        let found = std::env::var_os(name).map(PathBuf::from);
        if found.is_none() {
            eprintln!("!! SKIPPED: {what}: {name} is not set");
        }
        found
    };
    Some(Prepared { root: of("CLEARFILM_TEST_ARM_ROOT")?, deb: of("CLEARFILM_TEST_ARM_DEB")? })
}

/// ONNX Runtime for the device's processor; says loudly where it is not there.
pub(super) fn onnx_runtime(what: &str) -> Option<PathBuf> {
    let library = std::env::var_os("CLEARFILM_TEST_ARM_ORT").map(PathBuf::from);
    if library.is_none() {
        eprintln!("!! SKIPPED: {what}: CLEARFILM_TEST_ARM_ORT is not set");
    }
    library
}

/// A root of its own; it goes with the test.
pub(super) struct Device {
    folder: tempfile::TempDir,
}

impl Device {
    /// A device with the package just unpacked and configured; none where nothing was prepared.
    pub(super) fn with_package(what: &str) -> Option<Self> {
        let prepared = prepared(what)?;
        let device = Self { folder: temporary() };
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(&prepared.root).arg(device.root());
        let copied = copy.status().expect("cp is there");
        assert!(copied.success(), "copying {}", prepared.root.display());
        fs::copy(&prepared.deb, device.path("clearfilm.deb")).expect("copied");
        let installed = device.dpkg(&["--install", "/clearfilm.deb"]);
        assert!(installed.0, "{}", installed.1);
        Some(device)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A file of the device as this machine sees it.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    #[track_caller]
    pub(super) fn text(&self, inside: &str) -> String {
        let read = fs::read_to_string(self.path(inside));
        assert!(read.is_ok(), "reading {inside}: {read:?}");
        read.unwrap_or_default()
    }

    /// A program of the device, as root.
    pub(super) fn program(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.root()).arg(program);
        self.surroundings(&mut command);
        command
    }

    /// A program of the device, as the service's user.
    pub(super) fn program_of_service(&self, program: &str) -> Command {
        let (user, group) = self.service_user();
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={user}:{group}")).arg(self.root()).arg(program);
        self.surroundings(&mut command);
        command
    }

    fn surroundings(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.env("DEBIAN_FRONTEND", "noninteractive");
    }

    /// Does dpkg succeed, and what does it say?
    pub(super) fn dpkg(&self, arguments: &[&str]) -> (bool, String) {
        said(&self.program("dpkg").args(arguments).output().expect("chroot is there"))
    }

    /// Number of the service's user and group in the device's own files.
    pub(super) fn service_user(&self) -> (u32, u32) {
        let passwd = self.text("/etc/passwd");
        let entry = passwd.lines().find_map(|l| l.strip_prefix(&format!("{USER}:")));
        let fields: Vec<&str> = entry.expect("the package made its user").split(':').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        (number(1), number(2))
    }

    /// Makes the state folder as the unit's `StateDirectory` lets systemd make it.
    pub(super) fn make_state(&self) {
        let (state, (user, group)) = (self.path(STATE), self.service_user());
        fs::DirBuilder::new().mode(0o700).create(&state).expect("made");
        chown(&state, Some(user), Some(group)).expect("root gives it away");
    }

    /// The words of `ExecStart` of the installed unit.
    pub(super) fn exec_start(&self) -> Vec<String> {
        let unit = self.text("/lib/systemd/system/clearfilm.service");
        let line = unit.lines().find_map(|l| l.strip_prefix("ExecStart="));
        line.expect("a line").split_whitespace().map(Into::into).collect()
    }

    /// Adds settings as an operator does: a file of `conf.d` that only the service may read.
    pub(super) fn configure(&self, name: &str, text: &str) {
        let file = self.path(&format!("/etc/clearfilm/conf.d/{name}.toml"));
        fs::write(&file, text).expect("written");
        let (_, group) = self.service_user();
        chown(&file, None, Some(group)).expect("root gives it away");
        mode(&file, "640");
    }
}

/// `chmod`.
fn mode(file: &Path, mode: &str) {
    let status = Command::new("chmod").arg(mode).arg(file).status();
    assert!(status.expect("chmod is there").success());
}

/// Did it succeed, and everything that it printed.
pub(super) fn said(output: &Output) -> (bool, String) {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    (output.status.success(), format!("{out}{err}"))
}
