//! A whole calibration: which findings a bundle may state, and everything that was measured of them.

use std::path::{Path, PathBuf};

use clearfilm::bundle::{
    Calibration as Curve, FindingRule, FindingRules, LatentWeight, Level, Sae, ValidatedOn,
};
use clearfilm::findings::round_4;
use clearfilm::id::LatentIndex;
use serde::Serialize;

use super::finding::{Finding, How, NoFinding};
use super::plan::{Asked, Collection, Plan};
use crate::codes::Codes;
use crate::dictionary::{self, DictionaryError};
use crate::evaluate::evaluation::Loaded;
use crate::evaluate::images::{Images, ImagesError};
use crate::evaluate::readout::{Reader, Readout};

/// Version of [`Calibration`]'s form.
const FORMAT: u32 = 1;

/// Version of `findings.json`.
const RULES: u32 = 1;

/// What a plan came to.
#[derive(Debug, Serialize)]
pub struct Calibration {
    /// Version of this form.
    pub format: u32,
    /// What made it.
    pub software: &'static str,
    /// What was asked.
    pub plan: Plan,
    /// Collection by collection.
    pub collections: Vec<Measured>,
}

/// One collection of images.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Images, and patients.
    pub images: [usize; 2],
    /// What was asked of it, in order.
    pub findings: Vec<Outcome>,
}

/// What became of a finding that was asked for.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Its id.
    pub id: String,
    /// Whether the bundle states it.
    pub ships: bool,
    /// How it did.
    pub finding: Result<Finding, NoFinding>,
    /// What it was held against, on the same images.
    pub beside: Vec<Readout>,
}

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError<L: std::error::Error + 'static> {
    /// Vectors cannot be read.
    #[error(transparent)]
    Load(L),
    /// The dictionary cannot be read.
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
    /// Images are not what the plan expects.
    #[error("{}: {source}", folder.display())]
    Images {
        /// Of which folder.
        folder: PathBuf,
        /// Why.
        source: ImagesError,
    },
    /// The dictionary reads something else.
    #[error("{}: expected vectors of {expected} values, as {} reads, found {found}", folder.display(), sae.display())]
    Width {
        /// Vectors.
        folder: PathBuf,
        /// Dictionary.
        sae: PathBuf,
        /// Values that it reads.
        expected: usize,
        /// Values of an image.
        found: usize,
    },
    /// Images would be scored by a rule that was fitted on them.
    #[error("images {collection}: expected folds of 2 or more, found {found}")]
    Folds {
        /// Of which collection.
        collection: String,
        /// What was asked.
        found: usize,
    },
    /// A finding is asked for by a label that is not there.
    #[error("finding {id}: expected a label {label:?} in {collection}, found {found:?}")]
    Label {
        /// Which finding.
        id: String,
        /// Which label.
        label: String,
        /// Where.
        collection: String,
        /// Labels there are.
        found: Vec<String>,
    },
}

/// Fits and measures every finding of a plan; `load` reads a folder of vectors, `tell` hears what is
/// being done.
///
/// # Errors
/// Files cannot be read, or are not what the plan expects.
pub fn calibrate<L: std::error::Error + 'static>(
    plan: &Plan,
    load: impl Fn(&Path, Level) -> Result<Loaded, L>,
    tell: impl Fn(&str),
) -> Result<Calibration, CalibrateError<L>> {
    let sae = dictionary::read(&plan.sae)?;
    let mut done: Vec<String> = Vec::new();
    let mut collections = Vec::new();
    for collection in &plan.images {
        if collection.probing.folds < 2 {
            let found = collection.probing.folds;
            return Err(CalibrateError::Folds { collection: collection.name.clone(), found });
        }
        let folder = &collection.vectors;
        let loaded = load(folder, plan.level).map_err(CalibrateError::Load)?;
        let codes = codes(plan, &sae, folder, &loaded)?;
        let images = Images::of(&loaded.columns, loaded.embeddings, loaded.d, &collection.data)
            .map_err(|source| CalibrateError::Images { folder: folder.into(), source })?;
        let reader = Reader::new(&images, &collection.probing, &plan.bootstrap);
        let baselines = baselines(&reader);
        let mut findings = Vec::new();
        for asked in collection.finding.iter().filter(|asked| !done.contains(&asked.id)) {
            tell(&format!("{}: {}", collection.name, asked.id));
            let label = label(asked, collection, &images)?;
            let own = baselines.iter().filter(|readout| readout.label == asked.label);
            let beside: Vec<Readout> = own.cloned().collect();
            let held: Vec<&Readout> = beside.iter().collect();
            let together = collection.finding.len();
            let how = How { fit: &plan.fit, permutations: plan.permutations, together };
            let finding = Finding::fit(&reader, &codes, label, (&how, &asked.levels), &held);
            let ships = finding.as_ref().is_ok_and(Finding::validated);
            findings.push(Outcome { id: asked.id.clone(), ships, finding, beside });
        }
        done.extend(findings.iter().filter(|found| found.ships).map(|found| found.id.clone()));
        let mut patients = images.patients.clone();
        patients.sort_unstable();
        patients.dedup();
        let images = [images.names.len(), patients.len()];
        collections.push(Measured { name: collection.name.clone(), images, findings });
    }
    let software = concat!("clearfilm-models ", env!("CARGO_PKG_VERSION"));
    Ok(Calibration { format: FORMAT, software, plan: plan.clone(), collections })
}

