//! `clearfilm pixels`: the pixels that a model is trained on are those that the device sees.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use clearfilm::bundle::Fit;
use clearfilm::preprocess;

use super::Configured;

/// Write the encoder's input pixels of files to safetensors, for training.
///
/// The tensor `pixels` is U8 `[files, size, size]`; `OUT.json` beside it lists the files in the
/// same order. Files that cannot be read are named on stderr and left out.
#[derive(Debug, Args)]
pub(crate) struct Pixels {
    /// Radiographs; with `@LIST` the lines of a text file.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    configured: Configured,
    /// How a radiograph is brought to a square.
    #[arg(long, value_enum, default_value_t = FitArgument::Pad)]
    fit: FitArgument,
    /// Side of the square, pixels.
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// File to write.
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FitArgument {
    /// Padded to a square with black, then bicubic.
    Pad,
    /// Aspect ratio given up, antialiased bilinear.
    Squash,
}

pub(super) fn run(pixels: &Pixels) -> anyhow::Result<ExitCode> {
    let config = pixels.configured.load()?.config;
    let fit = match pixels.fit {
        FitArgument::Pad => Fit::Pad,
        FitArgument::Squash => Fit::Squash,
    };
    let mut files = Vec::new();
    for file in &pixels.files {
        match file.to_str().and_then(|name| name.strip_prefix('@')) {
            None => files.push(file.clone()),
            Some(list) => {
                let text = std::fs::read_to_string(list)
                    .with_context(|| format!("reading the list {list}"))?;
                files.extend(text.lines().filter(|l| !l.is_empty()).map(PathBuf::from));
            }
        }
    }
    let mut fitted = Vec::new();
    let mut names = Vec::new();
    for file in &files {
        match clearfilm::decode::decode_file(file, &config.decode, &config.dicom.limits) {
            Ok(frame) => {
                let picture = preprocess::render(&frame);
                fitted.extend(preprocess::fit(&picture, fit, [pixels.size, pixels.size]).pixels);
                names.push(file);
            }
            Err(error) => anstream::eprintln!("clearfilm: left out: {error}"),
        }
    }
    preprocess::write_pixels(&pixels.out, &fitted, [names.len(), pixels.size, pixels.size])
        .with_context(|| format!("writing {}", pixels.out.display()))?;
    let list = PathBuf::from(format!("{}.json", pixels.out.display()));
    std::fs::write(&list, serde_json::to_vec(&names)?)
        .with_context(|| format!("writing {}", list.display()))?;
    anstream::println!(
        "{} of {} files written to {}",
        names.len(),
        files.len(),
        pixels.out.display()
    );
    Ok(if names.len() == files.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
