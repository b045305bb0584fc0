//! What was written about a collection's pictures, and latents that somebody else computed of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sheet::Sheet;
use super::{LayoutError, openi};
use crate::table::Mark;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The examination that it is about, in the collection's own numbering.
    pub id: String,
    /// Whose examination it was.
    pub patient: String,
    /// What was found and what is made of it; empty where nothing was written.
    pub text: String,
    /// One a label of the collection.
    pub labels: Vec<Option<Mark>>,
}

/// Reports of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reports {
    /// Names of the labels, in the order of [`Report::labels`].
    pub labels: Vec<String>,
    /// In the collection's order.
    pub reports: Vec<Report>,
}

/// A CSV table of reports, one a row, with names of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTable {
    /// The table; with `.gz` at its end it is gzipped.
    pub file: PathBuf,
    /// Column of the examination.
    pub id: String,
    /// Column of the patient.
    pub patient: String,
    /// Columns of text, in order.
    pub text: Vec<String>,
    /// Columns of labels: 1, 0, -1 or nothing.
    #[serde(default)]
    pub labels: Vec<String>,
}

impl Reports {
    /// Those of Open-i: sections FINDINGS and IMPRESSION; labels are headings.
    ///
    /// # Errors
    /// They are not there, or no XML.
    pub fn openi(root: &Path) -> Result<Self, LayoutError> {
        openi::reports(root)
    }

    /// Those of a table.
    ///
    /// # Errors
    /// It cannot be read, or a column or cell is not what it should be.
    pub fn of_table(table: &TextTable) -> Result<Self, LayoutError> {
        let sheet = Sheet::read(&table.file)?;
        let (id, patient) = (sheet.column(&table.id)?, sheet.column(&table.patient)?);
        let all = |names: &[String]| -> Result<Vec<_>, LayoutError> {
            names.iter().map(|name| sheet.column(name)).collect()
        };
        let (texts, labels) = (all(&table.text)?, all(&table.labels)?);
        let mut reports = Vec::new();
        for row in sheet.rows() {
            let parts: Vec<&str> = texts.iter().filter_map(|column| row.text(column)).collect();
            reports.push(Report {
                id: row.needed(&id)?.to_owned(),
                patient: row.needed(&patient)?.to_owned(),
                text: parts.join("\n"),
                labels: labels.iter().map(|column| row.mark(column)).collect::<Result<_, _>>()?,
            });
        }
        Ok(Self { labels: table.labels.clone(), reports })
    }
}

/// Reads activations from a CSV table with the columns `report`, `latent` and `activation`: one row
/// for each latent that fires on a report's pictures, the activation above 0.
///
/// # Errors
/// The file cannot be read, or a cell is not what its column holds.
pub fn activations(file: &Path) -> Result<Vec<(String, u32, f32)>, LayoutError> {
    let sheet = Sheet::read(file)?;
    let (report, latent) = (sheet.column("report")?, sheet.column("latent")?);
    let activation = sheet.column("activation")?;
    let mut found = Vec::new();
    for row in sheet.rows() {
        let unfit = |column, expected| row.unfit(column, expected, row.text(column).unwrap_or(""));
        let number = row.whole(&latent)?.and_then(|number| u32::try_from(number).ok());
        let number = number.ok_or_else(|| unfit(&latent, "a whole number of 0 or more"))?;
        let value = row.single(&activation)?.filter(|value| *value > 0.0);
        let value = value.ok_or_else(|| unfit(&activation, "a number above 0"))?;
        found.push((row.needed(&report)?.to_owned(), number, value));
    }
    Ok(found)
}
