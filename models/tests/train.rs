//! What the trainer finds where it is known what there is to find.
#![expect(clippy::print_stdout, reason = "what was found is worth reading")]

use clearfilm_models::export::fold;
use clearfilm_models::kernel::Kernel;
use clearfilm_models::measure::measure;
use clearfilm_models::normalise::Normaliser;
use clearfilm_models::recipe::{Dead, GatedForm, Kind, Loss, Optimiser, Recipe, Schedule, Start};
use clearfilm_models::run::{RunError, Trained, run, run_on};
use clearfilm_models::samples::Samples;
use clearfilm_models::start;
use clearfilm_models::synthetic::{Planted, recovered};
use clearfilm_models::train::{Selection, Trainer};

use clearfilm::encode::{Embedding, Tokens};
use clearfilm::id::{Digest, LatentIndex};
use clearfilm::sparse;

/// Samples to train on, and as many again to measure on.
const COUNT: usize = 8192;

/// A row counts as a planted direction from here on.
const CLOSE: f32 = 0.9;

/// 96 directions in 64 dimensions, 3 in a sample.
fn planted() -> Planted {
    Planted { d: 64, features: 96, active: 3.0, power: 0.0, gamma: 1.0, noise: 0.02, seed: 3 }
}

fn recipe(select: Kind) -> Recipe {
    let squares = matches!(select, Kind::Standard { .. } | Kind::Gated { .. });
    Recipe {
        latents: 128,
        select,
        loss: if squares { Loss::Squares } else { Loss::Variance },
        seed: 1,
        batch: 256,
        epochs: 30,
        start: Start::Tied,
        schedule: Schedule { rate: 2e-3, warm_up: 50, ..Schedule::default() },
        optimiser: Optimiser { average: 0.99, ..Optimiser::default() },
        dead: Dead::default(),
        start_l0: 0,
        frozen_decoder: false,
    }
}

fn trained(recipe: Recipe) -> (Trained, f64) {
    let planted = planted();
    let drawn = planted.draw(2 * COUNT);
    let (train, held_out) = drawn.samples.split_at(COUNT * planted.d);
    let samples = |values: &[f32]| Samples {
        d: planted.d,
        values: values.to_vec(),
        digest: Digest::of(b"drawn"),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let trained = run(recipe, [samples(train), samples(held_out)], &checkpoint, |_, _| {});
    let trained = trained.expect("trained");
    let rows: Vec<&[f32]> =
        (0..trained.weights.latents()).map(|l| trained.weights.w_dec(l)).collect();
    let share = recovered(&drawn.directions, &rows, planted.d, CLOSE);
    let held_out = &trained.outcome.held_out;
    println!(
        "recovered {share:.2}, FVU {:.4}, L0 {:.2}, dead {:.3}",
        held_out.fvu, held_out.l0, held_out.dead
    );
    (trained, share)
}

/// The kind finds the planted directions; without what makes it itself it does not.
fn check(whole: Kind, without: Kind) {
    let (found, share) = trained(recipe(whole));
    assert!(share >= 0.8, "recovered {share}");
    assert!(found.outcome.held_out.fvu < 0.2, "{:?}", found.outcome.held_out);
    assert!(found.outcome.held_out.l0 < 8.0, "{:?}", found.outcome.held_out);
    let (lost, share) = trained(recipe(without));
    let fvu = lost.outcome.held_out.fvu;
    assert!(share < 0.5 || fvu > 0.5, "recovered {share}, FVU {fvu} without what makes it");
}

#[test]
fn standard_finds_planted_directions_and_not_without_its_l1_term() {
    let with = |l1| Kind::Standard { l1, l1_warm_up: 100 };
    check(with(3.0), with(0.0));
}

#[test]
fn gated_finds_planted_directions_and_not_without_its_gate_loss() {
    let with = |gate_loss| Kind::Gated {
        sparsity: 4.0,
        sparsity_warm_up: 100,
        form: GatedForm::UnitNorm,
        gate_loss,
    };
    check(with(1.0), with(0.0));
}

#[test]
fn gated_with_decoder_norms_finds_planted_directions_and_not_without_its_gate_loss() {
    let with = |gate_loss| Kind::Gated {
        sparsity: 4.0,
        sparsity_warm_up: 100,
        form: GatedForm::DecoderNorm,
        gate_loss,
    };
    check(with(1.0), with(0.0));
}

#[test]
fn top_k_finds_planted_directions_and_not_without_its_selection() {
    check(Kind::TopK { k: 3 }, Kind::TopK { k: 128 });
}

#[test]
fn batch_top_k_finds_planted_directions_and_not_without_its_selection() {
    check(Kind::BatchTopK { k: 3 }, Kind::BatchTopK { k: 128 });
}

#[test]
fn matryoshka_puts_frequent_directions_first_and_not_without_its_prefix_loss() {
    let first = 24;
    let with = |prefixes: Vec<usize>| Kind::MatryoshkaBatchTopK { k: 3, prefixes };
    let alone = |kind: Kind| {
        let (found, share) = trained(recipe(kind.clone()));
        assert!(share >= 0.7, "recovered {share}");
        let mut weights = found.weights;
        let drawn = planted().draw(COUNT);
        let mut samples = drawn.samples;
        found.normaliser.apply(&mut samples);
        for latent in first..weights.latents() {
            weights.record_mut(latent).fill(0.0);
        }
        measure(&weights, &Selection::Trained(&kind), &samples).fvu
    };
    let (nested, flat) = (alone(with(vec![first, 128])), alone(with(vec![128])));
    println!("first {first} alone: FVU {nested:.3} with, {flat:.3} without");
    assert!(nested < 0.85 * flat, "{nested} {flat}");
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bytes_with_any_number_of_threads() {
    for kernel in [Kernel::Fp32, Kernel::Bf16] {
        if kernel.runs_here() {
            check_cut_off(kernel);
        }
    }
}

fn check_cut_off(kernel: Kernel) {
    let planted = planted();
    let drawn = planted.draw(2048);
    let samples = || {
        let values = drawn.samples.clone();
        [0, 1].map(|_| Samples {
            d: planted.d,
            values: values.clone(),
            digest: Digest::of(b"drawn"),
        })
    };
    let recipe =
        Recipe { epochs: 6, ..recipe(Kind::MatryoshkaBatchTopK { k: 3, prefixes: vec![24, 128] }) };
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let with = |threads: usize, name: &str, stop: Option<u64>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let unwound = std::panic::catch_unwind(|| {
                run_on(Some(kernel), recipe.clone(), samples(), &file(name), |epoch, _| {
                    // Cut off before the epoch is kept.
                    assert!(Some(epoch.epoch) != stop, "cut off");
                })
            });
            assert_eq!(unwound.is_err(), stop.is_some());
        });
        std::fs::read(file(name)).expect("a checkpoint")
    };
    let whole = with(1, "whole", None);
    let cut = with(2, "cut", Some(4));
    assert!(cut != whole);
    assert!(with(3, "cut", None) == whole);
}

