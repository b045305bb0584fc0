//! How fast dictionaries are trained, beside the libraries that people use.
//!
//! Everybody takes the same samples and begins with the same weights; in every round each does a
//! few whole steps, one after the other. What counts is the time of the process on the CPU, with
//! one thread, so that others on the machine disturb little. Peers are the interpreters that
//! `CLEARFILM_PEER_DICTIONARY_LEARNING`, `..._SAE_LENS` and `..._SPARSIFY` name;
//! `models/peers/run.sh` makes them.
#![expect(clippy::print_stdout, reason = "the tables are what a benchmark makes")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use clearfilm_models::kernel::Floor;
use clearfilm_models::kernel::bf16::{Panels, Scan};
use clearfilm_models::kernel::{Kernel, Rows, product};
use clearfilm_models::normalise::{Normaliser, geometric_median};
use clearfilm_models::recipe::{Dead, Kind, Loss, Optimiser, Recipe, Schedule, Start};
use clearfilm_models::start::weights;
use clearfilm_models::synthetic::Planted;
use clearfilm_models::train::{Kept, Trainer, Weights};
use rustix::time::{ClockId, clock_gettime};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const BATCH: usize = 4096;
const BATCHES: usize = 4;
const D: usize = 512;
const K: usize = 32;

/// Steps of a round with 4,096 latents; with four times as many it is half of them.
const STEPS: usize = 2;

/// Rounds where the command line does not say.
const ROUNDS: usize = 7;

/// Times that a peak is looked for.
const PEAKS: usize = 3;

/// Samples of a task, as the trainer has them.
const TASK: usize = 512;

/// Samples without a firing after which the libraries call a latent dead.
const WINDOW: u64 = 10_000_000;

/// The libraries in the precision that is faster here, and the first one in the other one too.
const PEERS: [(&str, &[&str]); 3] =
    [("dictionary_learning", &["fp32", "bf16"]), ("sae_lens", &["bf16"]), ("sparsify", &["bf16"])];

/// One that is measured.
struct Contender {
    name: String,
    kind: Trained,
    /// Samples per second of CPU, a value a round.
    speeds: Vec<f64>,
    /// The last squared error.
    loss: f64,
    /// Samples of all rounds on which bf16 could not tell who may fire.
    untold: usize,
}

enum Trained {
    Own { trainer: Box<Trainer>, samples: Vec<f32>, number: usize },
    Peer { _child: Child, to: ChildStdin, from: BufReader<ChildStdout> },
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = arguments
        .iter()
        .position(|a| a == "--rounds")
        .map_or(ROUNDS, |at| arguments[at + 1].parse().expect("a number of rounds"));
    println!("{rounds} rounds of {STEPS} steps, batch {BATCH}, {D} values, k = {K}, one thread");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    pool.install(|| {
        for latents in [4096, 16_384] {
            for percent in [0, 5] {
                table(latents, latents * percent / 100, rounds);
            }
        }
    });
}

