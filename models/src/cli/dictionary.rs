//! The verb `dictionary`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use clearfilm::bundle::Sae;
use clearfilm_models::dictionary::foreign::{self, find_threshold};
use clearfilm_models::dictionary::outward::{Library, files};
use clearfilm_models::dictionary::read;
use clearfilm_models::export;
use clearfilm_models::files::put;
use clearfilm_models::pack::compensate::Together;
use clearfilm_models::pack::int8;
use clearfilm_models::samples::{Part, Samples};

/// Bring dictionaries from other libraries, and to them.
#[derive(Debug, Subcommand)]
pub(crate) enum Dictionary {
    /// Read a dictionary of dictionary_learning, SAELens, sparsify or EIDOSLAB/medsae.
    ///
    /// The file is known by the names of its tensors; cfg.json or config.json beside it is read
    /// where there is one. A pickle (.pt) is first brought to safetensors.
    Import {
        /// File (safetensors).
        file: PathBuf,
        /// Samples that a threshold is found with, for dictionaries whose k largest fire.
        #[arg(short, long, value_name = "FILE")]
        samples: Option<PathBuf>,
        /// The tensor of samples.
        #[arg(long, value_name = "NAME", default_value = "embedding")]
        tensor: String,
        /// File to write, as a bundle carries it.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write a dictionary with int8 weights, one scale a row: what a bundle ships and is calibrated on.
    ///
    /// With usual vectors the encoder is rounded so that its activations stay, otherwise each weight
    /// to the nearest number.
    Quantise {
        /// sae.safetensors of a run.
        file: PathBuf,
        /// Embeddings folder of usual images.
        #[arg(short, long, value_name = "DIR")]
        samples: Option<PathBuf>,
        /// The tensor of its vectors.
        #[arg(long, value_name = "NAME", default_value = "tokens")]
        tensor: String,
        /// Only this split of them.
        #[arg(long, value_name = "NAME")]
        split: Option<String>,
        /// File to write.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write a dictionary for another library.
    Export {
        /// sae.safetensors of a run or a bundle.
        file: PathBuf,
        /// Who is to read it.
        #[arg(long, value_enum)]
        library: Name,
        /// How many latents fire, for sparsify and medsae.
        #[arg(short)]
        k: Option<usize>,
        /// Folder to write to; made if it is missing.
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Libraries that are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Name {
    /// JumpReluAutoEncoder.
    DictionaryLearning,
    /// Architecture jumprelu.
    SaeLens,
    /// The k largest; thresholds are lost.
    Sparsify,
    /// Matryoshka of one group; needs one threshold for all.
    Medsae,
}

/// How the values of a folder's vectors go together.
fn together(folder: &Path, tensor: &str, part: &Part, sae: &Sae) -> anyhow::Result<Together> {
    let samples = Samples::read_folder(folder, tensor, part)?;
    let d = sae.b_dec.len();
    if samples.d != d {
        bail!("{}: expected vectors of {d} values, found {}", folder.display(), samples.d);
    }
    let found = Together::of(&samples.values, d);
    found.with_context(|| format!("{}: expected vectors that differ, found none", folder.display()))
}

impl Dictionary {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Import { file, samples, tensor, out } => {
                let mut found = foreign::read(file)?;
                if let Some(k) = found.k {
                    let Some(samples) = samples else {
                        bail!(
                            "{}: expected --samples to find the threshold above which {k} latents fire, found none",
                            file.display()
                        )
                    };
                    find_threshold(&mut found, &Samples::read(samples, tensor)?.values);
                }
                put(out, &export::file(&found.sae)?)?;
                let (latents, d) = (found.sae.b_enc.len(), found.sae.b_dec.len());
                anstream::println!("{}: {latents} latents over {d} values", found.library);
            }
            Self::Quantise { file, samples, tensor, split, out } => {
                let sae = read(file)?;
                let part = Part { split: split.clone(), views: Some(1) };
                let usual = samples.as_ref().map(|folder| together(folder, tensor, &part, &sae));
                let small = int8::quantised(&sae, sae.level, usual.transpose()?.as_ref());
                put(out, &int8::file(&small)?)?;
                anstream::println!("{} latents in int8 in {}", sae.b_enc.len(), out.display());
            }
            Self::Export { file, library, k, out } => {
                let k = || k.context("--k: expected how many latents fire, found nothing");
                let library = match library {
                    Name::DictionaryLearning => Library::DictionaryLearning,
                    Name::SaeLens => Library::SaeLens,
                    Name::Sparsify => Library::Sparsify { k: k()? },
                    Name::Medsae => Library::Medsae { k: k()? },
                };
                let sae = read(file)?;
                fs::create_dir_all(out)
                    .with_context(|| format!("making folder {}", out.display()))?;
                for (name, bytes) in files(&sae, library)? {
                    put(&out.join(name), &bytes)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
