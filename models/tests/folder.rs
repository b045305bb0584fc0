//! What an embeddings folder says of its pictures, and what is trained from it.

mod place;

use std::fs;
use std::process::Command;

use clearfilm_models::embed::{Folder, Manifest};
use clearfilm_models::samples::{Part, Samples};
use clearfilm_models::table::{self, Mark};
use place::{Place, succeeds};

/// Pictures of the place that can be read, and the views of each.
const PICTURES: usize = 6;
const VIEWS: usize = 32;

fn part(split: Option<&str>, views: Option<u32>) -> Part {
    Part { split: split.map(Into::into), views }
}

#[test]
fn a_finished_folder_says_what_is_known_of_each_vector_and_who_was_refused() {
    let place = Place::new();
    place.run("out", 2);
    let out = place.out("out");
    let (manifest, _) = Manifest::read(&Folder::at(&out)).expect("finished");
    assert_eq!((manifest.rows, manifest.refused, manifest.plan.absent), (PICTURES * VIEWS, 1, 1));
    let refused = fs::read_to_string(out.join("refused.csv")).expect("read");
    let expected = "image,code,text\nbad.png,decode-not-an-image,\"expected a DICOM, PNG or JPEG \
        file, found another kind of content\"\n";
    assert_eq!(refused, expected);
    let rows = table::read(&out.join("rows.parquet")).expect("read");
    assert_eq!(rows.count(), PICTURES * VIEWS);
    let last = rows.count() - 1;
    assert_eq!((rows.image.get(last), rows.patient.get(last)), (Some("5.dcm"), Some("p2")));
    assert_eq!((rows.shard[last], rows.row[last], rows.view[last]), (1, 95, 31));
    assert_eq!(rows.label("Edema").and_then(|marks| marks[last]), Some(Mark::Present));
    assert_eq!((rows.split.get(0), rows.age[0]), (Some("train"), Some(40)));
    let [mean, sd, _, _, median, ..] = rows.intensity[0].0;
    assert!((20.0..235.0).contains(&mean) && sd > 5.0 && median > 0.0, "{:?}", rows.intensity[0]);
}

#[test]
fn samples_are_taken_by_split_and_by_view() {
    let place = Place::new();
    place.run("out", 2);
    let out = place.out("out");
    let read = |part: Part| Samples::read_folder(&out, "embedding", &part);
    let train = read(part(Some("train"), Some(1))).expect("read");
    let dev = read(part(Some("dev"), None)).expect("read");
    let all = read(Part::default()).expect("read");
    assert_eq!([train.count(), dev.count(), all.count()], [4, 2 * VIEWS, PICTURES * VIEWS]);
    assert_eq!(train.values[train.d..][..train.d], all.values[VIEWS * all.d..][..all.d]);
    assert_ne!(train.digest, all.digest);
    let none = read(part(Some("test"), None)).expect_err("none").to_string();
    assert!(none.contains(r#"found splits ["train", "dev"]"#), "{none}");
    let shard = out.join("shards/000000.safetensors");
    let mut bytes = fs::read(&shard).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).expect("written");
    let damaged = read(Part::default()).expect_err("damaged").to_string();
    assert!(damaged.contains("000000.safetensors") && damaged.contains("as its manifest says"));
}

#[test]
fn tokens_are_rows_of_their_own() {
    let place = Place::new();
    let out = place.out("tokens");
    let mut run = place.embed("run", &out);
    let what = ["--layout", "files", "--engine", "tract", "--level", "tokens", "--dtype", "f16"];
    succeeds(run.args(what));
    let (manifest, _) = Manifest::read(&Folder::at(&out)).expect("finished");
    let samples = Samples::read_folder(&out, "tokens", &Part::default()).expect("read");
    let [tokens, d] = manifest.plan.shape[..] else { unreachable!("two axes") };
    assert_eq!((samples.count(), samples.d), (PICTURES * tokens, d));
}

#[test]
fn a_dictionary_is_trained_from_a_folder_by_split() {
    let place = Place::new();
    place.run("out", 2);
    let recipe = place.out("recipe.toml");
    let text = "latents = 16\nbatch = 64\nepochs = 2\n[select]\nkind = \"top-k\"\nk = 4\n";
    fs::write(&recipe, text).expect("written");
    let (out, run) = (place.out("out"), place.out("run"));
    let mut train = Command::new(env!("CARGO_BIN_EXE_clearfilm-models"));
    train.arg("train").arg("--recipe").arg(&recipe).arg("--out").arg(&run);
    train.arg("--samples").arg(&out).args(["--split", "train"]);
    succeeds(train.arg("--held-out").arg(&out).args(["--held-out-split", "dev"]));
    assert!(run.join("sae.safetensors").is_file());
    // A file has no table that would say which rows are views.
    let mut file = Command::new(env!("CARGO_BIN_EXE_clearfilm-models"));
    file.arg("train").arg("--recipe").arg(&recipe).arg("--out").arg(place.out("other"));
    file.arg("--samples").arg(out.join("shards/000000.safetensors")).args(["--views", "1"]);
    let refused = file.arg("--held-out").arg(&out).output().expect("the command runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("to take views of, found a file"), "{said}");
}
