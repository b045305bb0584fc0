//! The one device binary: every verb of the appliance.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
