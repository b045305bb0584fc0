//! The people who release, their keys and their repository; and a device that updates from it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use clearfilm::bundle::embedded_demo;

/// Everybody who holds a key.
const HOLDERS: [&str; 9] = [
    "root-1",
    "root-2",
    "root-3",
    "targets",
    "snapshot",
    "timestamp",
    "app",
    "models",
    "operations",
];

/// The program of the fleet, built with these tests.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_clearfilm-fleet"))
}

/// Runs the program: what it printed, or what it said instead.
pub(crate) fn fleet<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<String, String> {
    run(Command::new(binary()).args(arguments))
}

#[expect(clippy::unwrap_in_result, reason = "what the program says is the result")]
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The people who release: a folder with keys, bundle and repository.
pub(crate) struct Office {
    pub(crate) folder: tempfile::TempDir,
}

impl Office {
    /// With keys that hold the roles, and nothing released.
    pub(crate) fn open() -> Self {
        let office = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(office.path("keys")).expect("made");
        for holder in HOLDERS {
            office.new_key(holder);
        }
        for (path, bytes) in embedded_demo() {
            let file = office.path("bundle").join(path);
            fs::create_dir_all(file.parent().expect("it has one")).expect("made");
            fs::write(file, bytes).expect("written");
        }
        office.hold(&[]);
        office.sign(&HOLDERS[..2]);
        office.sign(&["targets", "app", "models", "operations"]);
        office.publish();
        office
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("repo")
    }

    pub(crate) fn key(&self, holder: &str) -> PathBuf {
        self.path("keys").join(holder)
    }

    pub(crate) fn new_key(&self, holder: &str) {
        fleet(&["key".as_ref(), "new".as_ref(), self.key(holder).as_os_str()]).expect("made");
    }

    /// Drafts that the usual holders hold the roles, but for those that others replace.
    pub(crate) fn hold(&self, replaced: &[(&str, &str)]) -> String {
        let name = |holder: &str| {
            let other = replaced.iter().find(|(old, _)| *old == holder);
            format!("\"keys/{}.pub\"", other.map_or(holder, |(_, new)| *new))
        };
        let root: Vec<String> = HOLDERS[..3].iter().map(|holder| name(holder)).collect();
        let mut text = format!("root = {{ keys = [{}], threshold = 2 }}\n", root.join(", "));
        for role in &HOLDERS[3..] {
            text += &format!("{role} = {{ keys = [{}], threshold = 1 }}\n", name(role));
        }
        fs::write(self.path("roles.toml"), text).expect("written");
        self.repo("roles", &[self.path("roles.toml")])
    }

    /// A verb about the repository.
    pub(crate) fn repo(&self, verb: &str, more: &[PathBuf]) -> String {
        self.try_repo(verb, more).expect("it is done")
    }

    pub(crate) fn try_repo(&self, verb: &str, more: &[PathBuf]) -> Result<String, String> {
        run(Command::new(binary()).args(["repo", verb]).arg(self.repository()).args(more))
    }

    pub(crate) fn sign(&self, holders: &[&str]) -> String {
        self.repo("sign", &self.keys(holders))
    }

    fn keys(&self, holders: &[&str]) -> Vec<PathBuf> {
        holders.iter().flat_map(|holder| ["--key".into(), self.key(holder)]).collect()
    }

    pub(crate) fn publish(&self) -> String {
        self.repo("publish", &self.keys(&["snapshot", "timestamp"]))
    }

    /// Drafts and signs a release of this number, and that everybody runs it.
    pub(crate) fn release(&self, number: u32, more: &str) {
        let app = self.path(&format!("app-{number}/bin"));
        fs::create_dir_all(&app).expect("made");
        let program = app.join("clearfilm");
        write_program(&program, &format!("echo release {number}"));
        self.draft(number, more);
    }

    /// The same with the programs that lie in `app-<number>`.
    pub(crate) fn draft(&self, number: u32, more: &str) {
        self.repo("add", &["app".into(), self.path(&format!("app-{number}"))]);
        self.repo("add", &["bundle".into(), self.path("bundle")]);
        let architecture = std::env::consts::ARCH;
        let text = format!(
            "name = \"0.{number}.0\"\nnumber = {number}\nepoch = 1\ndevices = [\"generic\"]\n\
             engines = {{ worse = false }}\nstore = {{ oldest = 1, writes = 1 }}\nnotes = \"\"\n\
             bundle = \"bundle\"\n{more}\n\
             [app]\nversion = \"0.{number}.0\"\nbuilds = {{ {architecture} = \"app-{number}\" }}\n"
        );
        fs::write(self.path("release.toml"), text).expect("written");
        self.repo("release", &[self.path("release.toml")]);
        self.roll_out(number, "north", 1);
        self.sign(&["targets", "app", "models", "operations"]);
    }

