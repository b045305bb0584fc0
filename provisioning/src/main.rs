//! Files that a fleet of devices needs beside the software: each is rendered from few facts, so
//! that a hundred devices differ only where they must.

mod acl;
mod unit;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Renders the files that a fleet of Clearfilm devices needs. Results go to stdout.
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
}

#[derive(Debug, Subcommand)]
enum Render {
    /// The broker's access rules for one device, its readers and its operators (mosquitto's form).
    ///
    /// The files of several devices can be joined into one.
    Acl(acl::Acl),
    /// The systemd unit of `clearfilm run`, hardened.
    Unit {
        /// The device's binary.
        #[arg(long, value_name = "FILE", default_value = "/usr/bin/clearfilm")]
        binary: PathBuf,
        /// Its configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let rendered = match Arguments::parse().verb {
        Verb::Render(Render::Acl(acl)) => acl.render(),
        Verb::Render(Render::Unit { binary, config }) => unit::render(&binary, &config),
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
