//! What is installed on a device: one Debian package with programs, service, configuration,
//! manual and the bundle that a device has from the factory.

mod deb;
mod licences;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use data_encoding::HEXLOWER;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::checkout::Checkout;
use crate::crates;
use crate::cross::{self, Built};
use crate::manual;
use crate::sysroot::Std;
use crate::target::{GLIBC, Target};
use deb::{File, Package};
use unit::Unit;

/// Where the service file comes from: the same code that `clearfilm-fleet render unit` runs.
#[path = "../../../provisioning/src/unit.rs"]
mod unit;

const POSTINST: &str = include_str!("../../../provisioning/debian/postinst");
const PRERM: &str = include_str!("../../../provisioning/debian/prerm");
const POSTRM: &str = include_str!("../../../provisioning/debian/postrm");

/// The bundle that a device has from the factory.
const BUNDLE: &str = "models/bundles/demo";

/// Where it lies on a device, with what says which release it is.
const FACTORY: &str = "usr/lib/clearfilm/factory";

/// What each service of a device starts: links that only root writes.
const SLOTS: &str = "/var/lib/clearfilm-slots";

/// The script that writes them.
const SWITCH: &str = "/usr/lib/clearfilm/switch";
const SWITCH_SCRIPT: &str = include_str!("../../../provisioning/switch/switch");

/// Scripts for a device's life, and where they lie on it.
const SCRIPTS: &str = "provisioning/scripts";
const PROVISION: &str = "usr/lib/clearfilm/provision";

/// JetPack 7's systemd; the units of a package use everything that it knows.
const NEWEST_SYSTEMD: u32 = 255;

/// Folders below the bundle's: the format has one level (`golden/`).
const BUNDLE_DEPTH: usize = 1;

/// Builds the programs where that was not done yet, and packs them.
pub(crate) fn run(checkout: &Checkout, target: Target, std: Std) -> anyhow::Result<()> {
    let built = cross::build(checkout, target, std, false)?;
    let version = env!("CARGO_PKG_VERSION");
    let package = Package {
        control: control(target, version),
        scripts: BTreeMap::from([("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)]),
        files: files(checkout, target, &built, version)?,
        links: links(),
        folders: BTreeMap::from([("etc/clearfilm/conf.d".to_owned(), 0o750)]),
        epoch: checkout.epoch,
    };
    let bytes = package.to_bytes()?;
    let folder = checkout.target().join("package");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join(format!("clearfilm_{version}_{}.deb", target.debian()));
    fs::write(&file, &bytes).with_context(|| format!("writing {}", file.display()))?;
    anstream::println!(
        "{}: {} bytes, sha256 {}, standard library of the {}",
        file.display(),
        bytes.len(),
        HEXLOWER.encode(&Sha256::digest(&bytes)),
        built.std
    );
    Ok(())
}

fn control(target: Target, version: &str) -> Vec<(&'static str, String)> {
    let (major, minor) = GLIBC;
    vec![
        ("Package", "clearfilm".into()),
        ("Version", version.into()),
        ("Architecture", target.debian().into()),
        // Nobody's address: packages are handed over, not published.
        ("Maintainer", "Clearfilm <clearfilm@example.invalid>".into()),
        ("Section", "science".into()),
        ("Priority", "optional".into()),
        // passwd makes the services' users.
        ("Depends", format!("libc6 (>= {major}.{minor}), passwd")),
        // What the provisioning scripts speak with, where a site has it.
        ("Recommends", "openssl, curl, nftables, dcmtk, mosquitto-clients".into()),
        (
            "Description",
            "findings and draft reports from chest radiographs\n \
             Receives chest radiographs over DICOM, reads them with an image encoder\n \
             and a sparse autoencoder, and publishes findings with their evidence and\n \
             a draft report over MQTT. Nothing that it writes is a diagnosis."
                .into(),
        ),
    ]
}

/// A person at the device runs what its services run.
fn links() -> BTreeMap<String, String> {
    [("clearfilm", "daemon"), ("clearfilm-fleet", "agent")]
        .map(|(name, slot)| {
            (format!("usr/bin/{name}"), format!("{SLOTS}/{slot}/current/app/{name}"))
        })
        .into()
}

/// Every file by its path on the device.
fn files(
    checkout: &Checkout,
    target: Target,
    built: &Built,
    version: &str,
) -> anyhow::Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    for (name, program) in &built.programs {
        files.insert(format!("{FACTORY}/app/{name}"), File::program(read(program)?));
    }
    files.insert(SWITCH[1..].into(), File::program(SWITCH_SCRIPT));
    let paths = unit::Paths {
        slots: Path::new(SLOTS),
        switch: Path::new(SWITCH),
        config: Path::new("/etc/clearfilm/config.toml"),
    };
    let units = [
        (Unit::Daemon, "clearfilm.service"),
        (Unit::Agent, "clearfilm-agent.service"),
        (Unit::Switch, "clearfilm-switch@.service"),
        (Unit::SwitchPath, "clearfilm-switch@.path"),
    ];
    for (unit, file) in units {
        // What an older systemd does not know it says at the start, and goes on.
        let text = unit::render(unit, paths, NEWEST_SYSTEMD)?;
        files.insert(format!("lib/systemd/system/{file}"), File::plain(text));
    }
    let config = read(&checkout.root.join("docs/config.toml"))?;
    files.insert("etc/clearfilm/config.toml".into(), File::group_only(config));
    for (from, to) in manual::installed() {
        let bytes = read(&checkout.root.join(from))?;
        let bytes = if to.ends_with(".gz") { gzip(&bytes)? } else { bytes };
        files.insert(to, File::plain(bytes));
    }
    let doc = |name: &str| format!("usr/share/doc/clearfilm/{name}");
    files.insert(doc("copyright"), File::plain(copyright(checkout, target, built)?));
    let changelog = read(&checkout.root.join("CHANGELOG.md"))?;
    files.insert(doc("changelog.gz"), File::plain(gzip(&changelog)?));
    scripts_into(&checkout.root.join(SCRIPTS), PROVISION, &mut files)?;
    let bundle = checkout.root.join(BUNDLE);
    folder_into(&bundle, &format!("{FACTORY}/bundle"), BUNDLE_DEPTH, &mut files)?;
    // A bundle's digest is that of its manifest, which holds those of its files.
    let digest = HEXLOWER.encode(&Sha256::digest(read(&bundle.join("manifest.toml"))?));
    let release = release(checkout, built, version, &digest)?;
    files.insert(format!("{FACTORY}/release.toml"), File::plain(release));
    Ok(files)
}

/// Which release a device has from the factory, and what its bytes follow from.
fn release(
    checkout: &Checkout,
    built: &Built,
    version: &str,
    digest: &str,
) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "version = \"{version}\"")?;
    writeln!(text, "commit = \"{}\"", checkout.commit)?;
    writeln!(text, "bundle = \"sha256:{digest}\"")?;
    writeln!(text, "rustc = \"{} ({})\"", built.rustc.release, built.rustc.short_commit())?;
    writeln!(text, "std = \"{}\"", built.std)?;
    Ok(text)
}