    /// Drafts that everybody of a site runs a release.
    pub(crate) fn roll_out(&self, number: u32, site: &str, min_epoch: u32) {
        let waves = "{ after = \"1h\", percent = 100 }";
        self.roll_out_in(number, site, min_epoch, "2026-01-01T00:00:00Z", waves);
    }

    /// The same, in waves of one's own.
    pub(crate) fn roll_out_in(
        &self,
        number: u32,
        site: &str,
        min_epoch: u32,
        start: &str,
        waves: &str,
    ) {
        let text = format!(
            "format = \"clearfilm-fleet/1\"\nsites = [\"{site}\"]\nrelease = \"0.{number}.0\"\n\
             start = \"{start}\"\nhalt = false\nmin_epoch = {min_epoch}\n\
             waves = [{waves}]\n"
        );
        fs::write(self.path("fleet.toml"), text).expect("written");
        self.repo("fleet", &[self.path("fleet.toml")]);
    }
}

/// A program of a few words.
pub(crate) fn write_program(file: &Path, words: &str) {
    fs::write(file, format!("#!/bin/sh\n{words}\n")).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("set");
}

/// A device: its configuration and what its agent keeps.
pub(crate) struct Device {
    pub(crate) folder: tempfile::TempDir,
}

impl Device {
    /// A new one, shipped with this root.
    pub(crate) fn shipped(root: &Path) -> Self {
        Self::called("north-dx-2", root)
    }

    /// A new one of this name.
    pub(crate) fn called(name: &str, root: &Path) -> Self {
        let device = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::copy(root, device.folder.path().join("root.json")).expect("copied");
        device.configure(name);
        device
    }

    fn configure(&self, name: &str) {
        let text = format!(
            "[unit]\nsite = \"north\"\nname = \"{name}\"\n\
             [update]\nfolder = {:?}\nroot_file = {:?}\nfree_min = \"1MiB\"\n",
            self.agent(),
            self.folder.path().join("root.json"),
        );
        fs::write(self.folder.path().join("config.toml"), text).expect("written");
    }

    /// One that has seen the same as another.
    pub(crate) fn like(other: &Self) -> Self {
        let device = Self { folder: tempfile::tempdir().expect("a folder") };
        copy(other.folder.path(), device.folder.path());
        device.configure("north-dx-2");
        device
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Takes what a repository says, and fetches it.
    pub(crate) fn fetch(&self, repository: &Path) -> Result<String, String> {
        run(&mut self.command("fetch", repository))
    }

    pub(crate) fn command(&self, verb: &str, repository: &Path) -> Command {
        let mut command = Command::new(binary());
        command.args(["update", verb, "--config"]).arg(self.folder.path().join("config.toml"));
        command.arg("--from").arg(repository);
        command
    }

    /// What it keeps of what it believes and runs, by path: all but what is scratch.
    pub(crate) fn keeps(&self) -> BTreeMap<String, Vec<u8>> {
        let mut kept = BTreeMap::new();
        collect(&self.agent(), &self.agent(), &mut kept);
        kept.retain(|path, _| {
            !path.starts_with("metadata.new/")
                && !path.starts_with("partial/")
                && !path.contains(".new/")
        });
        kept
    }
}

fn collect(root: &Path, folder: &Path, kept: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, kept);
        } else {
            let name = path.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
            kept.insert(name, fs::read(&path).expect("read"));
        }
    }
}

/// Copies a folder; files that nobody changes in place are one file under two names.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else if source
            .components()
            .any(|part| part.as_os_str() == "targets" || part.as_os_str() == "releases")
        {
            fs::hard_link(&source, &target).expect("linked");
        } else {
            fs::copy(&source, &target).expect("copied");
        }
    }
}

/// An office that has released twice, its repository as it was after the first time, and a device
/// that has the first release.
pub(crate) struct Scene {
    pub(crate) office: Office,
    pub(crate) first: PathBuf,
    pub(crate) device: Device,
}

/// Made once: an attack copies what it changes.
pub(crate) static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let office = Office::open();
    office.release(1, "");
    office.publish();
    let first = office.path("first");
    copy(&office.repository(), &first);
    let device = Device::shipped(&first.join("metadata/1.root.json"));
    let told = device.fetch(&first).expect("the first release");
    assert!(told.contains("staged"), "{told}");
    office.release(2, "");
    office.publish();
    Scene { office, first, device }
});