/// What a device makes of raw embeddings is what training made of normalised ones.
fn check_exported(select: Kind) {
    let planted = planted();
    let raw = planted.draw(512).samples;
    let (found, _) = trained(Recipe { epochs: 2, ..recipe(select.clone()) });
    let sae = fold(&found.weights, &select, &found.thresholds, &found.normaliser);
    let mut normalised = raw.clone();
    found.normaliser.apply(&mut normalised);
    let gated = matches!(select, Kind::Gated { .. });
    let above = Selection::Above { gated, thresholds: &found.thresholds };
    let parts = above.of(&found.weights, &normalised);
    let (mut fired, mut apart, mut error) = (0, 0, 0.0);
    for (firings, x) in parts.iter().flat_map(|p| p.samples()).zip(raw.chunks_exact(planted.d)) {
        let embedding = Embedding { values: x.to_vec(), norm: 1.0 };
        let tokens = Tokens { n_tokens: 0, d_token: planted.d, values: Vec::new() };
        let code = sparse::encode(&sae, &tokens, &embedding).image;
        let mut x_hat = sparse::decode(&sae, &code);
        found.normaliser.apply(&mut x_hat);
        let mut expected = found.weights.b_dec.clone();
        for firing in firings {
            let row = found.weights.w_dec(firing.latent as usize);
            expected.iter_mut().zip(row).for_each(|(x, w)| *x += firing.value * w);
            apart += usize::from(
                (code.activation(LatentIndex(firing.latent)) - firing.value).abs() > 1e-3,
            );
        }
        // At its threshold a latent may fall on either side.
        apart += code.entries().len().abs_diff(firings.len());
        fired += firings.len();
        error += x_hat.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    }
    assert!(fired > 500, "{fired} firings");
    assert!(apart * 1000 <= fired, "{apart} of {fired} firings differ");
    assert!(error < 0.01, "squared error {error}");
}

#[test]
fn the_exported_form_is_the_trained_one_on_raw_embeddings() {
    check_exported(Kind::BatchTopK { k: 3 });
    check_exported(Kind::Standard { l1: 3.0, l1_warm_up: 10 });
    let form = GatedForm::UnitNorm;
    check_exported(Kind::Gated { sparsity: 4.0, sparsity_warm_up: 10, form, gate_loss: 1.0 });
}

/// The same few samples to train on and to measure on.
fn few() -> [Samples; 2] {
    let samples =
        || Samples { d: 64, values: planted().draw(512).samples, digest: Digest::of(b"drawn") };
    [samples(), samples()]
}