fn copyright(checkout: &Checkout, target: Target, built: &Built) -> anyhow::Result<String> {
    let licence = checkout.root.join("LICENSE");
    let ours =
        fs::read_to_string(&licence).with_context(|| format!("reading {}", licence.display()))?;
    let linked = crates::linked(checkout, target, &built.crates)?;
    let of_zig = |name: &str| built.tools.zig_library().join(name);
    let more = [
        ("libc++ of LLVM", of_zig("libcxx")),
        ("libc++abi of LLVM", of_zig("libcxxabi")),
        ("libunwind of LLVM", of_zig("libunwind")),
    ];
    licences::copyright(&ours, &linked, &more)
}

/// Every file of a folder.
fn folder_into(
    from: &Path,
    to: &str,
    depth: usize,
    files: &mut BTreeMap<String, File>,
) -> anyhow::Result<()> {
    let what = || format!("reading {}", from.display());
    for entry in from.read_dir().with_context(what)? {
        let path: PathBuf = entry.with_context(what)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = format!("{to}/{name}");
        if path.is_dir() {
            if depth == 0 {
                bail!("{}: expected no folder so deep in a bundle", path.display());
            }
            folder_into(&path, &to, depth - 1, files)?;
        } else {
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            files.insert(to, File::plain(bytes));
        }
    }
    Ok(())
}

/// Scripts that are called may be run; those in `lib` are read by them.
fn scripts_into(from: &Path, to: &str, files: &mut BTreeMap<String, File>) -> anyhow::Result<()> {
    let before: Vec<String> = files.keys().cloned().collect();
    folder_into(from, to, 1, files)?;
    for (path, file) in files.iter_mut().filter(|(path, _)| !before.contains(path)) {
        if !path.starts_with(&format!("{to}/lib/")) {
            file.mode = 0o755;
        }
    }
    Ok(())
}

/// As `gzip -9n`: without a name and a time.
fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gz = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gz.write_all(bytes).context("compressing")?;
    gz.finish().context("compressing")
}
