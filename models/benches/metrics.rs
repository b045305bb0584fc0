//! Times the metrics of labels at full size, in CPU seconds of one thread:
//! `cargo bench --workspace --bench metrics -- [--images 224000] [--latents 16384] [--k 32]`.
//!
//! 14 labels of the prevalences that chest radiographs have; every latent is held against every
//! label. scikit-learn's `roc_auc_score` needs a call for each pair.
#![expect(clippy::print_stdout, reason = "the figures are what is asked for")]

use std::process::ExitCode;

use clearfilm_models::codes::Codes;
use clearfilm_models::evaluate::alignment::Correlations;
use clearfilm_models::evaluate::auroc::agreements;
use clearfilm_models::evaluate::labels::{Labels, Mark};
use clearfilm_models::evaluate::monosemantic::monosemanticity;
use clearfilm_models::evaluate::permute::{Blocks, Permutations, chances};
use clearfilm_models::start::{Stream, numbers};
use rand::RngExt as _;
use rustix::time::{ClockId, clock_gettime};

/// Labels of CheXpert and of NIH.
const LABELS: usize = 14;

/// Width of the embeddings that judge monosemanticity.
const WIDTH: usize = 512;

fn main() -> ExitCode {
    let [images, latents, k] = [("--images", 224_000), ("--latents", 16_384), ("--k", 32)]
        .map(|(name, other)| argument(name).unwrap_or(other));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let Ok(pool) = pool else { return ExitCode::FAILURE };
    pool.install(|| run(images, latents, k));
    ExitCode::SUCCESS
}

fn argument(name: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

/// CPU seconds of this process.
fn seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let before = seconds();
    let found = work();
    println!("{what}: {:.2} CPU seconds", seconds() - before);
    found
}

fn run(images: usize, latents: usize, k: usize) {
    println!("{images} images, {latents} latents, {k} active, {LABELS} labels");
    let narrow = |n: usize| u32::try_from(n).expect("fewer than 2^32");
    let codes = drawn(narrow(images), narrow(latents), k);
    let labels = labels(images);
    let patients: Vec<u32> = (0..).take(images).map(|image: u32| image / 3).collect();
    let found = timed("AUROC, average precision, rank correlation", || agreements(&codes, &labels));
    timed("Pearson's correlation", || Correlations::of(&codes, &labels));
    let best = found.iter().flatten().flatten().fold(0.0_f64, |most, a| most.max(a.auroc));
    println!("largest AUROC of labels at random: {best:.4}");
    let embeddings: Vec<f32> = {
        let mut random = numbers(3, Stream::Samples);
        (0..images * WIDTH).map(|_| random.random::<f32>() - 0.3).collect()
    };
    timed("monosemanticity, five forms", || monosemanticity(&codes, &embeddings, WIDTH, &patients));
    let strata: Vec<u32> = patients.iter().map(|patient| patient % 12).collect();
    let how = Permutations { count: 20, ..Permutations::default() };
    timed("20 permutations of all pairs, both passes", || {
        chances(&codes, &labels, &Blocks::of(&patients, &strata), &how)
    });
}

/// Codes with `k` latents an image; the first latents are much more frequent than the last.
fn drawn(images: u32, latents: u32, k: usize) -> Codes {
    let mut random = numbers(1, Stream::Samples);
    let mut found = Vec::new();
    for image in 0..images {
        for _ in 0..k {
            let at = random.random_range(0..latents).min(random.random_range(0..latents));
            found.push((at, image, random.random::<f32>() + 0.1));
        }
    }
    found.sort_unstable_by_key(|(latent, image, _)| (*image, *latent));
    found.dedup_by_key(|(latent, image, _)| (*image, *latent));
    Codes::listed(images as usize, latents as usize, &found)
}

fn labels(images: usize) -> Labels {
    let mut random = numbers(2, Stream::Samples);
    let column = |label: usize| {
        let prevalence = 0.02 + 0.03 * label as f64;
        let mut mark =
            || if random.random::<f64>() < prevalence { Mark::Positive } else { Mark::Negative };
        (label.to_string(), (0..images).map(|_| mark()).collect())
    };
    Labels::of((0..LABELS).map(column).collect())
}
