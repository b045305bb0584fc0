//! What every commit passes: formatting, lints, tests, cheapest first.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;

/// One step: what it is, the cargo component that it needs beside cargo itself, and how it is run.
struct Step {
    name: &'static str,
    component: Option<&'static str>,
    arguments: &'static [&'static str],
}

const STEPS: [Step; 3] = [
    Step { name: "formatting", component: Some("fmt"), arguments: &["fmt", "--all", "--check"] },
    Step {
        name: "lints",
        component: Some("clippy"),
        arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    },
    Step { name: "tests", component: None, arguments: &["test", "--workspace", "--locked", "--"] },
];

/// Runs the steps up to the first that fails; a step whose component is not installed is
/// skipped, loudly. `names` selects tests.
pub(crate) fn run(names: &[String]) -> anyhow::Result<ExitCode> {
    let mut skipped = Vec::new();
    for step in &STEPS {
        if let Some(component) = step.component.filter(|c| !installed(c)) {
            anstream::println!(
                "\n!! SKIPPED: {}: this toolchain has no cargo {component}",
                step.name
            );
            skipped.push(step.name);
            continue;
        }
        anstream::println!("\n== {}: cargo {}", step.name, step.arguments.join(" "));
        let mut command = cargo();
        command.args(step.arguments);
        if step.component.is_none() {
            command.args(names);
        }
        let status = command
            .status()
            .with_context(|| format!("running cargo for the step {}", step.name))?;
        if !status.success() {
            anstream::eprintln!("\n!! FAILED: {}", step.name);
            return Ok(ExitCode::FAILURE);
        }
    }
    if !skipped.is_empty() {
        anstream::println!("\n!! passed, but skipped: {}", skipped.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The cargo that runs us, or the one in the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn installed(component: &str) -> bool {
    let asked =
        cargo().args([component, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_that_nobody_has_is_not_installed() {
        assert!(!installed("no-such-component"));
    }

    #[test]
    fn the_tests_come_last_so_that_names_select_among_them_only() {
        let needs: Vec<bool> = STEPS.iter().map(|s| s.component.is_some()).collect();
        assert_eq!(needs, [true, true, false]);
    }
}
