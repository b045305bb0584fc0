//! How much dictionaries explain, beside dictionary_learning's: the same kind, samples, steps, rate
//! and schedule, held-out samples, several seeds.
//!
//! `CLEARFILM_PEER_DICTIONARY_LEARNING` names the peer's interpreter; `models/peers/run.sh` makes it.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark makes")]

use std::path::Path;
use std::process::Command;

use clearfilm_models::measure::measure;
use clearfilm_models::normalise::Normaliser;
use clearfilm_models::recipe::{Kind, Recipe};
use clearfilm_models::start::{Stream, numbers, weights};
use clearfilm_models::synthetic::Planted;
use clearfilm_models::train::{Selection, Trainer};
use rand::seq::SliceRandom as _;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// As the fixed set says (`Planted::DEAD`).
const LATENTS: usize = 2048;
const K: usize = 16;

/// Samples to train on, and as many again to measure on.
const COUNT: usize = 16_384;
const BATCH: usize = 512;
const EPOCHS: usize = 20;
const WARM_UP: usize = 100;
const SEEDS: u64 = 5;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(python) = std::env::var_os("CLEARFILM_PEER_DICTIONARY_LEARNING") else {
        println!(
            "SKIPPED: expected an interpreter in CLEARFILM_PEER_DICTIONARY_LEARNING, found none"
        );
        return;
    };
    let d = Planted::DEAD.d;
    let mut drawn = Planted::DEAD.draw(2 * COUNT).samples;
    let (normaliser, _) = Normaliser::of(&drawn[..COUNT * d], d).expect("of samples");
    normaliser.apply(&mut drawn);
    let (train, held_out) = drawn.split_at(COUNT * d);
    let folder = tempfile::tempdir().expect("a folder");
    write(train, held_out, d, folder.path());
    println!("| seed | Clearfilm, held-out FVU | dictionary_learning, held-out FVU |");
    println!("| --- | --- | --- |");
    let mut sums = [0.0; 2];
    for seed in 0..SEEDS {
        let found = [own(train, held_out, d, seed), peer(Path::new(&python), folder.path(), seed)];
        println!("| {seed} | {:.4} | {:.4} |", found[0], found[1]);
        sums = [sums[0] + found[0], sums[1] + found[1]];
    }
    #[expect(clippy::cast_precision_loss, reason = "some seeds")]
    let [own, peer] = sums.map(|sum| sum / SEEDS as f64);
    println!("| mean | {own:.4} | {peer:.4} |");
    println!("\nrelative: {:+.2} %", 100.0 * (own / peer - 1.0));
}

/// The recipe's defaults, but for the steps of the schedule, which both have.
fn own(train: &[f32], held_out: &[f32], d: usize, seed: u64) -> f64 {
    let select =
        format!("latents = {LATENTS}\nseed = {seed}\nbatch = {BATCH}\nepochs = {EPOCHS}\n");
    let tables = format!(
        "[select]\nkind = \"top-k\"\nk = {K}\n[schedule]\nwarm_up = {WARM_UP}\n[optimiser]\naverage = 0.99\n"
    );
    let recipe: Recipe = toml::from_str(&(select + &tables)).expect("a recipe");
    let kind = Kind::TopK { k: K };
    let start = weights(&recipe, train, d);
    let mut trainer = Trainer::new(recipe, start, COUNT as u64);
    for epoch in 0..EPOCHS {
        let mut order: Vec<usize> = (0..COUNT).collect();
        order.shuffle(&mut numbers(seed, Stream::Order(epoch as u64)));
        for picked in order.chunks_exact(BATCH) {
            let rows: Vec<f32> =
                picked.iter().flat_map(|&at| &train[at * d..][..d]).copied().collect();
            trainer.step(&rows).expect("a step");
        }
    }
    measure(trainer.best(), &Selection::Trained(&kind), held_out).fvu
}

fn peer(python: &Path, folder: &Path, seed: u64) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/quality.py");
    let seed = usize::try_from(seed).expect("a small number");
    let numbers = [LATENTS, K, BATCH, EPOCHS, WARM_UP, seed].map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(folder).args(numbers).output();
    let output = output.expect("the peer's interpreter starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().and_then(|line| line.trim().parse().ok());
    last.unwrap_or_else(|| {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        f64::NAN
    })
}

fn write(train: &[f32], held_out: &[f32], d: usize, folder: &Path) {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let parts = [("train", bytes(train)), ("held_out", bytes(held_out))];
    let views = parts.iter().map(|(name, bytes)| {
        (*name, TensorView::new(Dtype::F32, vec![COUNT, d], bytes).expect("a tensor"))
    });
    let file = safetensors::serialize(views, None).expect("a file");
    std::fs::write(folder.join("samples.safetensors"), file).expect("written");
}
