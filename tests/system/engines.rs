//! Findings come from features, features from pixels, and both engines say the same.

use std::path::PathBuf;

use clearfilm::bundle::{Bundle, Files, GOLDEN, Level, MANIFEST, Sae, dot, embedded_demo};
use clearfilm::config::{self, BundleChoice, Config, EngineChoice};
use clearfilm::decode::{Frame, Program, decode, decode_file};
use clearfilm::encode::{self, Encoder, embed};
use clearfilm::evidence::{self, Encoded};
use clearfilm::findings::score;
use clearfilm::id::Digest;
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};
use clearfilm::preprocess;
use clearfilm::reading::read;
use clearfilm::selftest::{self, probe::Prober};
use clearfilm::sparse;

use crate::peers::{binary, files_in, radiographs, temporary};

/// A probability that moves by more than this follows from what was changed.
const MOVED: f64 = 0.02;

/// Sum of shares against a value, relative.
const SHARES: f32 = 1e-4;

/// Least cosine of two engines' embeddings of one image.
const COSINE: f32 = 0.995;

/// The same after subtracting the mean embedding of all images, which they have in common.
const CENTRED_COSINE: f32 = 0.95;

/// Decisions of two engines are the same wherever both probabilities are at least this far from
/// the threshold.
pub(crate) const MARGIN: f64 = 0.02;

fn bundle() -> Bundle {
    Bundle::from_files(embedded_demo()).expect("the demo bundle is whole")
}

/// The configuration of an engine; the library is the one that the test script installed.
fn engine_config() -> config::Engine {
    let library = std::env::var_os("CLEARFILM_TEST_ORT").map(PathBuf::from).unwrap_or_default();
    config::Engine { library, ..config::Engine::default() }
}

/// Every engine that can run here, by name; says loudly where ONNX Runtime cannot.
fn engines(bundle: &Bundle) -> Vec<(&'static str, Box<dyn Encoder>)> {
    let mut engines = vec![(
        "tract",
        encode::start(EngineChoice::Tract, bundle, &engine_config()).expect("tract is compiled in"),
    )];
    if std::env::var_os("CLEARFILM_TEST_ORT").is_some() {
        engines.push((
            "cpu",
            encode::start(EngineChoice::Cpu, bundle, &engine_config()).expect("ONNX Runtime loads"),
        ));
    } else {
        eprintln!("!! SKIPPED: ONNX Runtime: CLEARFILM_TEST_ORT does not name its library");
    }
    engines
}

fn phantoms(count: u64) -> Vec<Frame> {
    let config = Config::default();
    let encoding = Encoding {
        rows: 640,
        columns: 512,
        bits_stored: 12,
        photometric: Photometric::Monochrome2,
    };
    let frame = |seed: u64| {
        let variant = Variant::ALL[usize::try_from(seed).expect("small") % Variant::ALL.len()];
        let file = Phantom { seed: 70_000 + seed, projection: Projection::Pa, variant }
            .to_dicom(&encoding)
            .expect("drawn");
        decode(&file, &config.decode, &config.dicom.limits).expect("decoded")
    };
    (0..count).map(frame).collect()
}

/// Some real frontal radiographs of patients that no part of the bundle was made from.
fn real(count: usize) -> Vec<Frame> {
    let Some(data) = radiographs("findings on real radiographs") else { return Vec::new() };
    let config = Config::default();
    let table = std::fs::read_to_string(data.join("nih-cxr14/labels.csv")).expect("the table");
    let column =
        |name: &str| table.lines().next().and_then(|head| head.split(',').position(|c| c == name));
    let (image, split) = (column("image").expect("a column"), column("split").expect("a column"));
    let images = data.join("nih-cxr14/images");
    let dev = |file: &PathBuf| {
        let file = file.file_name().and_then(|n| n.to_str());
        let cells = |row: &str, at: usize| row.split(',').nth(at).map(str::to_owned);
        table.lines().any(|row| {
            cells(row, split).as_deref() == Some("dev") && cells(row, image).as_deref() == file
        })
    };
    let files = files_in(&images, "png").into_iter().filter(dev).take(count);
    files
        .map(|file| decode_file(&file, &config.decode, &config.dicom.limits).expect("decoded"))
        .collect()
}

fn policy() -> config::Policy {
    let bundle = BundleChoice { unvalidated: true, ..BundleChoice::default() };
    Config { bundle, ..Config::default() }.policy()
}

