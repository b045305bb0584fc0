//! The target's standard library: the toolchain's own where rustup has it, otherwise built once
//! from the sources that Debian keeps of the same compiler.
//!
//! A sysroot from sources is made by `-Zbuild-std` for an empty crate and kept, so that the
//! device itself is built by stable means, as with the toolchain's own. It has a price: the bits
//! of a binary depend on which of both it was built with, so a package says which.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use data_encoding::HEXLOWER;
use lzma_rust2::XzReader;
use sha2::{Digest as _, Sha256};

use crate::checkout::Checkout;
use crate::output::{bytes_of, run};
use crate::places::Places;
use crate::rustc::{Rustc, holds_std, libraries};
use crate::target::Target;
use crate::tools::Tools;

/// Which standard library a device is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Std {
    /// The toolchain's where rustup has or gets it, otherwise from sources.
    Auto,
    /// The toolchain's own.
    Toolchain,
    /// Built from Debian's sources of the same compiler.
    Source,
}

/// The sources of a compiler's standard library.
struct Source {
    release: &'static str,
    /// Below the mirror.
    file: &'static str,
    sha256: &'static str,
}

/// For the compiler that releases are built with; both move together. An archive drops what is
/// old, which is why a mirror can be named and the finished sysroot is kept.
const SOURCES: [Source; 1] = [Source {
    release: "1.95.0",
    file: "pool/main/r/rustc/rust-src_1.95.0+dfsg1-2~bpo13+1_all.deb",
    sha256: "7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b",
}];

/// Another mirror of Debian's archive.
const MIRROR_VARIABLE: &str = "CLEARFILM_DEBIAN_MIRROR";
const MIRROR: &str = "http://deb.debian.org/debian";

/// Where a library is built: one place on every machine, because cargo's names for its parts
/// follow from where it lies, and the order of code in a program follows from names.
const PLACE: &str = "/tmp/clearfilm-std";

/// Longest wait for rustup: its download has 30 MB, and a firewall may swallow it.
const RUSTUP_WAIT: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);

/// A private sysroot for the target; none where the toolchain's own is to be used.
pub(crate) fn ready(
    checkout: &Checkout,
    tools: &Tools,
    rustc: &Rustc,
    registries: &[PathBuf],
    (target, wanted): (Target, Std),
) -> anyhow::Result<Option<PathBuf>> {
    if wanted != Std::Source {
        match by_rustup(checkout, rustc, target) {
            Ok(()) => return Ok(None),
            Err(error) if wanted == Std::Toolchain => return Err(error),
            Err(error) => anstream::eprintln!("{error:#}; building it from its sources"),
        }
    }
    let (release, commit) = (&rustc.release, rustc.short_commit());
    let name = format!("sysroot-{release}-{commit}-{}", target.debian());
    let sysroot = checkout.cache().join(name);
    if !holds_std(&sysroot, target) {
        from_source(checkout, tools, rustc, registries, target, &sysroot)?;
    }
    Ok(Some(sysroot))
}

fn by_rustup(checkout: &Checkout, rustc: &Rustc, target: Target) -> anyhow::Result<()> {
    if rustc.has(target) {
        return Ok(());
    }
    let triple = target.triple();
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", triple]).current_dir(&checkout.root);
    let child = rustup.spawn().with_context(|| format!("running rustup for {triple}'s std"))?;
    let status = within(child, RUSTUP_WAIT).context("waiting for rustup target add")?;
    ensure!(status.success(), "rustup target add {triple}: {status}");
    ensure!(
        rustc.has(target),
        "rustup target add {triple}: expected its std in {}, found none",
        rustc.sysroot.display()
    );
    Ok(())
}

/// How a child ends; one that does not within `longest` is killed.
fn within(mut child: Child, longest: Duration) -> anyhow::Result<ExitStatus> {
    let mut waited = Duration::ZERO;
    while waited < longest {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
        waited += LOOK;
    }
    child.kill()?;
    child.wait()?;
    bail!("expected an end within {} s, found none", longest.as_secs())
}

/// Fetches, unpacks and builds; the sysroot gets its name when it is whole.
fn from_source(
    checkout: &Checkout,
    tools: &Tools,
    rustc: &Rustc,
    registries: &[PathBuf],
    target: Target,
    sysroot: &Path,
) -> anyhow::Result<()> {
    let source = SOURCES.iter().find(|s| s.release == rustc.release).with_context(|| {
        format!(
            "the standard library's sources: expected rustc {}, found {}: name that one's sources in cross/src/sysroot.rs, or use the pinned compiler",
            SOURCES.map(|s| s.release).join(" or "),
            rustc.release
        )
    })?;
    let partial = checkout.cache().join("sysroot.partial");
    let place = PathBuf::from(format!("{PLACE}-{}-{}", rustc.release, rustc.short_commit()));
    // Two checkouts would build over each other; the lock goes with the process.
    let lock = place.with_file_name("clearfilm-std.lock");
    let locked = File::options().create(true).truncate(false).write(true).open(&lock);
    let locked = locked.and_then(|file| file.lock().map(|()| file));
    let _locked = locked.with_context(|| format!("locking {}", lock.display()))?;
    for old in [partial.as_path(), place.as_path(), sysroot] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
        }
    }
    let deb = fetch(tools, source)?;
    unpack(&deb, &place.join("source"))?;
    let places = Places::of(checkout, tools, rustc, registries)?
        .with(&place.join("source"), &rustc.shown_as());
    build(rustc, &places, target, &place)?;
    keep(&place, target, &partial)?;
    fs::rename(&partial, sysroot).with_context(|| format!("naming {}", sysroot.display()))?;
    fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))
}

