//! From workspace to device: developer tasks. `cargo run -p xtask -- --help` lists them.

mod target;
mod checkout;
mod output;
mod tools;
mod rustc;
mod crates;
mod places;
mod sysroot;
mod binary;
mod cross;
mod manual;
mod package;
mod budget;
mod gate;

use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::{Parser, Subcommand};

use checkout::Checkout;
use sysroot::Std;
use target::Target;

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
    /// Build the device's programs for a processor and glibc 2.31 and check what they need, their
    /// size and that they tell nothing of this machine.
    Cross {
        target: Target,
        /// Also build the programs of the tests.
        #[arg(long)]
        tests: bool,
        /// Where the target's standard library comes from; the bytes depend on it.
        #[arg(long, default_value = "auto")]
        std: Std,
    },
    /// Make the Debian package of a processor from its programs, building what is not built yet.
    Package {
        /// As Debian calls it, arm64 or amd64.
        target: Target,
        /// Where the target's standard library comes from; the bytes depend on it.
        #[arg(long, default_value = "auto")]
        std: Std,
    },
    /// Write manual pages and completions as this machine's programs have them.
    Manual,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Gate { names } => gate::run(&names),
        Task::Budget { file, max } => budget::run(&file, max),
        Task::Cross { target, tests, std } => Checkout::here()
            .and_then(|checkout| cross::build(&checkout, target, std, tests))
            .map(|_| ExitCode::SUCCESS),
        Task::Package { target, std } => Checkout::here()
            .and_then(|checkout| package::run(&checkout, target, std))
            .map(|()| ExitCode::SUCCESS),
        Task::Manual => Checkout::here()
            .and_then(|checkout| manual::write(&checkout))
            .map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
