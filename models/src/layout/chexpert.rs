//! CheXpert (Irvin et al. 2019), original or "small": `train.csv` and `valid.csv`.
//!
//! `Path,Sex,Age,Frontal/Lateral,AP/PA` and 14 labels; an empty label is not known here, although
//! the labeller meant "not mentioned".

use std::path::Path;

use super::sheet::{Cells, Column, Sheet};
use super::{LayoutError, Listing, position, sex};
use crate::table::Record;

/// The labels, as CheXpert's and MIMIC-CXR's tables write them.
pub(super) const LABELS: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// Tables, and the split that each is.
const TABLES: [(&str, &str); 3] =
    [("train.csv", "train"), ("valid.csv", "valid"), ("test.csv", "test")];

struct Columns {
    path: Column,
    sex: Column,
    age: Column,
    plane: Column,
    projection: Column,
    labels: Vec<Column>,
}

pub(super) fn list(root: &Path) -> Result<Listing, LayoutError> {
    let labels = LABELS.map(String::from).into();
    let mut listing = Listing { labels, records: Vec::new(), absent: 0 };
    let mut found = false;
    for (name, split) in TABLES {
        let Some(sheet) = Sheet::find(root, name)? else { continue };
        found = true;
        let columns = Columns::of(&sheet)?;
        for cells in sheet.rows() {
            match columns.record(root, split, &cells)? {
                Some(record) => listing.records.push(record),
                None => listing.absent += 1,
            }
        }
    }
    let expected = || "train.csv, valid.csv or test.csv".into();
    if found {
        Ok(listing)
    } else {
        Err(LayoutError::Table { root: root.into(), expected: expected() })
    }
}

impl Columns {
    fn of(sheet: &Sheet) -> Result<Self, LayoutError> {
        let own = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"];
        sheet.only(&[own.as_slice(), &LABELS].concat())?;
        Ok(Self {
            path: sheet.column("Path")?,
            sex: sheet.column("Sex")?,
            age: sheet.column("Age")?,
            plane: sheet.column("Frontal/Lateral")?,
            projection: sheet.column("AP/PA")?,
            labels: LABELS.iter().map(|label| sheet.column(label)).collect::<Result<_, _>>()?,
        })
    }

    /// One row; none where its picture is not there.
    fn record(
        &self,
        root: &Path,
        split: &str,
        cells: &Cells<'_>,
    ) -> Result<Option<Record>, LayoutError> {
        // The tables' paths begin with the collection's own folder, which mostly is the root.
        let path = cells.needed(&self.path)?;
        let below = path.split_once('/').map_or(path, |(_, below)| below);
        let Some(image) = [path, below].into_iter().find(|p| root.join(p).is_file()) else {
            return Ok(None);
        };
        let parts: Vec<&str> = path.split('/').collect();
        let patient = parts.iter().find(|part| part.starts_with("patient"));
        let study = parts.iter().find(|part| part.starts_with("study"));
        let side = cells.text(&self.projection).or(cells.text(&self.plane));
        Ok(Some(Record {
            image: image.into(),
            patient: patient.map(|patient| (*patient).into()),
            study: patient.zip(study).map(|(patient, study)| format!("{patient}/{study}")),
            split: Some(split.into()),
            // "Frontal" alone does not say how the ray went.
            position: side.and_then(position).filter(|position| position != "FRONTAL"),
            sex: cells.text(&self.sex).and_then(sex),
            age: cells.whole(&self.age)?,
            labels: self.labels.iter().map(|l| cells.mark(l)).collect::<Result<_, _>>()?,
            ..Record::default()
        }))
    }
}
