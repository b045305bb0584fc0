//! Which features are named, from which pictures, by whom, and how their names are judged.

use std::path::PathBuf;

use clearfilm::bundle::Level;
use serde::{Deserialize, Serialize};

use super::server::Server;
use crate::evaluate::bootstrap::Bootstrap;

/// One naming.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The dictionary, as it ships.
    pub sae: PathBuf,
    /// What it reads.
    pub level: Level,
    /// Folder of vectors, at that level.
    pub vectors: PathBuf,
    /// Root of the collection that they were made of. Unused by `vocabulary`.
    #[serde(default)]
    pub pictures: PathBuf,
    /// Rows and columns of a shown picture; none: those of the encoder's input.
    #[serde(default)]
    pub size: Option<usize>,
    /// Splits whose images are used; empty: all of them.
    #[serde(default)]
    pub splits: Vec<String>,
    /// Features that fire on a smaller or larger share of the images are left out.
    #[serde(default = "rates")]
    pub rates: [f64; 2],
    /// Features that are named, at most; of more, so many are drawn.
    #[serde(default = "latents_max")]
    pub latents_max: usize,
    /// Of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// A control: every name goes to another feature before it is judged, and the lift has to be 0.
    #[serde(default)]
    pub shuffle_names: bool,
    /// How images and features are drawn for intervals.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// How names are found and judged.
    pub procedure: Procedure,
    /// Numbers of `medsae`.
    #[serde(default)]
    pub medsae: Medsae,
    /// Numbers of `held-out`.
    #[serde(default, rename = "held-out")]
    pub held_out: HeldOut,
    /// Words of `vocabulary`.
    #[serde(default)]
    pub vocabulary: Option<Words>,
    /// Who names.
    #[serde(default)]
    pub namer: Option<Server>,
    /// Who judges; none: the namer, which a result says loudly.
    #[serde(default)]
    pub judge: Option<Server>,
}

/// Ways to name and to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Procedure {
    /// As MedSAE's code does it: namer and judge see the same images.
    Medsae,
    /// Judged on patients whose pictures the namer never saw.
    HeldOut,
    /// No server: the word of a list that lies nearest to the decoder's direction.
    Vocabulary,
}

/// Numbers of MedSAE's `assign_names_VLM.py` and `naming_eval.py`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Medsae {
    /// Images that the namer sees: half from the top, half from the end of the list.
    pub shown: usize,
    /// Images of that list, at most; it has two thirds of those that the feature fires on.
    pub listed: usize,
    /// Images of each kind that the judge sees.
    pub judged: usize,
    /// Images of one request to the judge, 1 or more.
    pub at_once: usize,
    /// Of the order of images.
    pub seed: u64,
}

impl Default for Medsae {
    fn default() -> Self {
        Self { shown: 30, listed: 100, judged: 30, at_once: 5, seed: 42 }
    }
}

/// Numbers of the stronger procedure; those of Delphi and SAIL where they have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeldOut {
    /// Images that the namer sees, each of another patient, over all quantiles.
    pub shown: usize,
    /// Equal parts of a feature's images, by activation.
    pub quantiles: usize,
    /// Images that the judge sees of each part, each of another patient; and in all as many on
    /// which the feature does not fire.
    pub each: usize,
    /// Other features' names that are judged on the same images, 1 or more.
    pub others: usize,
    /// Features that fire about as often and take each other's names.
    pub group: usize,
    /// Wrong names beside the right one; 0: that test is left out.
    pub distractors: usize,
}

impl Default for HeldOut {
    fn default() -> Self {
        Self { shown: 25, quantiles: 5, each: 5, others: 1, group: 10, distractors: 4 }
    }
}

/// A list of words with embeddings by the text tower that goes with the image encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// A word or phrase a line.
    pub words: PathBuf,
    /// A safetensors file with a tensor `text` `[words, d_model]`.
    pub embeddings: PathBuf,
}

/// Rarer features have too few images to show, more frequent ones say little.
fn rates() -> [f64; 2] {
    [1e-4, 0.1]
}

/// 300 features take 50 requests each to judge, and as many for each of `others`.
fn latents_max() -> usize {
    300
}
