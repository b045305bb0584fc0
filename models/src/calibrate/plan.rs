//! Which findings are fitted, to which labels of which images.

use std::path::PathBuf;

use clearfilm::bundle::{Code, Level, Validation};
use serde::{Deserialize, Serialize};

use super::finding::Levels;
use super::rule::Fit;
use crate::evaluate::bootstrap::Bootstrap;
use crate::evaluate::plan::Data;
use crate::evaluate::probes::Probing;

/// One calibration: everything that is stated by one bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The dictionary, as it ships.
    pub sae: PathBuf,
    /// What it reads.
    pub level: Level,
    /// How rules are fitted.
    #[serde(default)]
    pub fit: Fit,
    /// How patients are drawn.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Permutations of labels that a finding is held against: more than one over the chance that it
    /// must stay below.
    #[serde(default = "permutations")]
    pub permutations: u64,
    /// What nothing is said about, in words.
    #[serde(default)]
    pub not_assessed: Vec<String>,
    /// Collections of images, the most convincing first: a finding that one of them validates is
    /// not fitted to those behind it.
    pub images: Vec<Collection>,
}

/// Images of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// Short, for ids of calibrations.
    pub name: String,
    /// What they are, in words.
    pub what: String,
    /// What a finding that holds on them is validated on.
    pub validation: Validation,
    /// Folder of vectors, at the dictionary's level.
    pub vectors: PathBuf,
    /// Which of them, and their labels. `train` and `test` are dealt into folds together.
    #[serde(default)]
    pub data: Data,
    /// Parts that the patients are dealt into.
    #[serde(default = "folds")]
    pub probing: Probing,
    /// Findings.
    pub finding: Vec<Asked>,
}

/// A finding that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Id within the bundle.
    pub id: String,
    /// Its code.
    pub code: Code,
    /// Which label of the images says that it is there.
    pub label: String,
    /// Misses and false alarms.
    #[serde(default)]
    pub levels: Levels,
}

/// Just resolves what ten findings at 5 % together need, 1 in 200; each is a whole fit.
fn permutations() -> u64 {
    200
}

/// Five: the permutations repeat every fit. What a finding is held against may choose its ridge, or it
/// would only look weak: with a few hundred patients anything from 1 to 10,000 was seen to be best.
fn folds() -> Probing {
    Probing { folds: 5, ridges: vec![1.0, 10.0, 100.0, 1e3, 1e4], ..Probing::default() }
}