#[test]
fn every_engine_passes_the_golden_set_and_the_same_image_gives_the_same_bytes() {
    let bundle = bundle();
    let frames = phantoms(3);
    for (name, mut encoder) in engines(&bundle) {
        let near =
            selftest::check(&bundle, encoder.as_mut()).unwrap_or_else(|e| panic!("{name}: {e}"));
        eprintln!("{name}: {near:?}");
        for frame in &frames {
            let mut bytes = || {
                serde_json::to_vec(
                    &read(frame, &bundle, &policy(), encoder.as_mut()).expect("read"),
                )
                .expect("written")
            };
            assert_eq!(bytes(), bytes(), "{name}");
        }
    }
}

#[test]
fn how_many_threads_compute_an_image_changes_no_byte_of_it() {
    let bundle = bundle();
    let frames = phantoms(3);
    let bytes = |threads: usize| -> Vec<Vec<u8>> {
        let config = config::Engine { threads, ..engine_config() };
        let mut encoder =
            encode::start(EngineChoice::Tract, &bundle, &config).expect("tract is compiled in");
        let mut reading = |frame| read(frame, &bundle, &policy(), encoder.as_mut()).expect("read");
        frames.iter().map(|f| serde_json::to_vec(&reading(f)).expect("written")).collect()
    };
    let one = bytes(1);
    assert_eq!(one, bytes(2), "two threads");
    assert_eq!(one, bytes(3), "three threads");
}

/// The demo bundle with its first two golden inputs changed for each other and every hash made to
/// fit again.
fn with_swapped_golden_inputs() -> Files {
    let mut files = embedded_demo();
    let mut golden = files[GOLDEN].to_vec();
    let header = usize::try_from(u64::from_le_bytes(golden[..8].try_into().expect("8 bytes")))
        .expect("small");
    let text: serde_json::Value = serde_json::from_slice(&golden[8..8 + header]).expect("a header");
    let begin = text["inputs"]["data_offsets"][0].as_u64().expect("an offset");
    let begin = 8 + header + usize::try_from(begin).expect("small");
    let size = text["inputs"]["shape"][1].as_u64().expect("rows")
        * text["inputs"]["shape"][2].as_u64().expect("columns");
    let size = usize::try_from(size).expect("small");
    let (first, second) = golden[begin..begin + 2 * size].split_at_mut(size);
    first.swap_with_slice(second);
    let manifest = String::from_utf8(files[MANIFEST].to_vec()).expect("text");
    let (old, new) = (Digest::of(&files[GOLDEN]).to_string(), Digest::of(&golden).to_string());
    assert!(manifest.contains(&old), "the golden file is listed");
    files.insert(MANIFEST.into(), manifest.replace(&old, &new).into_bytes().into());
    files.insert(GOLDEN.into(), golden.into());
    files
}

#[test]
fn a_golden_mismatch_behind_right_hashes_is_refused_by_name() {
    let files = with_swapped_golden_inputs();
    let folder = temporary();
    for (name, bytes) in &files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, bytes).expect("written");
    }
    let bundle = Bundle::from_files(files).expect("every hash fits");
    for (name, mut encoder) in engines(&bundle) {
        let error = selftest::check(&bundle, encoder.as_mut()).expect_err(name).to_string();
        assert!(
            error.contains("golden/golden.safetensors") && error.contains("input 0"),
            "{error}"
        );
    }
    let order = vec![EngineChoice::Cpu, EngineChoice::Tract];
    let config = Config {
        bundle: BundleChoice { path: folder.path().into(), ..BundleChoice::default() },
        engine: config::Engine { order, ..engine_config() },
        ..Config::default()
    };
    let program = Program { path: binary().into(), arguments: vec!["probe-child".into()] };
    let prober = Prober { program, bundle: &bundle, config: &config };
    let error = prober.choose().err().expect("no engine passes").to_string();
    for name in ["cpu: ", "tract: "] {
        let reason = error.split("; ").find(|part| part.contains(name)).expect(name);
        let tried = name == "tract: " || config.engine.library.is_file();
        assert!(!tried || reason.contains("golden/golden.safetensors"), "{error}");
    }
}

/// Embedding and probabilities of every frame, by one engine.
type Outputs = Vec<(Vec<f32>, Vec<f64>)>;

