//! Vectors of pictures, and what a table says of them.

use std::path::Path;

use clearfilm::bundle::Level;
use clearfilm_models::embed::{Folder, tensor};
use clearfilm_models::evaluate::evaluation::Loaded;
use clearfilm_models::evaluate::images::Columns;
use clearfilm_models::samples::{Part, Samples, SamplesError};
use clearfilm_models::table::{self, Intensity, Mark, Table, TableError, Texts};

/// A folder of vectors that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Samples(#[from] SamplesError),
}

/// Pictures as the device sees them, in the table's order, one row each (all tokens of a picture in
/// one); every file is the one that the folder's manifest lists.
pub(super) fn load(folder: &Path, level: Level) -> Result<Loaded, LoadError> {
    let part = Part { split: None, views: Some(1) };
    let samples = Samples::read_folder(folder, tensor(level), &part)?;
    let table = table::read(&Folder::at(folder).rows())?;
    let plain: Vec<usize> = (0..table.count()).filter(|row| table.view[*row] == 0).collect();
    let d = samples.values.len() / plain.len();
    Ok(Loaded { columns: columns(&table, &plain), embeddings: samples.values, d })
}

fn columns(table: &Table, rows: &[usize]) -> Columns {
    let texts = |of: &Texts| -> Vec<Option<String>> {
        rows.iter().map(|row| of.get(*row).map(str::to_owned)).collect()
    };
    let image: Vec<String> =
        texts(&table.image).into_iter().map(Option::unwrap_or_default).collect();
    // A picture of nobody known is a patient of its own.
    let patient = texts(&table.patient).into_iter().zip(&image);
    let number = |of: &dyn Fn(usize) -> Option<f64>| rows.iter().map(|row| of(*row)).collect();
    let whole = |of: &[Option<i32>]| number(&|row| of[row].map(f64::from));
    let mut numbers = [
        ("age", whole(&table.age)),
        ("follow_up", whole(&table.follow_up)),
        ("rows", whole(&table.rows)),
        ("columns", whole(&table.columns)),
        ("spacing_mm", number(&|row| table.spacing_mm[row].map(f64::from))),
    ]
    .map(|(name, values)| (name.to_owned(), values))
    .to_vec();
    for (at, name) in Intensity::NAMES.into_iter().enumerate() {
        let values = number(&|row| Some(f64::from(table.intensity[row].0[at])));
        numbers.push((name.to_owned(), values));
    }
    let words = [("position", texts(&table.position)), ("sex", texts(&table.sex))];
    let labels = table.labels.iter().map(|label| {
        let marks = rows.iter().map(|row| label.marks[*row].map(Mark::into));
        (label.name.clone(), marks.collect())
    });
    Columns {
        patient: patient.map(|(patient, image)| patient.unwrap_or_else(|| image.clone())).collect(),
        split: texts(&table.split),
        words: words.into_iter().map(|(name, values)| (name.to_owned(), values)).collect(),
        numbers: numbers.into_iter().collect(),
        labels: labels.collect(),
        image,
    }
}
