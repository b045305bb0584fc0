//! Everything that decides the bytes of a folder, and the list of its pictures.

use std::path::Path;

use clearfilm::bundle::{Bundle, ENCODER, InputSpec, Level};
use clearfilm::config::{self, DicomLimits};
use clearfilm::encode::Engine;
use clearfilm::id::Digest;
use serde::{Deserialize, Serialize};

use super::folder::{json, make_folder, read};
use super::{EmbedError, Folder};
use crate::files::put;
use crate::layout::{Layout, Listing};
use crate::table::Record;

/// The layout of the folder; another one is refused.
pub const FORMAT: u32 = 1;

/// Number format of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point, rounded to nearest.
    F16,
}

/// How often each picture is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// Vectors of a picture, at least 1: the picture itself and views that are drawn.
    pub count: u32,
    /// Views follow from it.
    pub seed: u64,
    /// Every other drawn view is mirrored left to right.
    pub flip: bool,
}

/// The plan. Where the collection and the bundle lie is not in it: that differs between machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Layout of the folder.
    pub v: u32,
    /// The bundle.
    pub bundle: Digest,
    /// Its encoder.
    pub encoder: Digest,
    /// What the encoder takes.
    pub input: InputSpec,
    /// The engine that runs it.
    pub engine: Engine,
    /// Vectors of pictures, or of each token.
    pub level: Level,
    /// Number format of the vectors.
    pub dtype: Dtype,
    /// Shape of one row: `[d]`, or `[n_tokens, d_token]`.
    pub shape: Vec<usize>,
    /// How often each picture is seen.
    pub views: Views,
    /// Pictures of a shard.
    pub shard_images: usize,
    /// How the collection lies on the disk.
    pub layout: Layout,
    /// Its labels.
    pub labels: Vec<String>,
    /// Pictures in the list.
    pub images: usize,
    /// Pictures that the collection's tables name and that are not there.
    pub absent: usize,
    /// SHA-256 of the list.
    pub list: Digest,
    /// What is refused as too large.
    pub decode: config::Decode,
    /// What is refused as too deep.
    pub structure: DicomLimits,
}

impl Plan {
    /// Plans the pictures of a listing in shards of at most `shard_rows` vectors.
    #[must_use]
    pub fn new(
        (bundle, engine): (&Bundle, &Engine),
        (level, dtype): (Level, Dtype),
        (views, shard_rows): (Views, usize),
        (layout, listing): (Layout, &Listing),
        limits: &config::Config,
    ) -> Self {
        let spec = &bundle.manifest.encoder;
        let shape = match level {
            Level::Embedding => vec![bundle.head.weight.rows],
            Level::Tokens => vec![spec.n_tokens, spec.d_token],
        };
        Self {
            v: FORMAT,
            bundle: bundle.digest,
            encoder: bundle.digest_of(ENCODER),
            input: bundle.manifest.input.clone(),
            engine: engine.clone(),
            level,
            dtype,
            shape,
            views,
            shard_images: (shard_rows / views.count.max(1) as usize).max(1),
            layout,
            labels: listing.labels.clone(),
            images: listing.records.len(),
            absent: listing.absent,
            list: Digest::of(&lines(&listing.records)),
            decode: limits.decode.clone(),
            structure: limits.dicom.limits.clone(),
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.images.div_ceil(self.shard_images)
    }

    /// Reads a folder's plan, and the digest of its file.
    ///
    /// # Errors
    /// It is not there, or of another layout.
    pub fn read(folder: &Folder) -> Result<(Self, Digest), EmbedError> {
        let file = folder.plan();
        let bytes = read(&file)?;
        let plan: Self = serde_json::from_slice(&bytes)
            .map_err(|source| EmbedError::Json { file: file.clone(), source })?;
        if plan.v != FORMAT {
            let differences = format!("  v: planned {}, expected {FORMAT}", plan.v);
            return Err(EmbedError::Other { file, differences });
        }
        Ok((plan, Digest::of(&bytes)))
    }
}

/// Writes plan and list, or checks that those which are there are the same.
///
/// # Errors
/// The folder belongs to another plan, or the disk fails.
pub fn write_plan(folder: &Folder, plan: &Plan, records: &[Record]) -> Result<(), EmbedError> {
    let file = folder.plan();
    let bytes = json(&file, plan)?;
    if file.exists() {
        same(&file, &read(&file)?, &bytes)?;
    }
    make_folder(&folder.shards())?;
    // The plan last: where it lies, the list does.
    put(&folder.images(), &lines(records))?;
    Ok(put(&file, &bytes)?)
}

/// Reads the list of pictures that a plan is about.
///
/// # Errors
/// It is not there, or not the one that was planned.
pub fn read_images(folder: &Folder, plan: &Plan) -> Result<Vec<Record>, EmbedError> {
    let file = folder.images();
    let bytes = read(&file)?;
    let found = Digest::of(&bytes);
    if found != plan.list {
        return Err(EmbedError::Changed { file, expected: plan.list, found });
    }
    let records = serde_json::Deserializer::from_slice(&bytes).into_iter();
    records.collect::<Result<_, _>>().map_err(|source| EmbedError::Json { file, source })
}

fn lines(records: &[Record]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        // A record is texts and numbers: forming it cannot fail.
        lines.extend(serde_json::to_vec(record).unwrap_or_default());
        lines.push(b'\n');
    }
    lines
}

/// Refuses another plan, naming each key that differs.
fn same(file: &Path, planned: &[u8], asked: &[u8]) -> Result<(), EmbedError> {
    let object = |bytes| -> Result<serde_json::Map<String, serde_json::Value>, EmbedError> {
        serde_json::from_slice(bytes)
            .map_err(|source| EmbedError::Json { file: file.into(), source })
    };
    let (planned, asked) = (object(planned)?, object(asked)?);
    let mut differences = Vec::new();
    for key in planned.keys().chain(asked.keys().filter(|key| !planned.contains_key(*key))) {
        let text = |of: Option<&serde_json::Value>| of.map_or("none".into(), ToString::to_string);
        let (was, is) = (text(planned.get(key)), text(asked.get(key)));
        if was != is {
            differences.push(format!("  {key}: planned {was}, asked for {is}"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(EmbedError::Other { file: file.into(), differences: differences.join("\n") })
}