/// The package with the sources, checked by its hash.
fn fetch(tools: &Tools, source: &Source) -> anyhow::Result<Vec<u8>> {
    let mirror = std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.into());
    let address = format!("{}/{}", mirror.trim_end_matches('/'), source.file);
    anstream::eprintln!("fetching {address}");
    // Python is here for the tools anyhow, and knows the proxies of the environment.
    let script = "import shutil, sys, urllib.request\n\
                  with urllib.request.urlopen(sys.argv[1], timeout=60) as r:\n    \
                  shutil.copyfileobj(r, sys.stdout.buffer)\n";
    let deb = bytes_of(Command::new(&tools.python).args(["-c", script, &address])).with_context(
        || format!("fetching {address} ({MIRROR_VARIABLE} names another mirror of the archive)"),
    )?;
    let found = HEXLOWER.encode(&Sha256::digest(&deb));
    ensure!(
        found == source.sha256,
        "{address}: expected sha256 {}, found {found} of {} bytes",
        source.sha256,
        deb.len()
    );
    Ok(deb)
}

/// Takes the folder `library` out of the package.
fn unpack(deb: &[u8], into: &Path) -> anyhow::Result<()> {
    let mut members = ar::Archive::new(deb);
    while let Some(member) = members.next_entry() {
        let member = member.context("reading the package of the sources")?;
        if member.header().identifier() != b"data.tar.xz" {
            continue;
        }
        let mut tar = tar::Archive::new(XzReader::new(member, false));
        for entry in tar.entries().context("reading the package of the sources")? {
            let mut entry = entry.context("unpacking the sources")?;
            let path = entry.path().context("unpacking the sources")?.into_owned();
            // ./usr/src/rustc-1.95.0/library/...
            let inner: PathBuf =
                path.components().filter(|c| c.as_os_str() != ".").skip(3).collect();
            if inner.starts_with("library") {
                let to = into.join(&inner);
                fs::create_dir_all(to.parent().unwrap_or(into))
                    .and_then(|()| entry.unpack(&to).map(drop))
                    .with_context(|| format!("unpacking {}", to.display()))?;
            }
        }
        return Ok(());
    }
    bail!("the package of the sources: expected data.tar.xz, found none")
}

/// Builds the library for an empty crate.
fn build(rustc: &Rustc, places: &Places, target: Target, place: &Path) -> anyhow::Result<()> {
    let (empty, out) = (place.join("empty"), place.join("built"));
    let write = |file: &str, text: &str| {
        let file = empty.join(file);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    };
    fs::create_dir_all(empty.join("src")).context("making an empty crate")?;
    write("Cargo.toml", "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n")?;
    write("src/lib.rs", "#![no_std]\n")?;
    anstream::eprintln!("building std {} for {}", rustc.release, target.triple());
    let mut flags = places.rustflags();
    // Without bitcode in it, thin LTO of the device could not reach into the library.
    flags.push("-Cembed-bitcode=yes".into());
    run(Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", target.triple()])
        .arg("-Zbuild-std=std,panic_abort,proc_macro,test")
        .current_dir(&empty)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", place.join("source/library"))
        .env("CARGO_TARGET_DIR", &out)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))
    .context("building the standard library")
}

/// Keeps what a sysroot has of all that was built.
fn keep(place: &Path, target: Target, sysroot: &Path) -> anyhow::Result<()> {
    let into = libraries(sysroot, target);
    fs::create_dir_all(&into).with_context(|| format!("making {}", into.display()))?;
    let built = place.join("built").join(target.triple()).join("release/deps");
    for entry in built.read_dir().with_context(|| format!("reading {}", built.display()))? {
        let file = entry.with_context(|| format!("reading {}", built.display()))?.path();
        if file.extension().is_some_and(|e| e == "rlib") {
            let to = into.join(file.file_name().unwrap_or_default());
            fs::copy(&file, &to).with_context(|| format!("keeping {}", to.display()))?;
        }
    }
    ensure!(holds_std(sysroot, target), "{}: expected libstd, found none", into.display());
    Ok(())
}
