//! `pack` and `verify` as they are used: drawn phantoms through the demo's encoder and dictionary,
//! a bundle made of what was measured, and whatever is altered in it afterwards named.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clearfilm::bundle::{Bundle, FINDINGS, FindingRules, MANIFEST, Validation, files_in};
use clearfilm::id::Digest;
use clearfilm::phantom::{Phantom, Projection, Variant};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bundles/demo");

/// Seeds of each part, each a patient with one picture.
const PARTS: [(&str, std::ops::Range<u64>); 3] =
    [("train", 0..80), ("calibration", 100..180), ("test", 200..280)];

/// What a seed shows, and what its picture is called.
fn drawn(seed: u64) -> (Variant, &'static str, String) {
    let (variant, word) =
        [(Variant::Normal, "normal"), (Variant::Effusion, "effusion")][usize::from(seed % 2 == 1)];
    (variant, word, format!("{seed}-{word}.png"))
}

/// Pictures, vectors, an encoder, a dictionary and a plan.
struct Workshop {
    folder: tempfile::TempDir,
    /// ONNX Runtime's library.
    library: PathBuf,
}

impl Workshop {
    /// None, loudly, where there is no ONNX Runtime.
    fn new() -> Option<Self> {
        let Some(library) = std::env::var_os("CLEARFILM_TEST_ORT") else {
            eprintln!("!! SKIPPED: ONNX Runtime: CLEARFILM_TEST_ORT does not name its library");
            return None;
        };
        let shop = Self { folder: tempfile::tempdir().expect("a folder"), library: library.into() };
        shop.encoder();
        shop.dictionary();
        shop.pictures("phantoms", |seed, variant| Phantom {
            seed,
            projection: Projection::Pa,
            variant,
        });
        shop.pictures("others", |seed, variant| Phantom {
            seed: seed + 1000,
            projection: Projection::Ap,
            variant,
        });
        shop.teachers();
        fs::write(shop.at("plan.toml"), PLAN).expect("written");
        let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/train/templates.json");
        fs::copy(templates, shop.at("templates.json")).expect("copied");
        Some(shop)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The demo bundle's, with what its manifest says of it.
    fn encoder(&self) {
        let to = self.at("encoder");
        fs::create_dir(&to).expect("made");
        for name in ["encoder.onnx", "head.safetensors"] {
            fs::copy(Path::new(DEMO).join(name), to.join(name)).expect("copied");
        }
        let manifest = fs::read_to_string(Path::new(DEMO).join(MANIFEST)).expect("a manifest");
        let mut all: toml::Table = toml::from_str(&manifest).expect("a manifest");
        all.retain(|key, _| ["input", "encoder", "head"].contains(&key));
        fs::write(to.join("encoder.toml"), all.to_string()).expect("written");
        let record = r#"{"parameters": 1, "candidates": [], "chosen": "the demo's"}"#;
        fs::write(to.join("encoder.json"), record).expect("written");
    }

    fn dictionary(&self) {
        let to = self.at("dictionary");
        fs::create_dir(&to).expect("made");
        fs::copy(Path::new(DEMO).join("sae.safetensors"), to.join("sae.safetensors"))
            .expect("copied");
        fs::write(to.join("run.json"), "{}").expect("written");
    }

    /// Draws a collection and embeds it.
    fn pictures(&self, name: &str, phantom: impl Fn(u64, Variant) -> Phantom) {
        let root = self.at(&format!("{name}-pictures"));
        fs::create_dir(&root).expect("made");
        let mut table = String::from("image,patient,split,position,variant\n");
        for (part, seeds) in PARTS {
            for seed in seeds {
                let (variant, word, file) = drawn(seed);
                let drawing = phantom(seed, variant).draw(250, 200).to_png().expect("drawn");
                fs::write(root.join(&file), drawing).expect("written");
                let position = if seed / 2 % 2 == 0 { "PA" } else { "AP" };
                writeln!(table, "{file},p{seed},{part},{position},{word}").expect("text");
            }
        }
        fs::write(root.join("table.csv"), table).expect("written");
        let mut embed = self.command(&["embed", "run", "--layout", "csv", "--table", "table.csv"]);
        embed.args(["--class", "variant", "--level", "tokens", "--engine", "tract"]);
        embed.arg("--root").arg(&root).arg("--out").arg(self.at(name));
        succeeds(embed.arg("--encoder").arg(self.at("encoder")));
    }

    /// Features that say nothing, for all pictures.
    fn teachers(&self) {
        let seeds = PARTS.into_iter().flat_map(|(_, seeds)| seeds);
        let names: Vec<String> = seeds.map(|seed| drawn(seed).2).collect();
        let n = u16::try_from(names.len()).expect("few");
        let values: Vec<u8> =
            (0..n * 3).flat_map(|i| f32::from(i * 31 % 101).to_le_bytes()).collect();
        let shape = vec![usize::from(n), 3];
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &values)
            .expect("a tensor");
        let words =
            Some(std::collections::HashMap::from([("images".to_owned(), names.join("\n"))]));
        let bytes = safetensors::serialize([("t", view)], words).expect("a file");
        fs::write(self.at("teachers.safetensors"), bytes).expect("written");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clearfilm-models"));
        command.args(words).env("CLEARFILM__ENGINE__LIBRARY", &self.library);
        command
    }

