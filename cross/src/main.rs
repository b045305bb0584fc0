//! From workspace to device: developer tasks. `cargo run -p xtask -- --help` lists them.

mod budget;
mod gate;

use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::{Parser, Subcommand};

/// Developer tasks of the Clearfilm workspace.
#[derive(Debug, Parser)]
#[command(name = "xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check formatting and lints and run the tests, in CI's order; stop at the first failure.
    Gate {
        /// Run only tests whose names hold one of these.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print a binary's size without symbols; fail where it is above the budget.
    Budget {
        /// The binary, as it was built for whatever target.
        file: PathBuf,
        /// Most that it may have, such as 40MiB.
        #[arg(long, value_name = "SIZE")]
        max: ByteSize,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Gate { names } => gate::run(&names),
        Task::Budget { file, max } => budget::run(&file, max),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
