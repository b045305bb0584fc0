//! What is known of each vector: the picture it was made from, the patient, labels, intensity.
//!
//! A table is kept column by column, and each distinct text once, because 128 views of 200,000
//! pictures repeat the same few hundred thousand texts. `docs/embeddings.md` describes the file.

mod reading;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub use reading::read;
pub use writing::{TableError, TableWriter, write};

/// What the columns of labels are called in the file, before the label's own name.
pub const LABEL: &str = "label:";

/// What a label says of a picture; where it says nothing there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "i32", try_from = "i32")]
pub enum Mark {
    /// 0: it is said not to be there.
    Absent,
    /// 1: it is said to be there.
    Present,
    /// -1: mentioned, but uncertain.
    Uncertain,
}

impl From<Mark> for i32 {
    fn from(mark: Mark) -> Self {
        match mark {
            Mark::Absent => 0,
            Mark::Present => 1,
            Mark::Uncertain => -1,
        }
    }
}

/// A number that is no [`Mark`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a label of 1, 0 or -1, found {0}")]
pub struct NoMark(pub String);

impl TryFrom<i32> for Mark {
    type Error = NoMark;

    fn try_from(number: i32) -> Result<Self, NoMark> {
        match number {
            0 => Ok(Self::Absent),
            1 => Ok(Self::Present),
            -1 => Ok(Self::Uncertain),
            other => Err(NoMark(other.to_string())),
        }
    }
}

/// One picture as the tables of its collection describe it; what they do not tell is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Path below the collection's root, with `/`.
    pub image: String,
    /// Whose picture it is, in the collection's own numbering.
    pub patient: Option<String>,
    /// The examination that it belongs to.
    pub study: Option<String>,
    /// Which part of the collection: `train`, `dev`, `test`, ...
    pub split: Option<String>,
    /// How the X-rays went: `PA`, `AP`, `LL`, ..., upper case.
    pub position: Option<String>,
    /// `F` or `M`, or what else the table says, upper case.
    pub sex: Option<String>,
    /// Whole years.
    pub age: Option<i32>,
    /// Number of the examination since the patient's first, from 0.
    pub follow_up: Option<i32>,
    /// Distance of two pixels of the original, mm.
    pub spacing_mm: Option<f32>,
    /// Rows of the original.
    pub rows: Option<i32>,
    /// Columns of the original.
    pub columns: Option<i32>,
    /// One a label of the collection, in its order.
    pub labels: Vec<Option<Mark>>,
}

/// Eight statistics of the fitted 8-bit picture, in the order of [`Intensity::NAMES`]; grey levels
/// 0 to 255, the last one a share.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Intensity(pub [f32; 8]);

impl Intensity {
    /// Names of the columns: mean, standard deviation, five percentiles, share of pixels that are
    /// 0 or 255.
    pub const NAMES: [&str; 8] = [
        "intensity_mean",
        "intensity_sd",
        "intensity_p01",
        "intensity_p25",
        "intensity_p50",
        "intensity_p75",
        "intensity_p99",
        "intensity_saturated",
    ];
}

/// One vector: its picture, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// What the collection says.
    pub record: &'a Record,
    /// SHA-256 of the picture's file, `sha256:` and 64 hexadecimal digits.
    pub sha256: &'a str,
    /// 0: as the device sees it; more: a view that was drawn.
    pub view: u32,
    /// Of the view.
    pub intensity: Intensity,
    /// Number of the shard.
    pub shard: u32,
    /// Row of the shard's tensor.
    pub row: u32,
}

/// A column of texts, each distinct one kept once.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    distinct: Vec<String>,
    known: HashMap<String, u32>,
    rows: Vec<Option<u32>>,
}

impl PartialEq for Texts {
    /// The same texts in the same rows.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Texts {
    /// The text of a row; none where it is not known.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&str> {
        self.rows.get(row).copied().flatten().map(|at| self.distinct[at as usize].as_str())
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.rows.len()).map(|row| self.get(row))
    }

    /// Distinct texts in the order of their first row.
    #[must_use]
    pub fn distinct(&self) -> &[String] {
        &self.distinct
    }

    /// Which distinct text stands in each row; a key to group by.
    #[must_use]
    pub fn keys(&self) -> &[Option<u32>] {
        &self.rows
    }

    /// Adds a row.
    pub fn push(&mut self, text: Option<&str>) {
        let key = text.map(|text| {
            self.known.get(text).copied().unwrap_or_else(|| {
                let at = u32::try_from(self.distinct.len()).expect("fewer texts than 2^32");
                self.distinct.push(text.to_owned());
                self.known.insert(text.to_owned(), at);
                at
            })
        });
        self.rows.push(key);
    }
}

/// A label's column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Label {
    /// As the collection writes it.
    pub name: String,
    /// One a row.
    pub marks: Vec<Option<Mark>>,
}

/// One row a vector; the fields are those of [`Row`] and [`Record`], each `[n]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Known in every row.
    pub image: Texts,
    /// Known in every row.
    pub sha256: Texts,
    /// See [`Record::patient`].
    pub patient: Texts,
    /// See [`Record::study`].
    pub study: Texts,
    /// See [`Record::split`].
    pub split: Texts,
    /// See [`Record::position`].
    pub position: Texts,
    /// See [`Row::view`].
    pub view: Vec<u32>,
    /// See [`Record::sex`].
    pub sex: Texts,
    /// See [`Record::age`].
    pub age: Vec<Option<i32>>,
    /// See [`Record::follow_up`].
    pub follow_up: Vec<Option<i32>>,
    /// See [`Record::spacing_mm`].
    pub spacing_mm: Vec<Option<f32>>,
    /// See [`Record::rows`].
    pub rows: Vec<Option<i32>>,
    /// See [`Record::columns`].
    pub columns: Vec<Option<i32>>,
    /// See [`Row::intensity`].
    pub intensity: Vec<Intensity>,
    /// See [`Record::labels`].
    pub labels: Vec<Label>,
    /// See [`Row::shard`].
    pub shard: Vec<u32>,
    /// See [`Row::row`].
    pub row: Vec<u32>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(labels: &[String]) -> Self {
        let label = |name: &String| Label { name: name.clone(), marks: Vec::new() };
        Self { labels: labels.iter().map(label).collect(), ..Self::default() }
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.view.len()
    }

    /// The column of a label; none where the collection has no such label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&[Option<Mark>]> {
        self.labels.iter().find(|l| l.name == name).map(|l| l.marks.as_slice())
    }

    /// Adds a row; labels that its record does not have are not known.
    pub fn push(&mut self, row: &Row<'_>) {
        let record = row.record;
        self.image.push(Some(&record.image));
        self.sha256.push(Some(row.sha256));
        self.patient.push(record.patient.as_deref());
        self.study.push(record.study.as_deref());
        self.split.push(record.split.as_deref());
        self.position.push(record.position.as_deref());
        self.sex.push(record.sex.as_deref());
        self.view.push(row.view);
        self.age.push(record.age);
        self.follow_up.push(record.follow_up);
        self.spacing_mm.push(record.spacing_mm);
        self.rows.push(record.rows);
        self.columns.push(record.columns);
        self.intensity.push(row.intensity);
        for (at, label) in self.labels.iter_mut().enumerate() {
            label.marks.push(record.labels.get(at).copied().flatten());
        }
        self.shard.push(row.shard);
        self.row.push(row.row);
    }
}