    fn pack(&self, plan: &str, out: &str) {
        let mut pack = self.command(&["pack"]);
        pack.arg("--plan").arg(self.at(plan)).arg("--measurements").arg(self.at("measured.json"));
        succeeds(pack.arg("--out").arg(self.at(out)));
    }

    /// What was measured of the finding.
    fn finding(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.at("measured.json")).expect("measurements");
        let all: serde_json::Value = serde_json::from_str(&text).expect("measurements");
        all["calibration"]["collections"][0]["findings"][0].clone()
    }

    /// What `verify` says of a bundle against the plan.
    fn verify(&self, bundle: &str) -> Output {
        let mut verify = self.command(&["verify"]);
        verify.arg(self.at(bundle)).arg("--plan").arg(self.at("plan.toml"));
        verify.output().expect("ran")
    }
}

/// Everything at its smallest; what the demo's plan says of radiographs is said of drawings.
const PLAN: &str = r#"
encoder = "encoder"
reference = "encoder"
templates = "templates.json"
dictionary = "dictionary"

[about]
name = "drawn"
version = "1"
licence = "Apache-2.0"
intended_use = "a test"
clinical = false
created = "2026-01-01"
summary = ["Drawings."]
not_measured = ["Everything else."]
sources = [{ what = "phantoms", vectors = "phantoms", used_for = "all", licence = "drawn here" }]

[calibrate]
sae = "dictionary/sae.safetensors"
level = "tokens"
permutations = 19
not_assessed = ["the rest"]
bootstrap = { count = 50 }

[[calibrate.images]]
name = "phantoms"
what = "drawn phantoms"
validation = "phantoms"
vectors = "phantoms"
data = { train = ["calibration"], find = ["calibration"], test = ["test"], strata = ["position"], metadata = ["position"] }

[[calibrate.images.finding]]
id = "pleural_effusion"
code = { system = "SCT", code = "60046008", display = "Pleural effusion" }
label = "effusion"

[[naming]]
name = "phantoms"
vectors = "phantoms"
phrases = { effusion = "fluid as drawn" }
data = { train = ["calibration"], find = ["calibration"], test = ["test"], strata = ["position"], metadata = ["position"] }
how = { permutations = { count = 99 } }

[ood]
components = 4
false_alarms = [0.05, 0.1]
strange = "others"

[[ood.usual]]
name = "phantoms"
vectors = "phantoms"
fit = ["train"]
hold = ["calibration"]

[readouts]
collection = "phantoms"
teachers = "teachers.safetensors"
labels = ["effusion"]
mean_of = ["effusion"]

[[engines]]
name = "the same again"
vectors = "phantoms"
other = "phantoms"
splits = ["test"]

[golden]
pictures = "phantoms-pictures"
names = [
    "0-normal.png", "1-effusion.png", "2-normal.png", "3-effusion.png", "4-normal.png", "5-effusion.png",
    "6-normal.png", "7-effusion.png", "8-normal.png", "9-effusion.png", "10-normal.png", "11-effusion.png",
    "12-normal.png", "13-effusion.png", "14-normal.png", "15-effusion.png",
]
"#;

