//! Verbs about keys.

use std::path::PathBuf;

use clap::Subcommand;
use clearfilm_fleet::keys::{self, Public};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a private key, for its owner alone, and its public half beside it.
    New {
        /// The private key; the public half gets the ending `.pub`.
        file: PathBuf,
    },
    /// Print the identifier of a key.
    Id {
        /// A public or private key.
        file: PathBuf,
    },
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<String> {
    let public = match verb {
        Verb::New { file } => keys::make(&file)?,
        Verb::Id { file } => Public::of(&file)?,
    };
    Ok(format!("{}\n", public.id()?))
}
