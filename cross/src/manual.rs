//! Manual pages and completions: written by the programs themselves, kept in the repository
//! because a program for another processor cannot be asked when a package is made.

use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::checkout::Checkout;
use crate::crates::PACKAGES;
use crate::output::{bytes_of, run};

/// Shells with completions: the name, how files are called, and where a device keeps them.
const SHELLS: [(&str, &str, &str, &str); 3] = [
    ("bash", "", ".bash", "usr/share/bash-completion/completions/@"),
    ("zsh", "_", "", "usr/share/zsh/vendor-completions/_@"),
    ("fish", "", ".fish", "usr/share/fish/vendor_completions.d/@.fish"),
];

fn page(program: &str) -> String {
    format!("provisioning/man/{program}.1")
}

fn completions(program: &str, (_, before, after, _): (&str, &str, &str, &str)) -> String {
    format!("provisioning/completions/{before}{program}{after}")
}

/// Each file of the repository, and its path on a device.
pub(crate) fn installed() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for program in PACKAGES {
        files.push((page(program), format!("usr/share/man/man1/{program}.1.gz")));
        for shell in SHELLS {
            files.push((completions(program, shell), shell.3.replace('@', program)));
        }
    }
    files
}

/// Asks this machine's own programs, and writes what they say into the repository.
pub(crate) fn write(checkout: &Checkout) -> anyhow::Result<()> {
    // As the gate builds them, so that nothing is compiled twice.
    run(Command::new("cargo")
        .args(["build", "--locked", "--workspace", "--all-targets"])
        .current_dir(&checkout.root))?;
    for name in PACKAGES {
        let program = checkout.target().join("debug").join(name);
        let ask = |words: &[&str]| bytes_of(Command::new(&program).args(words));
        keep(checkout, &page(name), &ask(&["man"])?)?;
        for shell in SHELLS {
            keep(checkout, &completions(name, shell), &ask(&["completions", shell.0])?)?;
        }
    }
    Ok(())
}

fn keep(checkout: &Checkout, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let file = checkout.root.join(name);
    let folder = file.parent().unwrap_or(&checkout.root);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&file, bytes).with_context(|| format!("writing {name}"))?;
    anstream::println!("{name}: {} bytes", bytes.len());
    Ok(())
}