#[test]
fn a_checkpoint_says_its_kernel_and_goes_on_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("checkpoint.safetensors");
    let short = Recipe { epochs: 1, ..recipe(Kind::TopK { k: 3 }) };
    let on = |kernel| run_on(kernel, short.clone(), few(), &file, |_, _| {});
    let kernel = on(Some(Kernel::Fp32)).expect("trained").outcome.kernel;
    assert_eq!(kernel, Kernel::Fp32);
    assert_eq!(on(None).expect("gone on with").outcome.kernel, Kernel::Fp32);
    let other = on(Some(Kernel::Bf16)).expect_err("refused").to_string();
    let expected = ["expected a checkpoint of this kernel", "expected a CPU with AVX512-BF16"];
    assert!(expected.iter().any(|expected| other.contains(expected)), "{other}");
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("checkpoint.safetensors");
    let short = Recipe { epochs: 1, ..recipe(Kind::TopK { k: 3 }) };
    run(short.clone(), few(), &file, |_, _| {}).expect("trained");
    let other = run(Recipe { seed: 9, ..short }, few(), &file, |_, _| {});
    assert!(matches!(&other, Err(RunError::Checkpoint(_))), "{other:?}");
    assert!(
        other.expect_err("refused").to_string().contains("expected a checkpoint of this recipe")
    );
}

/// The fixed set on which dictionaries that are not centred lose their latents.
#[test]
fn centred_samples_leave_no_latent_dead_and_others_do() {
    let (batch, epochs) = (512, 20);
    let drawn = Planted::DEAD.draw(16_384);
    let d = Planted::DEAD.d;
    let recipe = Recipe {
        latents: 2048,
        select: Kind::TopK { k: 16 },
        loss: Loss::Variance,
        seed: 0,
        batch,
        epochs,
        start: Start::Tied,
        schedule: Schedule { k_from: 1.0, ..Schedule::default() },
        optimiser: Optimiser { average: 0.0, ..Optimiser::default() },
        dead: Dead { auxiliary: 0.0, reseed_every: 0, ..Dead::default() },
        start_l0: 0,
        frozen_decoder: false,
    };
    let dead = |centred: bool| {
        let mut samples = drawn.samples.clone();
        let (normaliser, offset) = Normaliser::of(&samples, d).expect("of samples");
        assert!((offset.gamma - 3.0).abs() < 0.3, "{offset:?}");
        let mut weights = if centred {
            normaliser.apply(&mut samples);
            start::weights(&recipe, &samples, d)
        } else {
            samples.iter_mut().for_each(|x| *x *= normaliser.scale);
            start::weights(&recipe, &samples, d)
        };
        if !centred {
            weights.b_dec.fill(0.0);
        }
        let mut trainer = Trainer::new(recipe.clone(), weights, 16_384);
        for _ in 0..epochs {
            for rows in samples.chunks_exact(batch * d) {
                trainer.step(rows).expect("a step");
            }
        }
        let kind = recipe.select.clone();
        measure(trainer.weights(), &Selection::Trained(&kind), &samples).dead
    };
    let (centred, control) = (dead(true), dead(false));
    println!("dead: {centred:.4} centred, {control:.4} not");
    assert!(centred <= 0.005, "{centred}");
    assert!(control > 0.5, "{control}");
}

#[test]
fn a_frozen_decoder_stays_as_it_begins_while_the_encoder_learns() {
    let recipe = Recipe {
        frozen_decoder: true,
        epochs: 100,
        schedule: Schedule { rate: 5e-3, warm_up: 0, k_from: 1.0, ..Schedule::default() },
        dead: Dead { reseed_every: 0, ..Dead::default() },
        ..recipe(Kind::TopK { k: 3 })
    };
    let planted = planted();
    let drawn = planted.draw(COUNT);
    let mut samples = drawn.samples;
    let (normaliser, _) = Normaliser::of(&samples, planted.d).expect("of samples");
    normaliser.apply(&mut samples);
    let begun = start::weights(&recipe, &samples, planted.d);
    let mut trainer = Trainer::new(recipe, begun.clone(), COUNT as u64);
    let loss = |trainer: &mut Trainer| trainer.step(&samples).expect("a step").reconstruction;
    let first = loss(&mut trainer);
    let last = (0..100).map(|_| loss(&mut trainer)).last().expect("steps");
    // Of 128 directions at random the encoder can only choose better ones.
    assert!(last < 0.98 * first, "loss {first} at first, {last} at last");
    for latent in 0..begun.latents() {
        assert_eq!(trainer.weights().w_dec(latent), begun.w_dec(latent), "latent {latent}");
    }
}
