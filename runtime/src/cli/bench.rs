//! `clearfilm bench`: how long each stage of a reading takes, in one process, one image at a time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clearfilm::bundle::Bundle;
use clearfilm::clock::{Clock, SystemClock};
use clearfilm::config::{Config, EngineChoice};
use clearfilm::decode::{self, Decoder, Program};
use clearfilm::encode::{Encoder, embed};
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};
use clearfilm::selftest::probe::Prober;
use clearfilm::{preprocess, reading, sparse};
use serde_json::json;

use super::{Configured, INVALID, NOT_READY};

/// Measure each stage of a reading on one drawn object.
///
/// Draws a phantom, then reads it again and again in this process: decode, render, fit, encode,
/// head and sparse autoencoder, and the whole of it. Prints milliseconds per stage, median and
/// 99th percentile, and the largest memory that the process ever had. Compare runs of one machine.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    configured: Configured,
    /// Readings that are measured; five more go before them.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Engine in place of the configured order: cpu (ONNX Runtime) or tract.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    /// Rows of the object.
    #[arg(long, default_value_t = 2500)]
    rows: usize,
    /// Columns of the object.
    #[arg(long, default_value_t = 2048)]
    columns: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Readings before the first that counts: caches and branch predictors settle.
const WARM_UP: u32 = 5;

/// The stages, in the order of the data.
const STAGES: [&str; 7] =
    ["decode", "decode in a child", "render", "fit", "encode", "head and SAE", "whole reading"];

pub(super) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let mut config = bench.configured.load()?.config;
    if let Some(choice) = bench.engine {
        config.engine.order = vec![choice];
    }
    config.bundle.unvalidated = true;
    let bundle = match Bundle::load(&config.bundle) {
        Ok(bundle) => bundle,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    let (mut encoder, _) = match Prober::own(&bundle, &config).choose() {
        Ok(started) => started,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(NOT_READY));
        }
    };
    let encoding = Encoding {
        rows: bench.rows,
        columns: bench.columns,
        bits_stored: 12,
        photometric: Photometric::Monochrome2,
    };
    let phantom = Phantom { seed: 1, projection: Projection::Pa, variant: Variant::Effusion };
    let file = phantom.to_dicom(&encoding)?;
    let mut decoder = Decoder::new(Program::own(), &config.decode, &config.dicom.limits);
    let mut times: [Vec<Duration>; STAGES.len()] = Default::default();
    for run in 0..WARM_UP + bench.runs {
        let taken = once(&file, &bundle, &config, &mut decoder, encoder.as_mut())?;
        if run >= WARM_UP {
            times.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    print(bench, encoder.as_ref(), &mut times)?;
    Ok(ExitCode::SUCCESS)
}

/// One reading: how long each stage took. The whole reading is decode in a child, as the
/// daemon does it, and `read` once more.
fn once(
    file: &[u8],
    bundle: &Bundle,
    config: &Config,
    decoder: &mut Decoder,
    encoder: &mut dyn Encoder,
) -> anyhow::Result<[Duration; STAGES.len()]> {
    let clock = SystemClock;
    let since = |begun| clock.monotonic().duration_since(begun);
    let begun = clock.monotonic();
    decode::decode(file, &config.decode, &config.dicom.limits)?;
    let decoded = since(begun);
    let begun = clock.monotonic();
    let frame = decoder.decode(file)?;
    let in_a_child = since(begun);
    let begun = clock.monotonic();
    let picture = preprocess::render(&frame);
    let rendered = since(begun);
    let begun = clock.monotonic();
    let input = preprocess::input_of(&picture, &bundle.manifest.input);
    let fitted = since(begun);
    let begun = clock.monotonic();
    let tokens = encoder.encode(&input)?;
    let encoded = since(begun);
    let begun = clock.monotonic();
    let code = sparse::encode(&bundle.sae, &tokens, &embed(&tokens, &bundle.head));
    let sparse = since(begun);
    anyhow::ensure!(!code.image.entries().is_empty(), "expected an active latent, found none");
    let begun = clock.monotonic();
    let reading = reading::read(&frame, bundle, &config.policy(), encoder)?;
    let read = since(begun);
    anyhow::ensure!(reading.accepted(), "expected the phantom to be read, found it refused");
    Ok([decoded, in_a_child, rendered, fitted, encoded, sparse, in_a_child + read])
}

fn print(bench: &Bench, encoder: &dyn Encoder, times: &mut [Vec<Duration>]) -> anyhow::Result<()> {
    let peak = peak_kib()?;
    let mut rows = Vec::new();
    for (stage, times) in STAGES.iter().zip(times) {
        times.sort_unstable();
        let at =
            |percent: usize| times[(times.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1e3;
        rows.push((stage, at(50), at(99)));
    }
    let engine = encoder.engine();
    if bench.json {
        let stages: Vec<_> = rows
            .iter()
            .map(|(s, p50, p99)| json!({"stage": s, "p50_ms": p50, "p99_ms": p99}))
            .collect();
        anstream::println!(
            "{}",
            json!({"engine": engine, "runs": bench.runs, "stages": stages, "peak_rss_kib": peak})
        );
        return Ok(());
    }
    anstream::println!(
        "{} x {}, 12 bit, {} runs, {} {}",
        bench.rows,
        bench.columns,
        bench.runs,
        engine.backend,
        engine.precision
    );
    anstream::println!("| stage | p50 ms | p99 ms |\n| --- | --- | --- |");
    for (stage, p50, p99) in rows {
        anstream::println!("| {stage} | {p50:.2} | {p99:.2} |");
    }
    anstream::println!("peak resident memory {} MiB", peak / 1024);
    Ok(())
}

/// The most memory that this process ever had resident, KiB (`VmHWM`, proc(5)).
fn peak_kib() -> anyhow::Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .context("expected VmHWM in /proc/self/status, found none")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("reading VmHWM")
}
