//! How large is a binary on a device, where it has no symbols?

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use bytesize::ByteSize;

use crate::binary::stripped;

/// Prints the size of `file` without symbols, and fails above `max`.
pub(crate) fn run(file: &Path, max: ByteSize) -> anyhow::Result<ExitCode> {
    let name = file.display();
    let bytes = fs::read(file).with_context(|| format!("reading {name}"))?;
    let size = stripped(&bytes).with_context(|| format!("measuring {name}"))?;
    if size <= max {
        anstream::println!("{name}: {size} without symbols, of at most {max}");
        return Ok(ExitCode::SUCCESS);
    }
    anstream::eprintln!("{name}: expected at most {max} without symbols, found {size}");
    Ok(ExitCode::FAILURE)
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
        let error = run(Path::new("no-such-file"), ByteSize::gib(1)).expect_err("refused");
        assert!(error.to_string().contains("no-such-file"), "{error}");
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let error = run(&text, ByteSize::gib(1)).expect_err("refused").to_string();
        assert!(error.contains("Cargo.toml"), "{error}");
    }
}
