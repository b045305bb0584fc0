//! NIH ChestX-ray14 (Wang et al. 2017): `Data_Entry_2017_v2020.csv`, `train_val_list.txt` and
//! `test_list.txt`; pictures lie anywhere below the root.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::sheet::{Cells, Column, Sheet};
use super::{LayoutError, Listing, position, sex, tree};
use crate::table::{Mark, Record};

/// The labels, as `Finding Labels` writes them.
const LABELS: [&str; 15] = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
    "No Finding",
];

/// Names of the table: as corrected in 2020, and as first published.
const TABLES: [&str; 2] = ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"];

/// Columns by their names. Those with brackets are two columns of the CSV, because nobody quoted
/// the comma between them.
const COLUMNS: [&str; 11] = [
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
];

pub(super) fn list(root: &Path) -> Result<Listing, LayoutError> {
    let sheets = TABLES.map(|name| Sheet::find(root, name));
    let mut sheet = None;
    for found in sheets {
        sheet = sheet.or(found?);
    }
    let expected = || TABLES.join(" or ");
    let sheet =
        sheet.ok_or_else(|| LayoutError::Table { root: root.into(), expected: expected() })?;
    sheet.only(&COLUMNS)?;
    let columns: Vec<Column> =
        COLUMNS.iter().map(|name| sheet.column(name)).collect::<Result<_, _>>()?;
    let (splits, files) = (splits(root)?, pictures(root)?);
    let labels = LABELS.map(String::from).into();
    let mut listing = Listing { labels, records: Vec::new(), absent: 0 };
    for cells in sheet.rows() {
        let name = cells.needed(&columns[0])?;
        match files.get(name) {
            Some(path) => {
                let split = splits.get(name).copied();
                listing.records.push(record(&sheet, &columns, &cells, path, split)?);
            }
            None => listing.absent += 1,
        }
    }
    Ok(listing)
}

fn record(
    sheet: &Sheet,
    columns: &[Column],
    cells: &Cells<'_>,
    path: &str,
    split: Option<&str>,
) -> Result<Record, LayoutError> {
    let findings: Vec<&str> = cells.needed(&columns[1])?.split('|').map(str::trim).collect();
    if let Some(found) = findings.iter().find(|finding| !LABELS.contains(finding)) {
        return Err(sheet.unknown("a label of this collection", found));
    }
    let mark = |label: &&str| if findings.contains(label) { Mark::Present } else { Mark::Absent };
    Ok(Record {
        image: path.into(),
        patient: cells.owned(&columns[3]),
        // Every picture is an examination of its own; its name says of whom and which.
        study: cells.needed(&columns[0])?.split('.').next().map(Into::into),
        split: split.map(Into::into),
        position: cells.text(&columns[6]).and_then(position),
        sex: cells.text(&columns[5]).and_then(sex),
        age: cells.whole(&columns[4])?,
        follow_up: cells.whole(&columns[2])?,
        spacing_mm: cells.single(&columns[9])?,
        rows: cells.whole(&columns[8])?,
        columns: cells.whole(&columns[7])?,
        labels: LABELS.iter().map(|label| Some(mark(label))).collect(),
    })
}

/// The split of each picture: the collection's own lists, where they are there.
fn splits(root: &Path) -> Result<HashMap<String, &'static str>, LayoutError> {
    let mut splits = HashMap::new();
    for (name, split) in [("train_val_list.txt", "train"), ("test_list.txt", "test")] {
        let file = root.join(name);
        if file.is_file() {
            let text = fs::read_to_string(&file)
                .map_err(|source| LayoutError::Io { file: file.clone(), source })?;
            splits.extend(text.lines().map(|line| (line.trim().to_owned(), split)));
        }
    }
    Ok(splits)
}

/// Where each picture lies, by its name; the first of several by path.
fn pictures(root: &Path) -> Result<BTreeMap<String, String>, LayoutError> {
    let mut files = BTreeMap::new();
    for path in tree::pictures(root)? {
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        files.entry(name).or_insert(path);
    }
    Ok(files)
}