fn codes<L: std::error::Error>(
    plan: &Plan,
    sae: &Sae,
    folder: &Path,
    loaded: &Loaded,
) -> Result<Codes, CalibrateError<L>> {
    let d = sae.b_dec.len();
    let fits = match plan.level {
        Level::Embedding => loaded.d == d,
        Level::Tokens => loaded.d.is_multiple_of(d),
    };
    if !fits {
        return Err(CalibrateError::Width {
            folder: folder.into(),
            sae: plan.sae.clone(),
            expected: d,
            found: loaded.d,
        });
    }
    Ok(match plan.level {
        Level::Embedding => Codes::of(sae, &loaded.embeddings),
        Level::Tokens => Codes::pooled(sae, &loaded.embeddings, loaded.d / d),
    })
}

/// How every label is read from what needs no network: how the image was taken, and how grey it is.
fn baselines(reader: &Reader<'_>) -> Vec<Readout> {
    let images = reader.images;
    let mut found = Vec::new();
    for (from, (rows, d)) in [("acquisition", &images.metadata), ("grey values", &images.intensity)]
    {
        if *d > 0 {
            let taught = reader.teach(rows, *d, reader.probing().ridge);
            found.extend(reader.rows(from, &taught, rows));
        }
    }
    found
}

fn label<L: std::error::Error>(
    asked: &Asked,
    collection: &Collection,
    images: &Images,
) -> Result<usize, CalibrateError<L>> {
    let names = &images.labels.names;
    names.iter().position(|name| *name == asked.label).ok_or_else(|| CalibrateError::Label {
        id: asked.id.clone(),
        label: asked.label.clone(),
        collection: collection.name.clone(),
        found: names.clone(),
    })
}

impl Calibration {
    /// What a bundle carries: the findings that ship, in the plan's order.
    #[must_use]
    pub fn rules(&self) -> FindingRules {
        let mut findings = Vec::new();
        for (collection, measured) in self.plan.images.iter().zip(&self.collections) {
            for outcome in measured.findings.iter().filter(|outcome| outcome.ships) {
                let asked = collection.finding.iter().find(|asked| asked.id == outcome.id);
                if let (Some(asked), Ok(finding)) = (asked, &outcome.finding) {
                    findings.push(rule(collection, asked, finding));
                }
            }
        }
        FindingRules { format: RULES, findings, not_assessed: self.plan.not_assessed.clone() }
    }
}

fn rule(collection: &Collection, asked: &Asked, finding: &Finding) -> FindingRule {
    let weight = |&(latent, weight): &(usize, f64)| LatentWeight {
        latent: LatentIndex(u32::try_from(latent).expect("fewer than 2^32 latents")),
        weight: digits(weight),
    };
    let [positives, negatives] = finding.readout.images;
    let count = |n: usize| u32::try_from(n).expect("fewer than 2^32 images");
    let auroc = finding.auroc();
    FindingRule {
        id: asked.id.clone(),
        code: asked.code.clone(),
        weights: finding.rule.weights.iter().map(weight).collect(),
        bias: digits(finding.rule.bias),
        calibration: Curve {
            id: format!("platt-{}-{}", collection.name, asked.id),
            a: digits(finding.platt.a),
            b: digits(finding.platt.b),
        },
        threshold: finding.present.probability,
        uncertain_from: finding.uncertain.probability,
        validation: collection.validation,
        validated_on: ValidatedOn {
            what: collection.what.clone(),
            n: count(positives + negatives),
            positives: count(positives),
            auroc: round_4(auroc.value),
            auroc_low: round_4(auroc.low),
            auroc_high: round_4(auroc.high),
        },
    }
}

/// Eight significant digits: more than an fp32 activation has.
fn digits(value: f64) -> f64 {
    format!("{value:.7e}").parse().expect("a number")
}
