//! MIMIC-CXR and MIMIC-CXR-JPG 2.0.0 (Johnson et al. 2019).
//!
//! `mimic-cxr-2.0.0-{metadata,split,chexpert}.csv`, also gzipped; pictures lie at
//! `files/p10/p10000032/s50414267/<dicom_id>.jpg` or `.dcm`.

use std::collections::HashMap;
use std::path::Path;

use super::chexpert::LABELS;
use super::sheet::{Column, Sheet};
use super::{LayoutError, Listing, position};
use crate::table::{Mark, Record};

pub(super) fn list(root: &Path) -> Result<Listing, LayoutError> {
    let splits = splits(root)?;
    let marks = marks(root)?;
    let sheet = Sheet::expect(root, "mimic-cxr-2.0.0-metadata.csv")?;
    let [dicom, subject, study] =
        ["dicom_id", "subject_id", "study_id"].map(|name| sheet.column(name));
    let (dicom, subject, study) = (dicom?, subject?, study?);
    let [view, rows, columns] = ["ViewPosition", "Rows", "Columns"].map(|name| sheet.column(name));
    let (view, rows, columns) = (view?, rows?, columns?);
    let labels = LABELS.map(String::from).into();
    let mut listing = Listing { labels, records: Vec::new(), absent: 0 };
    for cells in sheet.rows() {
        let id = cells.needed(&dicom)?;
        let (patient, number) = (cells.needed(&subject)?, cells.needed(&study)?);
        let group = patient.get(..2).unwrap_or(patient);
        let stem = format!("files/p{group}/p{patient}/s{number}/{id}");
        let files = ["jpg", "dcm"].map(|ending| format!("{stem}.{ending}"));
        let Some(image) = files.into_iter().find(|file| root.join(file).is_file()) else {
            listing.absent += 1;
            continue;
        };
        listing.records.push(Record {
            image,
            patient: Some(patient.into()),
            study: Some(number.into()),
            split: splits.get(id).cloned(),
            position: cells.text(&view).and_then(position),
            rows: cells.whole(&rows)?,
            columns: cells.whole(&columns)?,
            labels: marks.get(number).cloned().unwrap_or_else(|| vec![None; LABELS.len()]),
            ..Record::default()
        });
    }
    Ok(listing)
}

/// The split of each picture, by its `dicom_id`.
fn splits(root: &Path) -> Result<HashMap<String, String>, LayoutError> {
    let sheet = Sheet::expect(root, "mimic-cxr-2.0.0-split.csv")?;
    let (id, split) = (sheet.column("dicom_id")?, sheet.column("split")?);
    let row = |cells: super::sheet::Cells<'_>| {
        Ok((cells.needed(&id)?.to_owned(), cells.needed(&split)?.to_owned()))
    };
    sheet.rows().map(row).collect()
}

/// The labels of each study, by its `study_id`. Some studies have no row.
fn marks(root: &Path) -> Result<HashMap<String, Vec<Option<Mark>>>, LayoutError> {
    let sheet = Sheet::expect(root, "mimic-cxr-2.0.0-chexpert.csv")?;
    sheet.only(&[["subject_id", "study_id"].as_slice(), &LABELS].concat())?;
    let study = sheet.column("study_id")?;
    let labels: Vec<Column> =
        LABELS.iter().map(|label| sheet.column(label)).collect::<Result<_, _>>()?;
    let mut marks = HashMap::new();
    for cells in sheet.rows() {
        let row: Result<_, LayoutError> = labels.iter().map(|label| cells.mark(label)).collect();
        marks.insert(cells.needed(&study)?.to_owned(), row?);
    }
    Ok(marks)
}
