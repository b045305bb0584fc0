//! What a fleet of devices needs beside the software: files that are rendered from few facts, so
//! that a hundred devices differ only where they must, and the repository that they update from.

mod acl;
#[path = "cli/inventory.rs"]
mod inventory;
#[path = "cli/key.rs"]
mod key;
#[path = "../../runtime/src/cli/manual.rs"]
mod manual;
#[path = "cli/release.rs"]
mod release;
#[path = "cli/repo.rs"]
mod repo;
#[path = "cli/support.rs"]
mod support;
mod unit;
#[path = "cli/update.rs"]
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// What the program is called.
const NAME: &str = "clearfilm-fleet";

/// Keeps a fleet of Clearfilm devices: their files, and the releases they install. Results go to
/// stdout.
#[derive(Debug, Parser)]
#[command(name = "clearfilm-fleet", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Render a file for one device.
    #[command(subcommand)]
    Render(Render),
    /// Make keys that sign releases.
    #[command(subcommand)]
    Key(key::Verb),
    /// Keep the repository that devices update from.
    #[command(subcommand)]
    Repo(repo::Verb),
    /// Bring this device what it shall run.
    #[command(subcommand)]
    Update(update::Verb),
    Apply(update::Apply),
    Inventory(inventory::List),
    SupportBundle(support::Support),
    /// Print what a shell reads to complete a command line.
    Completions {
        shell: Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

#[derive(Debug, Subcommand)]
enum Render {
    /// The broker's access rules for one device, its readers and its operators (mosquitto's form).
    ///
    /// The files of several devices can be joined into one.
    Acl(acl::Acl),
    /// A systemd unit, hardened.
    Unit {
        /// Which one.
        #[arg(value_enum, default_value_t = unit::Unit::Daemon)]
        unit: unit::Unit,
        /// Folders that say what each service starts.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/clearfilm-slots")]
        slots: PathBuf,
        /// The script that root runs for the agent.
        #[arg(long, value_name = "FILE", default_value = "/usr/lib/clearfilm/switch")]
        switch: PathBuf,
        /// The device's configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
        config: PathBuf,
        /// Version of the device's systemd; what came later is left out.
        #[arg(long, value_name = "VERSION", default_value_t = 252)]
        systemd: u32,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let rendered = match Arguments::parse().verb {
        Verb::Render(Render::Acl(acl)) => acl.render(),
        Verb::Render(Render::Unit { unit, slots, switch, config, systemd }) => {
            let paths = unit::Paths { slots: &slots, switch: &switch, config: &config };
            unit::render(unit, paths, systemd)
        }
        Verb::Key(verb) => key::run(verb),
        Verb::Repo(verb) => repo::run(verb).await,
        Verb::Update(verb) => update::run(verb).await,
        Verb::Apply(apply) => update::apply(&apply).await,
        Verb::Inventory(list) => inventory::run(&list).await,
        Verb::SupportBundle(support) => support::run(&support),
        Verb::Completions { shell } => Ok(manual::completions(NAME, &Arguments::command(), shell)),
        Verb::Man => manual::page(NAME, &Arguments::command()).map_err(anyhow::Error::from),
    };
    match rendered {
        Ok(text) => {
            anstream::print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            anstream::eprintln!("clearfilm-fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_that_packages_carry_is_what_the_program_says() {
        manual::check_kept(NAME, &Arguments::command());
    }
}