/// What tract and ONNX Runtime say of phantoms and radiographs; none where only one can run.
fn of_both_engines(bundle: &Bundle, count: usize) -> Option<[Outputs; 2]> {
    let mut engines = engines(bundle);
    if engines.len() < 2 {
        return None;
    }
    let mut frames = phantoms(u64::try_from(count).expect("few"));
    frames.extend(real(count));
    let mut by = |engine: usize| {
        let encoder = engines[engine].1.as_mut();
        frames.iter().map(|frame| outputs(bundle, frame, encoder)).collect()
    };
    Some([by(0), by(1)])
}

/// The worst cosine of two engines' embeddings, plain and less the mean.
fn worst_cosines([a, b]: &[Outputs; 2]) -> (f32, f32) {
    let count: f32 = a.iter().map(|_| 1.0_f32).sum();
    let mean: Vec<f32> =
        (0..a[0].0.len()).map(|at| a.iter().map(|(e, _)| e[at]).sum::<f32>() / count).collect();
    let centred = |e: &[f32]| -> Vec<f32> { e.iter().zip(&mean).map(|(e, m)| e - m).collect() };
    let (mut plain, mut less_mean) = (1.0_f32, 1.0_f32);
    for ((e, _), (f, _)) in a.iter().zip(b) {
        plain = plain.min(cosine(e, f));
        less_mean = less_mean.min(cosine(&centred(e), &centred(f)));
    }
    (plain, less_mean)
}

#[test]
fn tract_and_onnx_runtime_agree_within_the_named_tolerances() {
    let bundle = bundle();
    let Some(both) = of_both_engines(&bundle, 40) else { return };
    let (plain, centred) = worst_cosines(&both);
    let [tract, ort] = &both;
    let (mut difference, mut decisions, mut differ) = (0.0_f64, 0, 0);
    for ((_, p), (_, q)) in tract.iter().zip(ort) {
        for ((p, q), rule) in p.iter().zip(q).zip(&bundle.rules.findings) {
            difference = difference.max((p - q).abs());
            for cut in [rule.threshold, rule.uncertain_from] {
                decisions += 1;
                let far = [p, q].iter().all(|x| (*x - cut).abs() >= MARGIN);
                differ += usize::from(far && (*p >= cut) != (*q >= cut));
            }
        }
    }
    eprintln!(
        "{} images, worst: cosine {plain:.6}, centred {centred:.6}, probability {difference:.1e}; {differ} of {decisions} decisions differ",
        tract.len()
    );
    assert!(plain >= COSINE && centred >= CENTRED_COSINE);
    assert_eq!(differ, 0, "of {decisions} decisions");
}

