//! Which features are described, from which reports, and by whom.

use std::path::PathBuf;

use clearfilm::bundle::Level;
use serde::{Deserialize, Serialize};

use crate::evaluate::bootstrap::Bootstrap;
use crate::layout::TextTable;
use crate::name::server::Server;

/// One describing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Who describes and judges.
    pub by: By,
    /// Where the reports are.
    pub reports: Where,
    /// Which latents fire on which reports' pictures.
    pub codes: Fires,
    /// Size of R(i): reports of the strongest activations that a description is made from.
    #[serde(default = "thirty")]
    pub shown: usize,
    /// Reports that R(i) is held against, on which what fires along with the feature fires without
    /// it; 0: a control without them.
    #[serde(default = "thirty")]
    pub contrast: usize,
    /// Reports that R(i) is held against as well, drawn of those on which the feature is silent. By
    /// phrases all of these are the background, whatever stands here.
    #[serde(default = "ten")]
    pub random: usize,
    /// Held-out reports of each kind that a description is judged on, at most.
    #[serde(default = "fifty")]
    pub judged: usize,
    /// Features with fewer reports to describe from, or to be judged on, are left out.
    #[serde(default = "ten")]
    pub reports_min: usize,
    /// Features that are described, at most; of more, so many are drawn.
    #[serde(default = "latents_max")]
    pub latents_max: usize,
    /// Other features' descriptions that are judged on the same reports, 1 or more.
    #[serde(default = "five")]
    pub others: usize,
    /// Features that fire about as often and take each other's descriptions.
    #[serde(default = "ten")]
    pub group: usize,
    /// Of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// A control: every description goes to another feature before it is judged.
    #[serde(default)]
    pub shuffle_names: bool,
    /// A control for features that fire together; with planted labels only.
    #[serde(default)]
    pub together: Option<Together>,
    /// How reports and features are drawn for intervals.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Who describes, by `server`.
    #[serde(default)]
    pub namer: Option<Server>,
    /// Who judges; none: the one who describes, which a result says loudly.
    #[serde(default)]
    pub judge: Option<Server>,
}

/// Ways to describe and to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A language model.
    Server,
    /// Words and phrases that R(i) has more often.
    Phrases,
}

/// Where reports are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Where {
    /// Root of Open-i's collection.
    Openi(PathBuf),
    /// A table.
    Table(TextTable),
}

/// What fires where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fires {
    /// A latent for each label with so many reports: of what it should say there is no doubt.
    Labels {
        /// Reports that a label has at least.
        reports_min: usize,
    },
    /// A table with the columns `report`, `latent` and `activation`.
    File(PathBuf),
    /// A dictionary on vectors, whose table names the study of each picture; of several pictures of
    /// a study the strongest activation counts.
    Sae {
        /// The dictionary, as it ships.
        sae: PathBuf,
        /// What it reads.
        level: Level,
        /// Folder of vectors, at that level.
        vectors: PathBuf,
    },
}

/// Pairs of labels that are made to occur together nearly always: of the reports that one is
/// described from, only a few in which it is alone are kept. On reports in which one of the two
/// stands alone it is then measured whose description is whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Together {
    /// Reports with both, at least.
    pub both_min: usize,
    /// Reports with one alone that are kept, for each of the two.
    pub alone: usize,
    /// Held-out reports with one alone, at least, for each of the two.
    pub apart_min: usize,
}

impl Default for Together {
    fn default() -> Self {
        Self { both_min: 10, alone: 3, apart_min: 10 }
    }
}

/// Picked so that R(i) has a finding's usual words several times.
fn thirty() -> usize {
    30
}

fn ten() -> usize {
    10
}

fn five() -> usize {
    5
}

fn fifty() -> usize {
    50
}

fn latents_max() -> usize {
    300
}