fn succeeds(command: &mut Command) {
    let output = command.output().expect("ran");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A bundle's files, changed, and hashed again, as somebody who wants to deceive would.
fn altered(from: &Path, to: &Path, change: impl Fn(&mut BTreeMap<String, Vec<u8>>)) {
    let read = files_in(from, u64::MAX).expect("files");
    let mut files: BTreeMap<String, Vec<u8>> =
        read.into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect();
    change(&mut files);
    let text = String::from_utf8(files[MANIFEST].clone()).expect("text");
    let mut manifest: toml::Table = toml::from_str(&text).expect("a manifest");
    let hashes = manifest["files"].as_table_mut().expect("hashes");
    for (name, hash) in hashes.iter_mut() {
        *hash = toml::Value::try_from(Digest::of(&files[name])).expect("a hash");
    }
    files.insert(MANIFEST.to_owned(), manifest.to_string().into_bytes());
    for (name, bytes) in files {
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

/// Puts another text in the place of the first that stands there.
fn replace(files: &mut BTreeMap<String, Vec<u8>>, name: &str, from: &str, to: &str) {
    let text = String::from_utf8(files[name].clone()).expect("text");
    assert!(text.contains(from), "{name} holds no {from:?}");
    files.insert(name.to_owned(), text.replacen(from, to, 1).into_bytes());
}

/// Moves the first number of a tensor by one in a hundred.
fn nudge(files: &mut BTreeMap<String, Vec<u8>>, name: &str, tensor: &str) {
    let bytes = files.get_mut(name).expect("a file");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let body = 8 + usize::try_from(length).expect("small");
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..body]).expect("a header");
    let offset = header[tensor]["data_offsets"][0].as_u64().expect("an offset");
    let at = body + usize::try_from(offset).expect("small");
    let number = f32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    bytes[at..at + 4].copy_from_slice(&(number * 1.01).to_le_bytes());
}

#[test]
fn what_is_altered_in_a_bundle_is_named_whatever_hashes_it_has() {
    let Some(shop) = Workshop::new() else { return };
    shop.pack("plan.toml", "bundle");
    let bundle = Bundle::from_folder(&shop.at("bundle"), u64::MAX).expect("a bundle");
    let rule = bundle.rules.findings.first();
    let rule = rule.unwrap_or_else(|| panic!("a finding that ships: {}", shop.finding()));
    assert_eq!((rule.id.as_str(), rule.validation), ("pleural_effusion", Validation::Phantoms));
    assert!(bundle.features.features.iter().any(|f| f.name.contains("fluid as drawn")));

    let verified = shop.verify("bundle");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && said.contains("follows from"), "{said}");

    let weight = format!("{}", rule.weights[0].weight);
    altered(&shop.at("bundle"), &shop.at("altered"), |files| {
        replace(files, FINDINGS, &weight, "0.125");
        replace(files, "features.json", "fluid as drawn", "air as drawn");
        replace(files, "card.md", "Pleural effusion | ", "Pleural effusion | 1");
        nudge(files, "ood.safetensors", "centre");
        let threshold = format!("threshold = {:?}", bundle.manifest.ood.threshold);
        let text = String::from_utf8(files[MANIFEST].clone()).expect("text");
        assert!(text.contains("threshold = "), "{threshold}: {text}");
        replace(files, MANIFEST, "\nthreshold = ", "\nthreshold = 9");
    });
    let changed = FindingRules::clone(
        &Bundle::from_folder(&shop.at("altered"), u64::MAX).expect("loads").rules,
    );
    assert_ne!(changed, bundle.rules);
    let verified = shop.verify("altered");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(!verified.status.success(), "{said}");
    let first = format!(
        "findings.json: findings[pleural_effusion].weights[latent {}].weight",
        rule.weights[0].latent.position()
    );
    for expected in [
        first.as_str(),
        "features.json: features[latent",
        "card.md: line",
        "ood.safetensors: centre[0]",
        "manifest.toml: ood.threshold",
    ] {
        assert!(said.contains(&format!("does not follow: {expected}")), "{expected} in {said}");
    }
    assert!(said.contains("5 things do not follow"), "{said}");
}

#[test]
fn labels_of_others_name_nothing_and_ship_nothing() {
    let Some(shop) = Workshop::new() else { return };
    let shuffled =
        PLAN.replace("metadata = [\"position\"] }", "metadata = [\"position\"], shuffle = 1 }");
    assert_ne!(shuffled, PLAN);
    fs::write(shop.at("shuffled.toml"), shuffled).expect("written");
    shop.pack("shuffled.toml", "bundle");
    let bundle = Bundle::from_folder(&shop.at("bundle"), u64::MAX).expect("a bundle");
    assert!(bundle.rules.findings.is_empty(), "{:?}", bundle.rules.findings);
    assert!(bundle.features.features.is_empty(), "{:?}", bundle.features.features);
}
