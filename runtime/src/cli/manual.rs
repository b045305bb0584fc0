//! A program's manual page and completions, made from the verbs that it declares, so that they
//! cannot say anything else. `clearfilm-fleet` takes this file too.

use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Verbs that no device has, or that everybody has: `help` is what the page is.
const LEFT_OUT: [&str; 2] = ["demo", "help"];

/// What a library writes before each part, and a page needs once.
const PREAMBLE: [&str; 2] = [".ie \\n(.g .ds Aq", ".el .ds Aq"];

/// One page with everything: name, options, and each verb with its own.
///
/// # Errors
/// None but those of `Write`, which memory does not have.
pub(crate) fn page(name: &'static str, whole: &Command) -> io::Result<String> {
    let mut program = shipped(name, whole);
    program.build();
    let man = Man::new(program.clone());
    let mut all = Vec::new();
    man.render_title(&mut all)?;
    let mut page = String::from_utf8_lossy(&all).into_owned();
    page += &part(|out| man.render_name_section(out))?;
    page += &part(|out| man.render_synopsis_section(out))?;
    page += &part(|out| man.render_description_section(out))?;
    page += &part(|out| man.render_options_section(out))?;
    for verb in program.get_subcommands() {
        add(&mut page, verb)?;
    }
    Ok(page)
}

/// What a shell reads to complete a command line.
pub(crate) fn completions(name: &'static str, whole: &Command, shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shipped(name, whole), name, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The program as devices have it: without verbs that are hidden or for developers, and with a
/// version that does not change at every commit.
fn shipped(name: &'static str, whole: &Command) -> Command {
    let verbs = whole.get_subcommands();
    let verbs = verbs.filter(|v| !v.is_hide_set() && !LEFT_OUT.contains(&v.get_name())).cloned();
    let mut shipped = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(verbs);
    if let Some(about) = whole.get_about() {
        shipped = shipped.about(about.clone());
    }
    if let Some(about) = whole.get_long_about() {
        shipped = shipped.long_about(about.clone());
    }
    shipped
}

/// One verb, and those below it.
fn add(page: &mut String, verb: &Command) -> io::Result<()> {
    if LEFT_OUT.contains(&verb.get_name()) {
        return Ok(());
    }
    let man = Man::new(verb.clone());
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
    *page += &format!(".SH {}\n", name.to_uppercase().replace('-', "\\-"));
    for section in [
        part(|out| man.render_description_section(out))?,
        part(|out| man.render_synopsis_section(out))?,
        part(|out| man.render_options_section(out))?,
    ] {
        // A verb is a section of its own; what it has stands one level below.
        *page += &section.replace(".SH DESCRIPTION\n", "").replace(".SH ", ".SS ");
    }
    for verb in verb.get_subcommands() {
        add(page, verb)?;
    }
    Ok(())
}

/// One part of the page.
fn part(render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<String> {
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|l| !PREAMBLE.iter().any(|p| l.starts_with(p)));
    Ok(lines.map(|l| format!("{l}\n")).collect())
}

/// Is what is kept for packages what the program says?
#[cfg(test)]
#[track_caller]
pub(crate) fn check_kept(name: &'static str, whole: &Command) {
    let kept = |file: String| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../provisioning");
        std::fs::read_to_string(path.join(&file)).unwrap_or_else(|e| format!("{file}: {e}"))
    };
    let shells = [
        (Shell::Bash, format!("completions/{name}.bash")),
        (Shell::Zsh, format!("completions/_{name}")),
        (Shell::Fish, format!("completions/{name}.fish")),
    ];
    let written = page(name, whole).expect("written to memory");
    assert!(kept(format!("man/{name}.1")) == written, "man/{name}.1: run `cargo xtask manual`");
    for (shell, file) in shells {
        let same = kept(file.clone()) == completions(name, whole, shell);
        assert!(same, "{file}: run `cargo xtask manual`");
    }
}
