//! From a collection's folder and tables to a list of pictures with what is known of each.
//!
//! Every collection has its own tables; here they become [`Record`]s. Pictures that a table names
//! but that are not below the root (a part of a collection was fetched) are left out and counted.

mod chexpert;
mod columns;
mod mimic;
mod nih;
mod openi;
mod report;
mod sheet;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::table::Record;

pub use columns::Columns;
pub use report::{Report, Reports, TextTable, activations};

/// How a collection lies on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// CheXpert, `train.csv` and `valid.csv`.
    Chexpert,
    /// MIMIC-CXR and MIMIC-CXR-JPG 2.0.0.
    Mimic,
    /// NIH `ChestX-ray14`.
    Nih,
    /// Open-i, Indiana University.
    Openi,
    /// One table whose columns are named.
    Csv(Box<Columns>),
    /// Every picture file below the root; nothing is known of any.
    Files,
}

/// The pictures of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Names of the labels, in the order of [`Record::labels`].
    pub labels: Vec<String>,
    /// By path, each path once.
    pub records: Vec<Record>,
    /// Pictures that the tables name and that are not there.
    pub absent: usize,
}

/// A collection that cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file or folder cannot be read.
    #[error("reading {}: {source}", file.display())]
    Io {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// None of the tables is there.
    #[error("{}: expected {expected}, found none", root.display())]
    Table {
        /// Where it was looked for.
        root: PathBuf,
        /// Which files were looked for.
        expected: String,
    },
    /// A table is no CSV.
    #[error("reading {}: {source}", file.display())]
    Csv {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// A report is no XML, or has no name.
    #[error("reading {}: {text}", file.display())]
    Xml {
        /// Which file.
        file: PathBuf,
        /// Expected and found.
        text: String,
    },
    /// A column is missing.
    #[error("{}: expected a column {column}, found {found}", file.display())]
    Missing {
        /// Which file.
        file: PathBuf,
        /// Which column.
        column: String,
        /// The columns there are.
        found: String,
    },
    /// A column or value that has no meaning in this layout.
    #[error("{}: expected {expected}, found {found:?}", file.display())]
    Unknown {
        /// Which file.
        file: PathBuf,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A cell is not what its column holds.
    #[error("{} line {line}: column {column}: expected {expected}, found {found:?}", file.display())]
    Cell {
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: u64,
        /// Which column.
        column: String,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Two rows of the tables are about one picture.
    #[error("{}: expected one row for each picture, found two for {image}", root.display())]
    Twice {
        /// The collection.
        root: PathBuf,
        /// The picture's path.
        image: String,
    },
    /// Not a single picture is there.
    #[error("{}: expected pictures, found none of {absent} that the tables name", root.display())]
    Empty {
        /// The collection.
        root: PathBuf,
        /// Pictures that the tables name.
        absent: usize,
    },
}

impl Layout {
    /// Lists the pictures below `root`, by path.
    ///
    /// # Errors
    /// A table is missing, or a column or cell is not what this layout says; or there is no
    /// picture.
    pub fn list(&self, root: &Path) -> Result<Listing, LayoutError> {
        let mut listing = match self {
            Self::Chexpert => chexpert::list(root),
            Self::Mimic => mimic::list(root),
            Self::Nih => nih::list(root),
            Self::Openi => openi::list(root),
            Self::Csv(columns) => columns.list(root),
            Self::Files => files(root),
        }?;
        listing.records.sort_by(|a, b| a.image.cmp(&b.image));
        if let Some([one, _]) = listing.records.array_windows().find(|[a, b]| a.image == b.image) {
            return Err(LayoutError::Twice { root: root.into(), image: one.image.clone() });
        }
        if listing.records.is_empty() {
            return Err(LayoutError::Empty { root: root.into(), absent: listing.absent });
        }
        Ok(listing)
    }
}

fn files(root: &Path) -> Result<Listing, LayoutError> {
    let records = tree::pictures(root)?.into_iter();
    let records = records.map(|image| Record { image, ..Record::default() }).collect();
    Ok(Listing { labels: Vec::new(), records, absent: 0 })
}

/// `PA`, `AP`, `LL`, ...: a lateral view whose side is not told counts as `LL`, as on the device.
fn position(text: &str) -> Option<String> {
    match text.trim().to_uppercase().as_str() {
        "" | "UNKNOWN" => None,
        "LATERAL" | "LAT" => Some("LL".into()),
        other => Some(other.into()),
    }
}

/// `F` or `M`, or the word that stands there.
fn sex(text: &str) -> Option<String> {
    match text.trim().to_uppercase().as_str() {
        "" | "UNKNOWN" => None,
        "FEMALE" => Some("F".into()),
        "MALE" => Some("M".into()),
        other => Some(other.into()),
    }
}
