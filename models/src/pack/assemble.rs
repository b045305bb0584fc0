//! From a plan to a bundle and its measurements.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clearfilm::bundle::{
    Activation, Bundle, GoldenSpec, Level, NormaliserSpec, OodSpec, SaeSpec, Templates, WeightForm,
};
use clearfilm::config::Config;
use serde::Serialize;
use serde_json::Value;

use super::apart::Apart;
use super::beside::{Instead, engines, readouts};
use super::golden::{self, GoldenError};
use super::named::{Found, features, firing};
use super::plan::{About, Plan};
use super::readings::{self, Table};
use super::sources::Counted;
use super::strange::{self, Parts, Strange};
use super::through::{Folders, Passed, through};
use crate::associate::{Associations, associate};
use crate::calibrate::calibration::{Calibration, calibrate};
use crate::dictionary::{self, DictionaryError};
use crate::encoder::{Encoder, EncoderError};
use crate::evaluate::evaluation::Loaded;
use crate::evaluate::images::Images;
use crate::evaluate::pca::Pca;
use crate::evaluate::reconstruct;

/// Whatever went wrong with vectors.
pub type Fault = Box<dyn Error + Send + Sync>;

/// A bundle that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Vectors, images or labels are not what the plan expects.
    #[error(transparent)]
    Source(Fault),
    /// A file cannot be read, or is not what it should be.
    #[error("reading {}: {text}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        text: String,
    },
    /// The encoder cannot be used.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A dictionary cannot be read.
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
    /// Golden outputs cannot be made.
    #[error(transparent)]
    Golden(#[from] GoldenError),
    /// The plan asks for what is not there.
    #[error("{what}: expected {expected}, found {found}")]
    Unfit {
        /// Which part.
        what: String,
        /// What is needed.
        expected: String,
        /// What there is.
        found: String,
    },
}

/// A dictionary on images that took no part in training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// Share of variance that it leaves, taken from the mean of usual training images.
    pub fvu: f64,
    /// The same of as many principal components as latents fire.
    pub fvu_pca: f64,
    /// Latents that fire on one vector, in the mean.
    pub l0: f64,
    /// Latents that never fire on these images.
    pub silent: usize,
    /// All latents.
    pub latents: usize,
    /// Images.
    pub images: usize,
}

/// Everything that was measured; the card says nothing else.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// What it says of itself.
    pub about: About,
    /// Where images come from.
    pub sources: Vec<Counted>,
    /// What training the encoder left, as it wrote it.
    pub encoder: Value,
    /// Bytes of the encoder's file.
    pub encoder_bytes: usize,
    /// What training the dictionary left, as it wrote it.
    pub dictionary: Value,
    /// The dictionary on held-out usual images.
    pub explained: Explained,
    /// Dictionaries that do not ship: their training, and their labels.
    pub instead: Vec<Instead>,
    /// Findings.
    pub calibration: Calibration,
    /// Labels read for comparison.
    pub readouts: Vec<Table>,
    /// Names, by collection.
    pub names: Vec<(String, Associations)>,
    /// Out of distribution.
    pub ood: Strange,
    /// The same images through other files and engines.
    pub engines: Vec<Apart>,
    /// Worst cosines of golden outputs over all engines: embedding, centred, code.
    pub golden: [f32; 3],
}

