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
epochs = 60

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
}

#[test]
fn a_run_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    samples(folder.path());
    let output = sweep(folder.path(), &["--index", "2"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("less than 2, found 2"), "{error}");
}