fn table(latents: usize, dead: usize, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let (recipe, start, samples) = begin(latents, dead);
    write(&start, &samples, folder.path());
    let kernels = [Kernel::Bf16, Kernel::Fp32].into_iter().filter(|kernel| kernel.runs_here());
    let mut contenders: Vec<Contender> =
        kernels.map(|kernel| own(kernel, recipe.clone(), &start, samples.clone(), dead)).collect();
    let steps = if latents > 4096 { STEPS / 2 } else { STEPS };
    let peaks = peaks(&start, &samples);
    for (library, precisions) in PEERS {
        let variable = format!("CLEARFILM_PEER_{}", library.to_uppercase());
        let Some(python) = std::env::var_os(&variable).map(PathBuf::from) else {
            println!("SKIPPED: expected the interpreter of {library} in {variable}, found none");
            continue;
        };
        for precision in precisions {
            contenders.push(peer(&python, library, precision, folder.path(), latents, dead));
        }
    }
    for contender in &mut contenders {
        contender.round(1);
        contender.speeds.clear();
    }
    for _ in 0..rounds {
        contenders.iter_mut().for_each(|contender| contender.round(steps));
    }
    println!("\n{latents} latents, {dead} of them dead, {steps} steps a round\n");
    let mine: Vec<f64> =
        contenders.iter().filter(|c| c.is_own()).map(|c| median(&c.speeds)).collect();
    let names = contenders.iter().filter(|c| c.is_own()).map(|c| format!(" {} to it |", c.name));
    let names: String = names.collect();
    println!("| | samples per CPU-second | lowest to highest | squared error |{names}");
    println!("| --- | --- | --- | --- |{}", " --- |".repeat(mine.len()));
    for Contender { name, speeds, loss, .. } in &contenders {
        let (least, most) =
            speeds.iter().fold((f64::MAX, 0.0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
        let middle = median(speeds);
        let ratios: String = mine.iter().map(|mine| format!(" {:.2} |", mine / middle)).collect();
        println!("| {name} | {middle:.0} | {least:.0} to {most:.0} | {loss:.4} |{ratios}");
    }
    println!();
    #[expect(clippy::cast_precision_loss, reason = "some billions")]
    let needed = (2 * D * latents) as f64 / 1e9;
    for (own, mine) in contenders.iter().filter(|c| c.is_own()).zip(&mine) {
        let rate = needed * mine;
        let [fp32, bf16] = peaks.map(|peak| format!("{:.0} % of {peak:.0}", 100.0 * rate / peak));
        println!(
            "{}: {rate:.0} GFLOP/s of needed encoding in the whole step, {fp32} in fp32, {bf16} in bf16; {} samples left to fp32",
            own.name, own.untold
        );
    }
}

/// GFLOP/s of the encoder's product alone, in fp32 and in bf16 (0 where the CPU has none): the best
/// of some.
fn peaks(start: &Weights, samples: &[f32]) -> [f64; 2] {
    let x = Rows::dense(&samples[..BATCH * D], D);
    let mut out = vec![0.0; BATCH * start.latents()];
    let (mut panels, mut scan) = (Panels::default(), Scan::default());
    let packed = panels.pack(start.encoder(), &vec![0.0; start.latents()]);
    let mut best = [0.0_f64; 2];
    for _ in 0..PEAKS {
        let begun = cpu_seconds();
        product(&mut out, x, start.encoder());
        let between = cpu_seconds();
        if packed {
            for samples in x.values.chunks(TASK * D) {
                panels.scan(samples, Floor::Fixed(f32::MAX, 0), &mut scan, |_, _| {});
            }
        }
        let times = [between - begun, cpu_seconds() - between];
        #[expect(clippy::cast_precision_loss, reason = "some billions")]
        let work = (2 * BATCH * D * start.latents()) as f64 / 1e9;
        best[0] = best[0].max(work / times[0]);
        best[1] = if packed { best[1].max(work / times[1]) } else { 0.0 };
    }
    best
}

/// The recipe of the libraries' defaults, first weights, samples.
fn begin(latents: usize, dead: usize) -> (Recipe, Weights, Vec<f32>) {
    let planted = Planted {
        d: D,
        features: 1024,
        active: 32.0,
        power: 0.5,
        gamma: 1.0,
        noise: 0.05,
        seed: 7,
    };
    let mut samples = planted.draw(BATCH * BATCHES).samples;
    let (normaliser, _) = Normaliser::of(&samples, D).expect("of samples");
    normaliser.apply(&mut samples);
    let recipe = Recipe {
        latents,
        select: Kind::TopK { k: K },
        loss: Loss::Squares,
        seed: 0,
        batch: BATCH,
        // 100,000 steps, as the peers are told.
        epochs: 25_000,
        start: Start::Tied,
        schedule: Schedule { warm_up: 1000, k_from: 1.0, ..Schedule::default() },
        optimiser: Optimiser { epsilon: 1e-8, average: 0.0, ..Optimiser::default() },
        dead: Dead { window: WINDOW, reseed_every: 0, ..Dead::default() },
        start_l0: 0,
        frozen_decoder: false,
    };
    let mut start = weights(&recipe, &samples, D);
    start.b_dec = geometric_median(&samples[..BATCH * D], D);
    let layout = start.layout();
    for latent in 0..dead {
        start.record_mut(latent)[layout.b_enc()] = -1e3;
    }
    (recipe, start, samples)
}

fn write(start: &Weights, samples: &[f32], folder: &Path) {
    let latents = start.latents();
    let layout = start.layout();
    let w_dec: Vec<f32> = (0..latents).flat_map(|latent| start.w_dec(latent)).copied().collect();
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let parts = [
        ("samples", vec![samples.len() / D, D], bytes(samples)),
        ("w_dec", vec![latents, D], bytes(&w_dec)),
        ("b_enc", vec![latents], bytes(&start.column(layout.b_enc()))),
        ("b_dec", vec![D], bytes(&start.b_dec)),
    ];
    let views = parts.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    let file = safetensors::serialize(views, None).expect("a file");
    std::fs::write(folder.join("start.safetensors"), file).expect("written");
}

fn own(
    kernel: Kernel,
    recipe: Recipe,
    start: &Weights,
    samples: Vec<f32>,
    dead: usize,
) -> Contender {
    let zeros = Weights::zeros(recipe.latents, D);
    let mut kept: Vec<Kept> = Vec::from(start.kept("weights"));
    kept.extend(zeros.kept("moment1"));
    kept.extend(zeros.kept("moment2"));
    let silent = (0..recipe.latents).map(|latent| if latent < dead { WINDOW } else { 0 }).collect();
    let trainer = Trainer::resume(recipe, &kept, (D, (BATCH * BATCHES) as u64), (0, silent));
    let trainer = Box::new(trainer.expect("a trainer").with_kernel(kernel));
    let kind = Trained::Own { trainer, samples, number: 0 };
    let name = match kernel {
        Kernel::Bf16 => "Clearfilm, bf16",
        Kernel::Fp32 => "Clearfilm, fp32",
    };
    Contender { name: name.into(), kind, speeds: Vec::new(), loss: 0.0, untold: 0 }
}

fn peer(
    python: &Path,
    library: &str,
    precision: &str,
    folder: &Path,
    latents: usize,
    dead: usize,
) -> Contender {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/peers.py");
    let mut child = Command::new(python)
        .arg(script)
        .args([library, precision])
        .arg(folder)
        .args([latents, K, dead].map(|number| number.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peer's interpreter starts");
    let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut from = BufReader::new(from);
    while said(&mut from).trim() != "ready" {}
    let name = format!("{library}, {precision}");
    Contender {
        name,
        kind: Trained::Peer { _child: child, to, from },
        speeds: Vec::new(),
        loss: 0.0,
        untold: 0,
    }
}

fn said(from: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    let read = from.read_line(&mut line).expect("the peer speaks");
    assert!(read > 0, "expected an answer of the peer, found its end");
    line
}

impl Contender {
    fn is_own(&self) -> bool {
        matches!(self.kind, Trained::Own { .. })
    }

    fn round(&mut self, steps: usize) {
        let seconds = match &mut self.kind {
            Trained::Own { trainer, samples, number } => {
                let begun = cpu_seconds();
                for _ in 0..steps {
                    let batch = &samples[(*number % BATCHES) * BATCH * D..][..BATCH * D];
                    let losses = trainer.step(batch).expect("a step");
                    self.loss = losses.reconstruction;
                    self.untold += losses.untold;
                    *number += 1;
                }
                cpu_seconds() - begun
            }
            Trained::Peer { to, from, .. } => {
                writeln!(to, "steps {steps}").expect("the peer listens");
                let line = said(from);
                let mut numbers =
                    line.split_whitespace().map(|n| n.parse::<f64>().expect("a number"));
                let seconds = numbers.next().expect("seconds");
                self.loss = numbers.next().expect("a loss");
                seconds
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "some thousand samples")]
        self.speeds.push((steps * BATCH) as f64 / seconds);
    }
}

/// Time of this process on the CPU.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds of one run")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
