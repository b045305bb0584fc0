//! What an evaluation looks at: images, labels, dictionaries, and how chance is asked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bootstrap::Bootstrap;
use super::permute::Permutations;
use super::probes::Probing;

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Heading of the report.
    pub title: String,
    /// Stands under the heading: what the numbers may be used for.
    #[serde(default)]
    pub notice: String,
    /// Which images, and what is known of them.
    #[serde(default)]
    pub data: Data,
    /// Sets of labels for MedSAE's figures; without any, all labels are one.
    #[serde(default)]
    pub label_set: Vec<LabelSet>,
    /// What is measured.
    pub arm: Vec<Arm>,
    /// How chance is asked.
    #[serde(default)]
    pub permutations: Permutations,
    /// How patients are drawn.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// How labels are read out.
    #[serde(default)]
    pub probing: Probing,
    /// Images that each label of MedSAE's balanced subset has at most.
    #[serde(default = "per_class")]
    pub balanced: usize,
    /// Listings end after so many lines.
    #[serde(default = "lines")]
    pub lines: usize,
}

/// Images and labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Splits whose images dictionaries and readouts were taught by.
    pub train: Vec<String>,
    /// Splits in which features are matched with labels.
    pub find: Vec<String>,
    /// Splits that everything is measured on.
    pub test: Vec<String>,
    /// Labels, in order; empty: all there are.
    pub labels: Vec<String>,
    /// Labels that are made of others.
    pub derived: Vec<Derived>,
    /// What an uncertain label counts as.
    pub uncertain: Count,
    /// What a label counts as that nobody gave.
    pub missing: Count,
    /// Seed by which patients take each other's labels: a control, in which nothing may be found.
    pub shuffle: Option<u64>,
    /// Columns whose values have to be alike for labels to change places.
    pub strata: Vec<String>,
    /// Columns that the baseline of acquisition reads.
    pub metadata: Vec<String>,
}

/// A label among images that another label picks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derived {
    /// What it is called.
    pub name: String,
    /// The label, or `column=value` for a word of the table (`position=AP`).
    pub label: String,
    /// Only images count that have this label at this value; others are unknown.
    #[serde(default)]
    pub among: Option<(String, i32)>,
}

/// What a mark that says neither yes nor no counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// The image does not count for the label.
    Unknown,
    /// No (MedSAE's code, for labels that are missing).
    Negative,
    /// Yes.
    Positive,
}

/// Labels that are looked at together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSet {
    /// What it is called.
    pub name: String,
    /// Which.
    pub labels: Vec<String>,
}

/// One dictionary on one encoder's embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// What it is, in a sentence.
    #[serde(default)]
    pub note: String,
    /// Folder of embeddings.
    pub embeddings: PathBuf,
    /// The dictionary.
    pub sae: PathBuf,
    /// Dictionaries of the same recipe with other seeds.
    #[serde(default)]
    pub seeds: Vec<PathBuf>,
    /// Folder of another encoder's embeddings of the same images, which judge monosemanticity.
    #[serde(default)]
    pub judge: Option<PathBuf>,
}

impl Default for Data {
    fn default() -> Self {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            train: own(&["train"]),
            find: own(&["train"]),
            test: own(&["test"]),
            labels: Vec::new(),
            derived: Vec::new(),
            shuffle: None,
            uncertain: Count::Unknown,
            missing: Count::Unknown,
            strata: own(&["position", "spacing_mm", "sex"]),
            metadata: own(&[
                "position",
                "spacing_mm",
                "sex",
                "age",
                "rows",
                "columns",
                "follow_up",
            ]),
        }
    }
}

/// MedSAE's (its code, `get_chexpert5x200`).
fn per_class() -> usize {
    200
}

fn lines() -> usize {
    40
}
