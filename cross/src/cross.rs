//! A device's programs, built for its processor and the oldest glibc that it may have.
//!
//! The same commit gives the same bytes in whatever folder, by whomever and whenever it is built:
//! compilers get an environment of known variables, and no path of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bytesize::ByteSize;

use crate::binary;
use crate::checkout::Checkout;
use crate::crates::{self, Crate, FEATURES, PACKAGES};
use crate::output::run;
use crate::places::Places;
use crate::rustc::Rustc;
use crate::sysroot::{self, Std};
use crate::target::{GLIBC, Target};
use crate::tools::Tools;

/// Most that a program may have without symbols: what a device fetches by a mobile connection.
const STRIPPED_MAX: ByteSize = ByteSize::mib(40);

/// Variables that a build may see beside those that it is given: where the toolchain lies, and
/// how the network is reached.
const KEPT: [&str; 14] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_AUTO_INSTALL",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
const KEPT_PREFIXES: [&str; 5] =
    ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];

/// What was built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The programs of [`PACKAGES`], each of its package's name.
    pub(crate) programs: Vec<(&'static str, PathBuf)>,
    /// Whose standard library is in them.
    pub(crate) std: &'static str,
    pub(crate) rustc: Rustc,
    pub(crate) tools: Tools,
    /// Every package of the workspace on this target.
    pub(crate) crates: Vec<Crate>,
}

/// Builds the device's programs and checks them; with `tests` also the tests' programs, which are
/// not checked, because no device is given them.
pub(crate) fn build(
    checkout: &Checkout,
    target: Target,
    std: Std,
    tests: bool,
) -> anyhow::Result<Built> {
    let tools = Tools::ready(checkout)?;
    let rustc = Rustc::of(&checkout.root)?;
    let crates = crates::all(checkout, target)?;
    let registries = crates::registries(&crates)?;
    let sysroot = sysroot::ready(checkout, &tools, &rustc, &registries, (target, std))?;
    let places = Places::of(checkout, &tools, &rustc, &registries)?;
    let folder = checkout.target().join("cross");
    let zigbuild = || zigbuild(checkout, target, &tools, &places, sysroot.as_deref(), &folder);
    run(zigbuild().args(PACKAGES.iter().flat_map(|p| ["--package", p])))
        .with_context(|| format!("building for {}", target.with_glibc()))?;
    if tests {
        run(zigbuild().args(["--package", "clearfilm", "--package", "clearfilm-tests", "--tests"]))
            .with_context(|| format!("building the tests for {}", target.with_glibc()))?;
    }
    let release = folder.join(target.triple()).join("release");
    let programs = PACKAGES.map(|name| (name, release.join(name))).to_vec();
    for (_, program) in &programs {
        check(program, target, &places)
            .with_context(|| format!("checking {}", program.display()))?;
    }
    let std = if sysroot.is_some() { "source" } else { "toolchain" };
    Ok(Built { programs, std, rustc, tools, crates })
}

/// `cargo zigbuild` of a release, up to the packages.
fn zigbuild(
    checkout: &Checkout,
    target: Target,
    tools: &Tools,
    places: &Places,
    sysroot: Option<&Path>,
    folder: &Path,
) -> Command {
    let mut flags = places.rustflags();
    if let Some(sysroot) = sysroot {
        flags.extend(["--sysroot".into(), sysroot.display().to_string()]);
    }
    let cache = checkout.cache();
    let c_target = target.triple().replace('-', "_");
    let mut command = Command::new(&tools.zigbuild);
    command
        .args(["zigbuild", "--release", "--locked", "--target", &target.with_glibc()])
        .args(["--no-default-features", "--features", FEATURES])
        .current_dir(&checkout.root)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_kept(&name.to_string_lossy())))
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", checkout.epoch.to_string())
        .env("CLEARFILM_COMMIT", &checkout.commit)
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_DIR", folder)
        // Of all ways to give flags this one wins, and with a target named, build scripts and
        // macros do not get them.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env(format!("CFLAGS_{c_target}"), places.cflags())
        .env(format!("CXXFLAGS_{c_target}"), places.cflags())
        .env("CARGO_ZIGBUILD_ZIG_PATH", &tools.zig)
        .env("CARGO_ZIGBUILD_CACHE_DIR", cache.join("zigbuild"))
        .env("ZIG_GLOBAL_CACHE_DIR", cache.join("zig"))
        .env("ZIG_LOCAL_CACHE_DIR", cache.join("zig"));
    command
}

fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Would the program run on a device, and is it as small as it must be?
fn check(program: &Path, target: Target, places: &Places) -> anyhow::Result<()> {
    let bytes = fs::read(program).context("reading it")?;
    let (major, minor) = binary::check_runs(&bytes, target)?;
    binary::check_tells_nothing(&bytes, places.hidden())?;
    let size = binary::stripped(&bytes)?;
    if size > STRIPPED_MAX {
        bail!("expected at most {STRIPPED_MAX} without symbols, found {size}");
    }
    anstream::println!(
        "{}: {size} without symbols, of at most {STRIPPED_MAX}; needs glibc {major}.{minor}, of at most {}.{}",
        program.display(),
        GLIBC.0,
        GLIBC.1
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_sees_the_way_to_the_network_and_nobody_s_flags() {
        assert!(["PATH", "https_proxy", "CARGO_REGISTRIES_X_INDEX"].into_iter().all(is_kept));
        let flags =
            ["RUSTFLAGS", "CFLAGS", "CARGO_PROFILE_RELEASE_LTO", "CARGO_TARGET_DIR", "LANG"];
        assert!(!flags.into_iter().any(is_kept));
    }
}
