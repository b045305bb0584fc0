//! The whole evaluation: every dictionary of a plan, on the embeddings that it reads.

use std::path::{Path, PathBuf};

use clearfilm::bundle::Sae;
use serde::Serialize;

use super::arm::{Bench, Measured};
use super::ground::{Ground, Sets};
use super::images::{Columns, Images, ImagesError};
use super::plan::Plan;
use super::readout::Reader;
use crate::dictionary::{self, DictionaryError};
use crate::normalise::NormaliseError;

/// Embeddings of a folder and what its table says, not augmented: one row an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The table.
    pub columns: Columns,
    /// `[n, d]`.
    pub embeddings: Vec<f32>,
    /// Values of an embedding.
    pub d: usize,
}

/// What a plan came to.
#[derive(Debug, Serialize)]
pub struct Evaluation {
    /// Of this form.
    pub format: u32,
    /// Of the program that made it.
    pub software: &'static str,
    /// What was asked.
    pub plan: Plan,
    /// The images.
    pub images: Counts,
    /// Each folder of embeddings without a dictionary.
    pub grounds: Vec<Ground>,
    /// Each dictionary.
    pub arms: Vec<Measured>,
}

/// How many images, patients and labels there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Images to train, find and test on.
    pub images: [usize; 3],
    /// Their patients.
    pub patients: [usize; 3],
    /// Each label's positive and negative images, to find and to test on.
    pub labels: Vec<(String, [usize; 2], [usize; 2])>,
    /// Images in MedSAE's balanced subset.
    pub balanced: usize,
}

/// An evaluation that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError<L: std::error::Error + 'static> {
    /// Embeddings cannot be read.
    #[error(transparent)]
    Load(L),
    /// Images are not what the plan expects.
    #[error("{}: {source}", folder.display())]
    Images {
        /// Of which folder.
        folder: PathBuf,
        /// Why.
        source: ImagesError,
    },
    /// A dictionary cannot be read.
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
    /// A dictionary is of other embeddings.
    #[error("{}: expected a dictionary of embeddings of {expected} values, found {found}", file.display())]
    Width {
        /// Which.
        file: PathBuf,
        /// Values of an embedding.
        expected: usize,
        /// Values that the dictionary reads.
        found: usize,
    },
    /// Embeddings cannot be normalised.
    #[error("{}: {source}", folder.display())]
    Normalise {
        /// Of which folder.
        folder: PathBuf,
        /// Why.
        source: NormaliseError,
    },
}

/// Version of [`Evaluation`]'s form.
const FORMAT: u32 = 1;

/// Evaluates a plan; `load` reads a folder of embeddings, `tell` hears what is being done.
///
/// # Errors
/// Files cannot be read, or are not what the plan expects.
pub fn evaluate<L: std::error::Error + 'static>(
    plan: &Plan,
    load: impl Fn(&Path) -> Result<Loaded, L>,
    tell: impl Fn(&str),
) -> Result<Evaluation, EvaluateError<L>> {
    let mut folders: Vec<&Path> = Vec::new();
    for arm in &plan.arm {
        if !folders.contains(&arm.embeddings.as_path()) {
            folders.push(&arm.embeddings);
        }
    }
    let (mut grounds, mut arms, mut counts) = (Vec::new(), Vec::new(), None);
    for (number, folder) in folders.into_iter().enumerate() {
        tell(&format!("embeddings {}", folder.display()));
        let loaded = load(folder).map_err(EvaluateError::Load)?;
        let of = |source| EvaluateError::Images { folder: folder.into(), source };
        let images =
            Images::of(&loaded.columns, loaded.embeddings, loaded.d, &plan.data).map_err(of)?;
        let (reader, sets) =
            (Reader::new(&images, &plan.probing, &plan.bootstrap), Sets::of(&images, plan));
        counts.get_or_insert_with(|| Counts::of(&images, &sets));
        let ground = Ground::of(&images, &reader, &sets, plan)
            .map_err(|source| EvaluateError::Normalise { folder: folder.into(), source })?;
        for arm in plan.arm.iter().filter(|arm| arm.embeddings == folder) {
            tell(&format!("dictionary {}", arm.name));
            let sae = fitting(&arm.sae, images.d)?;
            let seeds = arm
                .seeds
                .iter()
                .map(|seed| fitting(seed, images.d))
                .collect::<Result<Vec<_>, _>>()?;
            let judge = judge(arm.judge.as_deref(), &images, &load)?;
            let (reader, sets, ground, images) = (&reader, &sets, &ground, &images);
            let bench = Bench { images, reader, sets, ground, plan, judge };
            let mut measured = bench.measure(&sae, &seeds);
            measured.name.clone_from(&arm.name);
            measured.note.clone_from(&arm.note);
            measured.ground = number;
            arms.push(measured);
        }
        grounds.push(ground);
    }
    let images = counts.unwrap_or_else(Counts::none);
    let software = concat!("clearfilm-models ", env!("CARGO_PKG_VERSION"));
    Ok(Evaluation { format: FORMAT, software, plan: plan.clone(), images, grounds, arms })
}

fn fitting<L: std::error::Error>(file: &Path, d: usize) -> Result<Sae, EvaluateError<L>> {
    let sae = dictionary::read(file)?;
    let found = sae.b_dec.len();
    if found != d {
        return Err(EvaluateError::Width { file: file.into(), expected: d, found });
    }
    Ok(sae)
}

/// Who judges monosemanticity: another encoder where the plan names one, else the dictionary's own.
fn judge<L: std::error::Error>(
    folder: Option<&Path>,
    images: &Images,
    load: impl Fn(&Path) -> Result<Loaded, L>,
) -> Result<(String, Vec<f32>, usize), EvaluateError<L>> {
    let Some(folder) = folder else {
        return Ok(("its own encoder".to_owned(), images.embeddings_of(&images.test), images.d));
    };
    let other = load(folder).map_err(EvaluateError::Load)?;
    let (d, names) = (other.d, &other.columns.image);
    let matched = images
        .matched(&folder.display().to_string(), names, &other.embeddings, d)
        .map_err(|source| EvaluateError::Images { folder: folder.into(), source })?;
    let test = images.test.iter().flat_map(|row| &matched[row * d..][..d]).copied().collect();
    let name = folder.file_name().map_or_else(String::new, |name| name.display().to_string());
    Ok((name, test, d))
}

impl Counts {
    fn of(images: &Images, sets: &Sets) -> Self {
        let parts = [&images.train, &images.find, &images.test];
        let patients = parts.map(|rows| {
            let mut all = images.patients_of(rows);
            all.sort_unstable();
            all.dedup();
            all.len()
        });
        let [find, test] = [&images.find, &images.test].map(|rows| images.labels.moved(rows));
        let names = images.labels.names.iter().enumerate();
        Self {
            images: parts.map(Vec::len),
            patients,
            labels: names
                .map(|(at, name)| (name.clone(), find.counts(at), test.counts(at)))
                .collect(),
            balanced: sets.balanced.len(),
        }
    }

    fn none() -> Self {
        Self { images: [0; 3], patients: [0; 3], labels: Vec::new(), balanced: 0 }
    }
}
