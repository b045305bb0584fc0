//! `clearfilm render`: what was understood of a file, as a picture.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm::decode::{Frame, Shades, decode_file, write_png};
use clearfilm::preprocess;

use super::Configured;

/// Write a picture as it was understood, in source pixels, as PNG.
///
/// 8 bits of grey as a display shows them: modality LUT, VOI LUT, then inversion. With `--stored`
/// 16 bits of the stored values before all that; signed values are written with 2^(bits - 1) added.
#[derive(Debug, Args)]
pub(crate) struct Render {
    /// A DICOM, PNG or JPEG file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// PNG to write.
    #[arg(short, long, value_name = "PNG")]
    out: PathBuf,
    /// The stored values in place of grey.
    #[arg(long)]
    stored: bool,
    #[command(flatten)]
    configured: Configured,
}

pub(super) fn run(render: &Render) -> anyhow::Result<ExitCode> {
    let config = render.configured.load()?.config;
    let frame = decode_file(&render.file, &config.decode, &config.dicom.limits)
        .with_context(|| format!("decoding {}", render.file.display()))?;
    let shades = if render.stored {
        Shades::Sixteen(stored(&frame))
    } else {
        Shades::Eight(preprocess::render(&frame).pixels)
    };
    write_png(&render.out, frame.rows, frame.columns, shades)
        .with_context(|| format!("writing {}", render.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Stored values as numbers that are never negative.
fn stored(frame: &Frame) -> Vec<u16> {
    let shift = if frame.grey.signed { 1 << (frame.grey.bits_stored - 1) } else { 0 };
    frame.samples().map(|s| u16::try_from(s + shift).unwrap_or(u16::MAX)).collect()
}
