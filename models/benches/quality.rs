//! How much dictionaries explain, beside dictionary_learning's: the same kind, samples, steps, rate
//! and schedule, held-out samples, several seeds; on drawn samples, or with `--samples FOLDER` on
//! what `clearfilm-models embed` wrote.
//!
//! `CLEARFILM_PEER_DICTIONARY_LEARNING` names the peer's interpreter; `models/peers/run.sh` makes it.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark makes")]

use std::path::Path;
use std::process::Command;

use clearfilm_models::measure::measure;
use clearfilm_models::normalise::Normaliser;
use clearfilm_models::recipe::{Kind, Recipe};
use clearfilm_models::samples::{Part, Samples};
use clearfilm_models::start::{Stream, numbers, weights};
use clearfilm_models::synthetic::Planted;
use clearfilm_models::train::{Selection, Trainer};
use rand::seq::SliceRandom as _;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const SEEDS: u64 = 5;
const WARM_UP: usize = 100;

/// Samples, normalised, and how large a dictionary they are given for how long.
struct Set {
    train: Vec<f32>,
    held_out: Vec<f32>,
    d: usize,
    latents: usize,
    k: usize,
    batch: usize,
    epochs: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let Some(python) = std::env::var_os("CLEARFILM_PEER_DICTIONARY_LEARNING") else {
        println!(
            "SKIPPED: expected an interpreter in CLEARFILM_PEER_DICTIONARY_LEARNING, found none"
        );
        return;
    };
    let set = match arguments.iter().position(|argument| argument == "--samples") {
        Some(at) => embedded(Path::new(&arguments[at + 1])),
        None => drawn(),
    };
    table(&set, Path::new(&python));
}

/// The fixed set on which dictionaries lose their latents: 16,384 samples, and as many again.
fn drawn() -> Set {
    let d = Planted::DEAD.d;
    let mut train = Planted::DEAD.draw(2 * 16_384).samples;
    let held_out = train.split_off(16_384 * d);
    Set { train, held_out, d, latents: 2048, k: 16, batch: 512, epochs: 20 }.normalised()
}

/// Views of radiographs, splits `train` and `dev` of an embeddings folder.
///
/// The folder is named from the repository's root; cargo runs benchmarks elsewhere.
fn embedded(folder: &Path) -> Set {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let of = |split: &str| {
        let part = Part { split: Some(split.to_owned()), views: None };
        Samples::read_folder(&folder, "embedding", &part).expect("embeddings")
    };
    let (train, held_out) = (of("train"), of("dev"));
    let d = train.d;
    let (train, held_out) = (train.values, held_out.values);
    Set { train, held_out, d, latents: 2048, k: 32, batch: 1024, epochs: 10 }.normalised()
}

impl Set {
    fn normalised(mut self) -> Self {
        let (normaliser, _) = Normaliser::of(&self.train, self.d).expect("of samples");
        normaliser.apply(&mut self.train);
        normaliser.apply(&mut self.held_out);
        self
    }
}

/// A line a seed.
fn table(set: &Set, python: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    write(set, folder.path());
    let [train, held_out] = [&set.train, &set.held_out].map(|values| values.len() / set.d);
    println!(
        "{train} samples, {held_out} held out, {} values, {} latents, k = {}, batch {}, {} epochs",
        set.d, set.latents, set.k, set.batch, set.epochs
    );
    println!("| seed | Clearfilm, held-out FVU | dictionary_learning, held-out FVU |");
    println!("| --- | --- | --- |");
    let mut sums = [0.0; 2];
    for seed in 0..SEEDS {
        let found = [own(set, seed), peer(set, python, folder.path(), seed)];
        println!("| {seed} | {:.5} | {:.5} |", found[0], found[1]);
        sums = [sums[0] + found[0], sums[1] + found[1]];
    }
    #[expect(clippy::cast_precision_loss, reason = "some seeds")]
    let [own, peer] = sums.map(|sum| sum / SEEDS as f64);
    println!("| mean | {own:.5} | {peer:.5} |");
    println!("\nrelative: {:+.2} %", 100.0 * (own / peer - 1.0));
}

/// The recipe's defaults, but for the steps of the schedule, which both have, and an average that
/// suits some hundred steps.
fn own(set: &Set, seed: u64) -> f64 {
    let &Set { d, latents, k, batch, epochs, .. } = set;
    let whole = format!("latents = {latents}\nseed = {seed}\nbatch = {batch}\nepochs = {epochs}\n");
    let tables = format!(
        "[select]\nkind = \"top-k\"\nk = {k}\n[schedule]\nwarm_up = {WARM_UP}\n[optimiser]\naverage = 0.99\n"
    );
    let recipe: Recipe = toml::from_str(&(whole + &tables)).expect("a recipe");
    let start = weights(&recipe, &set.train, d);
    let count = set.train.len() / d;
    let mut trainer = Trainer::new(recipe, start, count as u64);
    for epoch in 0..epochs {
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut numbers(seed, Stream::Order(epoch as u64)));
        for picked in order.chunks_exact(batch) {
            let rows: Vec<f32> =
                picked.iter().flat_map(|&at| &set.train[at * d..][..d]).copied().collect();
            trainer.step(&rows).expect("a step");
        }
    }
    measure(trainer.best(), &Selection::Trained(&Kind::TopK { k }), &set.held_out).fvu
}

fn peer(set: &Set, python: &Path, folder: &Path, seed: u64) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/quality.py");
    let seed = usize::try_from(seed).expect("a small number");
    let numbers = [set.latents, set.k, set.batch, set.epochs, WARM_UP, seed];
    let numbers = numbers.map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(folder).args(numbers).output();
    let output = output.expect("the peer's interpreter starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().and_then(|line| line.trim().parse().ok());
    last.unwrap_or_else(|| {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        f64::NAN
    })
}

fn write(set: &Set, folder: &Path) {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let parts = [("train", bytes(&set.train)), ("held_out", bytes(&set.held_out))];
    let views = parts.iter().map(|(name, bytes)| {
        let shape = vec![bytes.len() / 4 / set.d, set.d];
        (*name, TensorView::new(Dtype::F32, shape, bytes).expect("a tensor"))
    });
    let file = safetensors::serialize(views, None).expect("a file");
    std::fs::write(folder.join("samples.safetensors"), file).expect("written");
}
