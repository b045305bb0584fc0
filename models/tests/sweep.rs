//! The verb `sweep`, as a person or a scheduler calls it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clearfilm_models::synthetic::Planted;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const SWEEP: &str = "
[recipe]
latents = 48
batch = 256
epochs = 60
loss = 'squares'

[recipe.schedule]
rate = 5e-3
warm_up = 20

[recipe.select]
kind = 'standard'
l1 = 1.0
l1_warm_up = 0

[aim]
l0 = 4.0
near = 0.1
setting = 'select.l1'

[grid]
seed = [0, 1]
";

/// Samples in which three of 32 directions are active.
fn samples(folder: &Path) {
    let planted =
        Planted { d: 16, features: 32, active: 3.0, power: 0.0, gamma: 0.5, noise: 0.02, seed: 5 };
    let drawn = planted.draw(4096).samples;
    for (name, values) in [("train", &drawn[..2048 * 16]), ("held-out", &drawn[2048 * 16..])] {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![2048, 16], &bytes).expect("a tensor");
        let file = safetensors::serialize([("embedding", view)], None).expect("a file");
        fs::write(folder.join(format!("{name}.safetensors")), file).expect("written");
    }
    fs::write(folder.join("sweep.toml"), SWEEP).expect("written");
}

fn sweep(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clearfilm-models"));
    command.current_dir(folder).args(["sweep", "--sweep", "sweep.toml"]);
    command.args(["--samples", "train.safetensors", "--held-out", "held-out.safetensors"]);
    command.args(["--out", "."]);
    command.args(more).output().expect("the command runs")
}

fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Active latents of the held-out samples.
fn l0(folder: &Path) -> f64 {
    let text = fs::read_to_string(folder.join("run.json")).expect("run.json");
    let run: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    run["held_out"]["l0"].as_f64().expect("a number")
}

#[test]
fn every_run_meets_the_aim_in_a_folder_of_its_own_and_is_made_once() {
    let folder = tempfile::tempdir().expect("a folder");
    samples(folder.path());
    assert_eq!(printed(&sweep(folder.path(), &["--list"])), "0 seed0\n1 seed1\n");
    // One run as a scheduler asks for it, then the rest.
    printed(&sweep(folder.path(), &["--index", "1"]));
    let first = fs::read(folder.path().join("seed1/sae.safetensors")).expect("the run");
    let said = printed(&sweep(folder.path(), &[]));
    assert!(said.contains("seed1: done"), "{said}");
    for name in ["seed0", "seed1"] {
        let found = l0(&folder.path().join(name));
        assert!((found / 4.0 - 1.0).abs() < 0.1, "{name}: {found} active, 4 were asked for");
    }
    assert_eq!(fs::read(folder.path().join("seed1/sae.safetensors")).expect("the run"), first);
    // A run that lost its results is made again from its own recipe, to the same bytes.
    fs::remove_file(folder.path().join("seed1/run.json")).expect("removed");
    let said = printed(&sweep(folder.path(), &["--index", "1"]));
    assert!(!said.contains("makes"), "no trial is made again: {said}");
    assert_eq!(fs::read(folder.path().join("seed1/sae.safetensors")).expect("the run"), first);
    // Cut off right after its trials: the one that met the aim is found in their list. The first
    // time it was the run itself, now it is trained from the beginning, to the same bytes.
    fs::remove_file(folder.path().join("seed1/run.json")).expect("removed");
    fs::remove_file(folder.path().join("seed1/recipe.toml")).expect("removed");
    let said = printed(&sweep(folder.path(), &["--index", "1"]));
    assert!(!said.contains("makes"), "no trial is made again: {said}");
    assert_eq!(fs::read(folder.path().join("seed1/sae.safetensors")).expect("the run"), first);
}

#[test]
fn a_run_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    samples(folder.path());
    let output = sweep(folder.path(), &["--index", "2"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("less than 2, found 2"), "{error}");
}

#[test]
fn an_aim_that_is_not_met_is_said_and_the_nearest_penalty_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    samples(folder.path());
    let few = SWEEP
        .replace("l0 = 4.0", "l0 = 4.0\ntrials = 2\nepochs = 1")
        .replace("epochs = 60", "epochs = 2");
    let few = few.replace("[grid]\nseed = [0, 1]", "[[run]]\nname = 'short'");
    fs::write(folder.path().join("sweep.toml"), few).expect("written");
    let said = printed(&sweep(folder.path(), &[]));
    assert!(said.contains("short: expected 4 to fire within 2 trials, found"), "{said}");
    let tried: Vec<(f64, f64)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("short: select.l1 ")?.split_once(" makes "))
        .filter_map(|(penalty, l0)| {
            Some((penalty.parse().ok()?, l0.strip_suffix(" fire")?.parse().ok()?))
        })
        .collect();
    // Printed to a tenth: several may be nearest.
    let least = tried.iter().map(|(_, l0)| *l0).fold(f64::INFINITY, f64::min);
    let nearest = |kept: f64| {
        tried.iter().any(|(penalty, l0)| *l0 <= least && (kept / penalty - 1.0).abs() < 1e-3)
    };
    let text = fs::read_to_string(folder.path().join("short/recipe.toml")).expect("a recipe");
    let recipe: toml::Table = toml::from_str(&text).expect("TOML");
    let kept = recipe["select"]["l1"].as_float().expect("a number");
    assert_eq!(tried.len(), 2);
    assert!(nearest(kept), "kept {kept}, tried {tried:?}");
}
