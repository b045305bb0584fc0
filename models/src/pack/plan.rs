//! What a bundle is made of: one file that names every source, so that everything measured can be
//! measured again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clearfilm::bundle::Level;
use serde::{Deserialize, Serialize};

use crate::associate::Naming;
use crate::calibrate::plan::Plan as Calibrate;
use crate::evaluate::plan::Data;

/// One bundle. Paths are taken from the plan's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it says of itself.
    pub about: About,
    /// Folder of the encoder that ships.
    pub encoder: PathBuf,
    /// Folder of the same encoder before it was quantised: golden outputs come from it.
    pub reference: PathBuf,
    /// Sentences of every finding that may ship, as `report.json` holds them.
    pub templates: PathBuf,
    /// Training run of the dictionary; `calibrate.sae` is its `sae.safetensors` with int8 weights.
    pub dictionary: PathBuf,
    /// Dictionaries that were trained as well and do not ship, with their findings beside.
    #[serde(default)]
    pub instead: Vec<Instead>,
    /// Findings; the dictionary it names is the one that ships.
    pub calibrate: Calibrate,
    /// Collections that latents are named by, the most convincing first.
    pub naming: Vec<Named>,
    /// Out of distribution.
    pub ood: Strange,
    /// Labels that are read for the card, beside baselines and teachers.
    pub readouts: Readouts,
    /// The same images through other files and engines.
    pub engines: Vec<Other>,
    /// Golden images.
    pub golden: Golden,
}

/// What a bundle says of itself, and the words of its card that no measurement gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// What it may be used for.
    pub intended_use: String,
    /// May its results be used in the clinic?
    pub clinical: bool,
    /// Day it was made.
    pub created: String,
    /// What a reader has to know first, paragraph by paragraph.
    pub summary: Vec<String>,
    /// Where each collection comes from.
    pub sources: Vec<Source>,
    /// What nobody measured.
    pub not_measured: Vec<String>,
}

/// A collection of images on the card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is.
    pub what: String,
    /// Folder of its vectors, which are counted.
    pub vectors: PathBuf,
    /// What it was used for.
    pub used_for: String,
    /// Licence and whom it is owed to.
    pub licence: String,
}

/// A dictionary that was trained as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instead {
    /// What it is.
    pub name: String,
    /// Its training run.
    pub dictionary: PathBuf,
    /// What it reads.
    pub level: Level,
}

/// Images whose labels name latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Short.
    pub name: String,
    /// Folder of vectors.
    pub vectors: PathBuf,
    /// Which images, and their labels.
    #[serde(default)]
    pub data: Data,
    /// How names are given.
    #[serde(default)]
    pub how: Naming,
    /// What each label is called in a name; labels without words name nothing.
    pub phrases: BTreeMap<String, String>,
}

/// How strange images are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strange {
    /// Principal components of the pooled tokens.
    pub components: usize,
    /// Share of usual held-out images that may be called strange: the threshold's, and the
    /// borderline's.
    pub false_alarms: [f64; 2],
    /// Usual images.
    pub usual: Vec<Usual>,
    /// Folder of vectors of strange images; nothing is fitted to them, their split says which set.
    pub strange: PathBuf,
}

/// Usual images of one collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    /// Short.
    pub name: String,
    /// Folder of vectors.
    pub vectors: PathBuf,
    /// Splits that the model is fitted on.
    pub fit: Vec<String>,
    /// Splits that it was not fitted on: thresholds come from them, and they are measured.
    pub hold: Vec<String>,
    /// Thresholds come from these images too; otherwise they are only measured.
    #[serde(default = "yes")]
    pub sets_thresholds: bool,
    /// Younger people are left out, and those whose age nobody knows; years.
    #[serde(default)]
    pub age_min: Option<f64>,
}

/// Readouts of labels from the whole embedding and from what it is held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readouts {
    /// Which collection of the calibration they are read on.
    pub collection: String,
    /// Labels, the view among them.
    pub labels: Vec<String>,
    /// Labels whose mean is held against the baselines.
    pub mean_of: Vec<String>,
    /// What the teachers make of the same images: tensors `[n, d]` by teacher, and in the metadata
    /// key `images` the images' names, one a line.
    pub teachers: PathBuf,
}

/// The same images through another file or engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Other {
    /// What differs.
    pub name: String,
    /// Folder of vectors as the default engine gives them.
    pub vectors: PathBuf,
    /// Of the other one.
    pub other: PathBuf,
    /// Splits that are compared.
    pub splits: Vec<String>,
}

/// Golden images: drawn, not taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Folder of pictures.
    pub pictures: PathBuf,
    /// Their names.
    pub names: Vec<String>,
}

impl Plan {
    /// With every path taken from a folder.
    #[must_use]
    pub fn from(mut self, folder: &Path) -> Self {
        let mut paths: Vec<&mut PathBuf> = vec![
            &mut self.encoder,
            &mut self.reference,
            &mut self.templates,
            &mut self.dictionary,
            &mut self.calibrate.sae,
            &mut self.ood.strange,
            &mut self.readouts.teachers,
            &mut self.golden.pictures,
        ];
        paths.extend(self.instead.iter_mut().map(|instead| &mut instead.dictionary));
        paths.extend(self.about.sources.iter_mut().map(|source| &mut source.vectors));
        paths.extend(self.calibrate.images.iter_mut().map(|images| &mut images.vectors));
        paths.extend(self.naming.iter_mut().map(|named| &mut named.vectors));
        paths.extend(self.ood.usual.iter_mut().map(|usual| &mut usual.vectors));
        paths.extend(self.engines.iter_mut().flat_map(|e| [&mut e.vectors, &mut e.other]));
        for path in paths {
            *path = folder.join(&*path);
        }
        self
    }
}

fn yes() -> bool {
    true
}
