//! Other programs: what they print, or why they failed.

use std::process::Command;

use anyhow::{Context, ensure};

/// Bytes that `command` prints; where it fails, an error with what it says about that.
pub(crate) fn bytes_of(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("running {name}"))?;
    let why = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{name} failed ({}): {}", done.status, why.trim());
    Ok(done.stdout)
}

/// The same, as text.
pub(crate) fn text_of(command: &mut Command) -> anyhow::Result<String> {
    let bytes = bytes_of(command)?;
    String::from_utf8(bytes).with_context(|| {
        format!("reading what {} printed", command.get_program().to_string_lossy())
    })
}

/// Runs `command` before everybody's eyes.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("running {name}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
