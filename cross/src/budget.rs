//! How large is a binary on a device, where it has no symbols?

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use bytesize::ByteSize;

/// Prints the size of `file` without symbols, and fails above `max`.
pub(crate) fn run(file: &Path, max: ByteSize) -> anyhow::Result<ExitCode> {
    let size = stripped(file)?;
    let name = file.display();
    if size <= max {
        anstream::println!("{name}: {size} without symbols, of at most {max}");
        return Ok(ExitCode::SUCCESS);
    }
    anstream::eprintln!("{name}: expected at most {max} without symbols, found {size}");
    Ok(ExitCode::FAILURE)
}

/// The size after `strip`, which every linker's package brings; the file itself stays as it is.
fn stripped(file: &Path) -> anyhow::Result<ByteSize> {
    let out = std::env::temp_dir().join(format!("xtask-stripped-{}", std::process::id()));
    let done = Command::new("strip").arg("--strip-all").arg("-o").arg(&out).arg(file).output();
    let done = done.context("running strip")?;
    let why = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "stripping {}: {}", file.display(), why.trim());
    let size = fs::metadata(&out).with_context(|| format!("measuring {}", out.display()))?.len();
    fs::remove_file(&out).with_context(|| format!("removing {}", out.display()))?;
    Ok(ByteSize(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is this test's own binary within `max`?
    #[track_caller]
    fn check(max: ByteSize, expected: ExitCode) {
        let own = std::env::current_exe().expect("a test knows its binary");
        assert_eq!(run(&own, max).expect("measured"), expected);
    }

    #[test]
    fn a_binary_within_its_budget_passes_and_one_above_it_fails() {
        check(ByteSize::gib(1), ExitCode::SUCCESS);
        check(ByteSize::kib(1), ExitCode::FAILURE);
    }

    #[test]
    fn what_is_no_binary_is_an_error_that_names_the_file() {
        let error = stripped(Path::new("no-such-file")).expect_err("refused").to_string();
        assert!(error.contains("no-such-file"), "{error}");
    }
}