/// A bundle in memory, and what was measured of it.
#[derive(Debug)]
pub struct Assembled {
    /// Complete but for the card.
    pub bundle: Bundle,
    /// What the card says.
    pub measured: Measured,
    /// Files that are taken over byte for byte.
    pub taken: [(&'static str, Vec<u8>); 2],
}

/// Reads vectors of a folder at a level.
pub type Load<'a> = dyn Fn(&Path, Level) -> Result<Loaded, Fault> + 'a;

/// An error that only says what it wraps: a boxed error is none itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrapped(Fault);

/// Makes a bundle; `tell` hears what is being done.
///
/// # Errors
/// A source is missing or not what the plan expects.
pub fn assemble(
    plan: &Plan,
    config: &Config,
    load: &Load<'_>,
    tell: &dyn Fn(&str),
) -> Result<Assembled, PackError> {
    let encoder = Encoder::read(&plan.encoder)?;
    let mut bundle = begun(plan, &encoder)?;
    let mut folders = Folders::new(load);
    tell("findings");
    let wrapped = |path: &Path, level: Level| load(path, level).map_err(Wrapped);
    let calibration = calibrate(&plan.calibrate, wrapped, tell)
        .map_err(|error| PackError::Source(error.to_string().into()))?;
    bundle.rules = calibration.rules();
    bundle.templates = templates(plan, &bundle)?;
    tell("names");
    let names = names(plan, &mut bundle, &mut folders)?;
    tell("out of distribution");
    let (ood, explained) = likeness(plan, &mut bundle, &mut folders)?;
    tell("readouts");
    let (readouts, instead) = readouts(plan, &bundle, &encoder, &mut folders)?;
    tell("engines");
    let engines = engines(plan, &bundle, &mut folders)?;
    tell("golden images");
    let golden = golden_of(plan, &mut bundle, config)?;
    let measured = Measured {
        about: plan.about.clone(),
        sources: sources(plan, &mut folders)?,
        encoder: json(&plan.encoder.join("encoder.json"))?,
        encoder_bytes: encoder.onnx.len(),
        dictionary: json(&plan.dictionary.join("run.json"))?,
        explained,
        instead,
        calibration,
        readouts,
        names,
        ood,
        engines,
        golden,
    };
    let taken = [
        (clearfilm::bundle::ENCODER, encoder.onnx.clone()),
        (crate::encoder::HEAD, encoder.head_file.clone()),
    ];
    Ok(Assembled { bundle, measured, taken })
}

/// Encoder and dictionary; nothing is stated yet.
fn begun(plan: &Plan, encoder: &Encoder) -> Result<Bundle, PackError> {
    let mut bundle = encoder.alone();
    let level = plan.calibrate.level;
    let sae = dictionary::read(&plan.calibrate.sae)?;
    let int8 = matches!(sae.w_enc, clearfilm::bundle::Weights::Int8 { .. });
    bundle.sae = clearfilm::bundle::Sae { level, ..sae };
    let manifest = &mut bundle.manifest;
    manifest.name.clone_from(&plan.about.name);
    manifest.version.clone_from(&plan.about.version);
    manifest.licence.clone_from(&plan.about.licence);
    manifest.intended_use.clone_from(&plan.about.intended_use);
    manifest.created.clone_from(&plan.about.created);
    manifest.clinical = plan.about.clinical;
    manifest.sae = SaeSpec {
        level,
        d_sae: bundle.sae.b_enc.len(),
        activation: Activation::JumpRelu,
        weights: if int8 { WeightForm::Int8 } else { WeightForm::F32 },
    };
    manifest.normaliser = NormaliserSpec { kind: "centre-and-scale".into(), scale: 1.0 };
    let (d_in, found) = (manifest.d_in(), bundle.sae.b_dec.len());
    if d_in != found {
        return Err(unfit("the dictionary", format!("one of {d_in} values"), found));
    }
    Ok(bundle)
}

/// Sentences of the findings that ship.
fn templates(plan: &Plan, bundle: &Bundle) -> Result<Templates, PackError> {
    let mut all: Templates = serde_json::from_value(json(&plan.templates)?)
        .map_err(|error| file(&plan.templates, &error))?;
    for rule in &bundle.rules.findings {
        if !all.findings.contains_key(&rule.id) {
            let expected = format!("sentences of the finding {}", rule.id);
            return Err(unfit(&plan.templates.display().to_string(), expected, "none"));
        }
    }
    let ships = |id: &String| bundle.rules.findings.iter().any(|rule| rule.id == *id);
    all.findings.retain(|id, _| ships(id));
    Ok(all)
}

fn names(
    plan: &Plan,
    bundle: &mut Bundle,
    folders: &mut Folders<'_, Fault>,
) -> Result<Vec<(String, Associations)>, PackError> {
    let (mut all, mut passed) = (Vec::new(), Vec::new());
    for named in &plan.naming {
        let loaded = folders.tokens(&named.vectors).map_err(PackError::Source)?;
        let own = through(bundle, loaded);
        let embeddings: Vec<f32> = own.iter().flat_map(|p| &p.embedding.values).copied().collect();
        let codes = readings::codes(bundle, &loaded.embeddings, &embeddings);
        let d = bundle.head.weight.rows;
        let images = Images::of(&loaded.columns, embeddings, d, &named.data)
            .map_err(|error| file(&named.vectors, &error))?;
        let mut found = associate(&images, &codes, &named.how, &plan.calibrate.bootstrap);
        // What no words are for cannot be a name.
        found.found.retain(|association| named.phrases.contains_key(&association.label));
        all.push((named.name.clone(), found));
        passed.push(own);
    }
    let latents = bundle.sae.b_enc.len();
    let rates = passed
        .first()
        .map_or_else(|| vec![0.0; latents], |own| firing(&own.iter().collect::<Vec<_>>(), latents));
    let found: Vec<Found<'_>> = (plan.naming.iter().zip(&all).zip(&passed))
        .map(|((named, (_, associations)), own)| Found {
            phrases: &named.phrases,
            associations,
            images: own.iter().collect(),
        })
        .collect();
    bundle.features = features(bundle, &found, &rates, &named_by(plan));
    Ok(all)
}

/// How names were given, in words.
fn named_by(plan: &Plan) -> String {
    let how = plan.naming.first().map(|named| named.how).unwrap_or_default();
    format!(
        "automatic: the label with which a latent goes on half of the patients (AUROC of at least {}, family-wise p <= {} over all latents and labels by {} permutations of whole patients), kept where it stands above latents that fire as often on the other half at the lower end of a 95 % interval; label_auroc is measured on that other half, and the zone is where it is active on average. A latent of a finding that goes with no label is named by its zone alone. No clinician has looked at a name.",
        how.auroc_min, how.chance_max, how.permutations.count
    )
}

/// Fits what is usual, and says how many strange images it finds.
fn likeness(
    plan: &Plan,
    bundle: &mut Bundle,
    folders: &mut Folders<'_, Fault>,
) -> Result<(Strange, Explained), PackError> {
    let mut usual: Vec<Vec<Passed>> = Vec::new();
    for part in &plan.ood.usual {
        let loaded = folders.tokens(&part.vectors).map_err(PackError::Source)?;
        let old = |p: &Passed| part.age_min.is_none_or(|min| p.age.is_some_and(|age| age >= min));
        usual.push(through(bundle, loaded).into_iter().filter(old).collect());
    }
    let loaded = folders.tokens(&plan.ood.strange).map_err(PackError::Source)?;
    let strange = through(bundle, loaded);
    let parts: Vec<Parts<'_>> = (plan.ood.usual.iter().zip(&usual))
        .map(|(asked, own)| {
            let of = |splits: &[String]| own.iter().filter(|p| splits.contains(&p.split)).collect();
            let (fit, hold) = (of(&asked.fit), of(&asked.hold));
            Parts { name: &asked.name, fit, hold, sets_thresholds: asked.sets_thresholds }
        })
        .collect();
    let components = plan.ood.components;
    let Some((model, variance)) = strange::fit(bundle, &parts, components, plan.ood.false_alarms)
    else {
        let found = parts.iter().map(|part| part.fit.len()).sum::<usize>();
        return Err(unfit(
            "out of distribution",
            format!("more than {components} usual images, and others held out"),
            found,
        ));
    };
    let fitted = parts.iter().map(|part| part.fit.len()).sum();
    let deciding = parts.iter().filter(|part| part.sets_thresholds);
    let found = Strange {
        images: [fitted, deciding.map(|part| part.hold.len()).sum()],
        components,
        variance: clearfilm::findings::round_4(variance),
        threshold: f64::from(model.threshold),
        borderline: f64::from(model.borderline),
        sets: strange::told(bundle, &model, &parts, &strange),
    };
    bundle.manifest.ood =
        OodSpec { components, threshold: model.threshold, borderline: model.borderline };
    let explained = explained(bundle, &parts);
    bundle.ood = model;
    Ok((found, explained))
}

/// The dictionary on held-out usual images, beside principal components of the fitted ones.
fn explained(bundle: &Bundle, parts: &[Parts<'_>]) -> Explained {
    let rows = |passed: &mut dyn Iterator<Item = &&Passed>| -> Vec<f32> {
        match bundle.sae.level {
            Level::Tokens => passed.flat_map(|p| p.tokens.values.clone()).collect(),
            Level::Embedding => passed.flat_map(|p| p.embedding.values.clone()).collect(),
        }
    };
    let fitted = rows(&mut parts.iter().flat_map(|part| &part.fit));
    let radiographs = || parts.iter().filter(|part| part.sets_thresholds);
    let held = rows(&mut radiographs().flat_map(|part| &part.hold));
    let d = bundle.sae.b_dec.len();
    let codes = crate::codes::Codes::of(&bundle.sae, &held);
    let mean = reconstruct::mean(&fitted, d);
    let made = reconstruct::reconstructions(&bundle.sae, &codes);
    let figures = reconstruct::reconstruction(&held, &made, &mean);
    let fired: usize = (0..codes.features()).map(|latent| codes.column(latent).len()).sum();
    let l0 = crate::measure::whole(fired) / crate::measure::whole(codes.samples.max(1));
    let round = clearfilm::findings::round_4;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "dozens")]
    let components = l0.round() as usize;
    let pca = Pca::of(&fitted, d).and_then(|pca| pca.unexplained(&held).get(components).copied());
    Explained {
        fvu: round(figures.fvu),
        fvu_pca: round(pca.unwrap_or(f64::NAN)),
        l0: round(l0),
        silent: (0..codes.features()).filter(|latent| codes.column(*latent).is_empty()).count(),
        latents: codes.features(),
        images: radiographs().map(|part| part.hold.len()).sum(),
    }
}

/// Golden outputs and what a self-test asks of them.
fn golden_of(plan: &Plan, bundle: &mut Bundle, config: &Config) -> Result<[f32; 3], PackError> {
    let reference = Encoder::read(&plan.reference)?;
    let before = Bundle { sae: bundle.sae.clone(), ..reference.alone() };
    bundle.golden = golden::make(&before, &plan.golden, config)?;
    let worst = golden::nearness(bundle, config)?;
    bundle.manifest.golden = GoldenSpec {
        count: bundle.golden.inputs.len(),
        cosine_min: golden::tolerance(worst.cosine),
        centred_cosine_min: golden::tolerance(worst.centred_cosine),
        code_cosine_min: golden::tolerance(worst.code_cosine),
    };
    Ok([worst.cosine, worst.centred_cosine, worst.code_cosine])
}

fn sources(plan: &Plan, folders: &mut Folders<'_, Fault>) -> Result<Vec<Counted>, PackError> {
    let one = |source: &super::plan::Source| {
        let loaded = folders.tokens(&source.vectors).map_err(PackError::Source)?;
        Ok(Counted::of(source, &loaded.columns))
    };
    plan.about.sources.iter().map(one).collect()
}

pub(super) fn json(path: &Path) -> Result<Value, PackError> {
    let bytes = fs::read(path).map_err(|error| file(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| file(path, &error))
}

pub(super) fn file(path: &Path, error: &dyn Error) -> PackError {
    PackError::File { file: path.into(), text: error.to_string() }
}

pub(super) fn unfit(what: &str, expected: impl Into<String>, found: impl ToString) -> PackError {
    PackError::Unfit { what: what.into(), expected: expected.into(), found: found.to_string() }
}
