//! All shards to one folder that says what it holds.

use std::fs;
use std::path::Path;

use clearfilm::id::Digest;
use serde::{Deserialize, Serialize};

use super::folder::{json, read};
use super::plan::{Plan, read_images};
use super::shard::{Said, valid};
use super::{Done, EmbedError, Folder};
use crate::files::{UNFINISHED, beside, io, persist, put};
use crate::table::{Record, Row, Table, TableWriter};

/// Rows that are collected before they are written: a group of the table.
const ROWS_AT_ONCE: usize = 1 << 17;

/// A shard as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Vectors.
    pub rows: usize,
    /// SHA-256 of its file.
    pub sha256: Digest,
}

/// What a finished folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of the folder.
    pub v: u32,
    /// Version of the program that finished it.
    pub software: String,
    /// What decided its bytes.
    pub plan: Plan,
    /// Vectors in all.
    pub rows: usize,
    /// Pictures that were refused.
    pub refused: usize,
    /// By number.
    pub shards: Vec<ShardEntry>,
    /// SHA-256 of the table.
    pub rows_sha256: Digest,
}

impl Manifest {
    /// Reads a folder's manifest, and the digest of its file.
    ///
    /// # Errors
    /// The folder is not finished.
    pub fn read(folder: &Folder) -> Result<(Self, Digest), EmbedError> {
        let file = folder.manifest();
        let bytes = read(&file)?;
        let manifest =
            serde_json::from_slice(&bytes).map_err(|source| EmbedError::Json { file, source })?;
        Ok((manifest, Digest::of(&bytes)))
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Vectors.
    pub rows: usize,
    /// Pictures.
    pub images: usize,
    /// Of these, refused.
    pub refused: usize,
}

/// Verifies every shard and writes table, refused pictures and manifest; fails where a larger
/// share than `refused_max` of the pictures was refused.
///
/// # Errors
/// A shard is missing or damaged, too many pictures were refused, or the disk fails.
pub fn finish(folder: &Folder, refused_max: f64) -> Result<Finished, EmbedError> {
    let (plan, digest) = Plan::read(folder)?;
    let records = read_images(folder, &plan)?;
    let shards = table(folder, (&plan, digest), &records)?;
    let refused: Vec<_> = shards.iter().flat_map(|done| &done.refused).collect();
    write_refused(folder, &refused)?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 pictures")]
    let found = refused.len() as f64 / plan.images.max(1) as f64;
    if found > refused_max {
        return Err(EmbedError::TooManyRefused { expected: refused_max, found });
    }
    let entry = |done: &Done| ShardEntry { rows: done.rows, sha256: done.sha256 };
    let manifest = Manifest {
        v: plan.v,
        software: env!("CARGO_PKG_VERSION").into(),
        rows: shards.iter().map(|done| done.rows).sum(),
        refused: refused.len(),
        shards: shards.iter().map(entry).collect(),
        rows_sha256: Digest::of(&read(&folder.rows())?),
        plan,
    };
    put(&folder.manifest(), &json(&folder.manifest(), &manifest)?)?;
    sweep(&folder.path)?;
    sweep(&folder.shards())?;
    Ok(Finished { rows: manifest.rows, images: manifest.plan.images, refused: manifest.refused })
}

/// Writes the table of all rows; the record of each shard.
fn table(
    folder: &Folder,
    (plan, digest): (&Plan, Digest),
    records: &[Record],
) -> Result<Vec<Done>, EmbedError> {
    let (mut shards, mut missing) = (Vec::new(), Vec::new());
    let new = beside(&folder.rows())?;
    let mut writer = TableWriter::new(new.path(), &plan.labels)?;
    let mut table = Table::new(&plan.labels);
    for index in 0..plan.shards() {
        let Some((done, bytes)) = valid(folder, digest, index)? else {
            missing.push(index.to_string());
            continue;
        };
        add(&mut table, records, index, &Said::read(&bytes, &folder.shard(index))?);
        if table.count() >= ROWS_AT_ONCE {
            writer.append(&table)?;
            table = Table::new(&plan.labels);
        }
        shards.push(done);
    }
    if !missing.is_empty() {
        let (count, missing) = (plan.shards(), missing.join(", "));
        return Err(EmbedError::Unfinished { folder: folder.path.clone(), count, missing });
    }
    writer.append(&table)?;
    writer.finish()?;
    persist(new, &folder.rows())?;
    Ok(shards)
}

fn add(table: &mut Table, records: &[Record], shard: usize, said: &Said) {
    // A plan has fewer than 2^32 pictures, and no more shards or rows of a shard than that.
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let rows = said.images.iter().zip(&said.views).zip(&said.digests).zip(&said.intensity);
    for (at, (((image, view), digest), intensity)) in rows.enumerate() {
        let Some(record) = records.get(*image as usize) else { continue };
        table.push(&Row {
            record,
            sha256: &digest.to_string(),
            view: *view,
            intensity: *intensity,
            shard: number(shard),
            row: number(at),
        });
    }
}

fn write_refused(folder: &Folder, refused: &[&super::Refused]) -> Result<(), EmbedError> {
    let file = folder.refused();
    let failed = |error: csv::Error| io("forming", &file)(std::io::Error::other(error.to_string()));
    let mut lines = csv::Writer::from_writer(Vec::new());
    lines.write_record(["image", "code", "text"]).map_err(failed)?;
    for one in refused {
        lines.write_record([&one.image, &one.code, &one.text]).map_err(failed)?;
    }
    let bytes = lines.into_inner().map_err(|error| io("forming", &file)(error.into_error()))?;
    Ok(put(&file, &bytes)?)
}

/// Removes what killed processes left half written.
fn sweep(folder: &Path) -> Result<(), EmbedError> {
    for entry in fs::read_dir(folder).map_err(io("reading", folder))? {
        let path = entry.map_err(io("reading", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(UNFINISHED) {
            fs::remove_file(&path).map_err(io("removing", &path))?;
        }
    }
    Ok(())
}
