//! Tells the binary which commit it was built from; every message names it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CLEARFILM_COMMIT");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/refs/heads");
    let commit = std::env::var("CLEARFILM_COMMIT").ok().or_else(commit_of_checkout);
    println!("cargo::rustc-env=CLEARFILM_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// The short commit of the checkout, where there is one and git is installed.
fn commit_of_checkout() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