/// A bundle may quantise activations too; the demo bundle does not, so a tiny encoder with random
/// weights stands for those that do. Its findings mean nothing, only its tokens are looked at.
#[test]
fn an_encoder_with_quantised_activations_is_read_alike_by_both_engines() {
    let file = clearfilm_tests::root().join("tests/golden/encoder/qdq.onnx");
    let encoder = std::fs::read(file).expect("the tiny encoder").into();
    let bundle = Bundle { encoder, ..bundle() };
    let Some(both) = of_both_engines(&bundle, 12) else { return };
    let (plain, centred) = worst_cosines(&both);
    eprintln!("{} images, worst: cosine {plain:.5}, centred {centred:.4}", both[0].len());
    assert!(plain >= COSINE && centred >= CENTRED_COSINE);
    // The pairs do something: an engine that left them out would agree to the last digits.
    assert!(centred < 0.999_9, "expected rounding to show, found none");
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The SAE with its rows in another order: every latent answers to another's name.
fn shuffled(sae: &Sae) -> Sae {
    let n = sae.b_enc.len();
    // A fixed permutation without a fixed point: 101 has no factor in common with any power of two.
    let order: Vec<usize> = (0..n).map(|i| (i * 101 + 17) % n).collect();
    let pick = |values: &[f32]| order.iter().map(|&i| values[i]).collect();
    Sae {
        level: sae.level,
        w_enc: sae.w_enc.permuted(&order),
        b_enc: pick(&sae.b_enc),
        w_dec: sae.w_dec.permuted(&order),
        b_dec: sae.b_dec.clone(),
        threshold: pick(&sae.threshold),
    }
}

#[test]
fn shuffling_the_features_moves_the_findings() {
    let bundle = bundle();
    let other = Bundle { sae: shuffled(&bundle.sae), ..bundle.clone() };
    for (name, mut encoder) in engines(&bundle) {
        for (what, frames) in [("phantoms", phantoms(40)), ("real radiographs", real(40))] {
            let moved = frames.iter().filter(|frame| {
                let [before, after] =
                    [&bundle, &other].map(|b| probabilities(b, frame, encoder.as_mut()));
                before.iter().zip(&after).any(|(a, b)| (a - b).abs() > MOVED)
            });
            let (moved, all) = (moved.count(), frames.len());
            eprintln!("{name}: {moved} of {all} {what} moved");
            assert!(
                moved * 100 >= all * 95,
                "{name}: expected at least 95 % of {all} {what} to move, found {moved}"
            );
        }
    }
}

fn probabilities(bundle: &Bundle, frame: &Frame, encoder: &mut dyn Encoder) -> Vec<f64> {
    outputs(bundle, frame, encoder).1
}

/// The embedding, and the probability of every finding, shown or not.
fn outputs(bundle: &Bundle, frame: &Frame, encoder: &mut dyn Encoder) -> (Vec<f32>, Vec<f64>) {
    let input = preprocess::input_of(&preprocess::render(frame), &bundle.manifest.input);
    let tokens = encoder.encode(&input).expect("encoded");
    let embedding = embed(&tokens, &bundle.head);
    let code = sparse::encode(&bundle.sae, &tokens, &embedding);
    let rules = bundle.rules.findings.iter();
    let probabilities =
        rules.map(|rule| rule.calibration.probability(score(rule, &code.image))).collect();
    (embedding.values, probabilities)
}

#[test]
fn the_shares_of_the_tokens_sum_to_what_the_latent_says() {
    let bundle = bundle();
    for (name, mut encoder) in engines(&bundle) {
        for frame in phantoms(6) {
            let input = preprocess::input_of(&preprocess::render(&frame), &bundle.manifest.input);
            let tokens = encoder.encode(&input).expect("encoded");
            let embedding = embed(&tokens, &bundle.head);
            // At the bundle's own level.
            check_shares(name, &bundle, &tokens, &embedding);
            // At the embedding's level, by an SAE whose rows are directions of the head.
            check_shares(name, &at_embedding_level(&bundle), &tokens, &embedding);
        }
    }
}

/// The bundle with an SAE that reads the embedding: latent `i` is row `i` of a slice of the head.
fn at_embedding_level(bundle: &Bundle) -> Bundle {
    let d_model = bundle.manifest.head.d_model;
    let latents = 16;
    let value = |at: usize| f32::from(u16::try_from(at * 7919 % 251).expect("small")) / 125.0 - 1.0;
    let rows = clearfilm::bundle::Matrix {
        rows: latents,
        columns: d_model,
        values: (0..latents * d_model).map(value).collect(),
    };
    let weights = clearfilm::bundle::Weights::F32(rows);
    let sae = Sae {
        level: Level::Embedding,
        w_enc: weights.clone(),
        b_enc: vec![0.01; latents],
        w_dec: weights,
        b_dec: vec![0.0; d_model],
        threshold: vec![0.0; latents],
    };
    Bundle { sae, ..bundle.clone() }
}

#[track_caller]
fn check_shares(
    name: &str,
    bundle: &Bundle,
    tokens: &encode::Tokens,
    embedding: &encode::Embedding,
) {
    let code = sparse::encode(&bundle.sae, tokens, embedding);
    assert!(!code.image.entries().is_empty(), "{name}: some latent is active");
    for active in code.image.entries() {
        let map = evidence::map(bundle, Encoded { tokens, embedding, code: &code }, active.latent);
        let sum = map.shares.iter().sum::<f32>() + map.constant;
        let value = match bundle.sae.level {
            Level::Tokens => active.activation,
            Level::Embedding => {
                dot(&bundle.sae.w_enc.row(active.latent.position()), &embedding.values)
                    + bundle.sae.b_enc[active.latent.position()]
            }
        };
        let size: f32 = map.shares.iter().map(|s| s.abs()).sum::<f32>().max(value.abs());
        assert!(
            (sum - value).abs() <= SHARES * size,
            "{name} {}: shares sum to {sum}, the latent says {value}",
            active.latent
        );
    }
}
