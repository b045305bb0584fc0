//! The verbs. Results go to stdout, logs to stderr; exit 0 ok, 1 failed, 2 usage, 3 not ready,
//! 4 invalid configuration or bundle.

mod bench;
mod check;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod log;
mod manual;
mod phantom;
mod pixels;
mod read;
mod render;
mod run;
mod selftest;
mod show;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use clearfilm::config::{Config, Loaded};

/// What the program is called.
const NAME: &str = "clearfilm";
/// Exit status where something is not ready (no engine runs the bundle).
const NOT_READY: u8 = 3;
/// Exit status where a configuration or a bundle is refused.
const INVALID: u8 = 4;

/// Clearfilm: named findings and draft reports from chest radiographs, at the X-ray machine.
///
/// A radiograph arrives over DICOM, is made durable, read by an image encoder and a sparse
/// autoencoder, and what its features say is published over MQTT. Every sentence of a draft can
/// be traced to the features, and every feature to the pixels, that caused it.
///
/// Nothing that Clearfilm writes is a diagnosis: drafts are for a radiologist to accept or change.
#[derive(Debug, Parser)]
#[command(name = "clearfilm", version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CLEARFILM_COMMIT"), ")"))]
#[cfg_attr(
    feature = "demo",
    command(
        after_help = "Start with `clearfilm demo`: it needs no configuration, no network and no data."
    )
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The service: DICOM in, findings and drafts out, until it is stopped.
    Run(Configured),
    /// The whole appliance with an embedded broker, reading phantoms that it sends to itself.
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Read files (DICOM, PNG, JPEG) and print findings and draft.
    Read(read::Read),
    /// Write a picture as it was understood: grey as displayed, or the stored values.
    Render(render::Render),
    /// Check a configuration and print every effective value with its origin.
    Check(check::Check),
    /// Run the bundle's golden images on each engine and compare.
    Selftest(selftest::Selftest),
    /// Draw phantoms: chest radiographs that no patient ever had, as DICOM or PNG.
    Phantom(phantom::Phantom),
    /// Measure each stage of a reading on one drawn object.
    Bench(bench::Bench),
    /// Subscribe to the broker and print messages as they arrive.
    Watch(watch::Watch),
    /// The process that decodes: one object in, one frame out, no rights.
    #[command(hide = true)]
    DecodeChild {
        /// What it works within, JSON.
        limits: String,
    },
    /// The process that reads an object at which the daemon ended.
    #[command(hide = true)]
    TrialChild,
    /// The process that tries an engine.
    #[command(hide = true)]
    ProbeChild,
    /// Try everything around: engines, board, disk, clock, ports, broker.
    Doctor(doctor::Doctor),
    /// How the running unit is doing.
    Status(control::Status),
    /// Messages of the running unit that wait for the broker: list, retry, drop.
    Outbox(control::Outbox),
    /// Erase an exam from the running unit.
    Exam(control::Exam),
    /// Clear an alarm of the running unit.
    Alarm(control::Alarm),
    /// Write the encoder's input pixels of files to safetensors, for training.
    Pixels(pixels::Pixels),
    /// Print what a shell reads to complete a command line.
    Completions { shell: Shell },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

/// Which configuration a verb works with.
#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// Configuration file (TOML); without it the defaults and the environment count.
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl Configured {
    fn load(&self) -> anyhow::Result<Loaded> {
        Ok(Config::load(self.config.as_deref())?)
    }
}

/// Does what was asked for.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Run(configured) => run::run(&configured),
        #[cfg(feature = "demo")]
        Verb::Demo(demo) => demo::run(&demo),
        Verb::Read(read) => read::run(&read),
        Verb::Render(render) => render::run(&render),
        Verb::Check(check) => check::run(&check),
        Verb::Selftest(selftest) => selftest::run(&selftest),
        Verb::Phantom(phantom) => phantom::run(&phantom),
        Verb::Bench(bench) => bench::run(&bench),
        Verb::Watch(watch) => watch::run(&watch),
        Verb::Pixels(pixels) => pixels::run(&pixels),
        Verb::Status(status) => control::status(&status),
        Verb::Outbox(outbox) => control::outbox(&outbox),
        Verb::Exam(exam) => control::exam(&exam),
        Verb::Alarm(alarm) => control::alarm(&alarm),
        Verb::Doctor(doctor) => doctor::run(&doctor),
        Verb::ProbeChild => {
            clearfilm::selftest::child::serve()?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Completions { shell } => {
            anstream::print!("{}", manual::completions(NAME, &Arguments::command(), shell));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Man => {
            anstream::print!("{}", manual::page(NAME, &Arguments::command())?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::TrialChild => {
            clearfilm::pipeline::trial::serve()?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::DecodeChild { limits } => {
            clearfilm::decode::child::serve(&limits)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Tokio, at the edges only: sockets, timers, signals.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        // Sockets and timers need little; reading has threads of its own.
        .worker_threads(2)
        .thread_name("edge")
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_that_packages_carry_is_what_the_program_says() {
        manual::check_kept(NAME, &Arguments::command());
    }
}
