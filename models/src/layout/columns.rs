//! Any collection that one CSV table describes: its columns are named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sheet::{Cells, Column, Sheet};
use super::{LayoutError, Listing, position, sex, tree};
use crate::table::{Mark, Record};

/// Which column holds what. A column that is not named counts where it has the name of its field
/// (`image`, `patient`, `study`, `split`, `position`, `sex`, `age`, `follow_up`, `spacing_mm`,
/// `rows`, `columns`); one that is named has to be there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The table, below the root.
    pub table: PathBuf,
    /// Folder below the root that the pictures' paths begin in; empty: the root.
    pub images: PathBuf,
    /// Path or name of the picture; its ending may be missing.
    pub image: Option<String>,
    /// See [`Record::patient`].
    pub patient: Option<String>,
    /// See [`Record::study`].
    pub study: Option<String>,
    /// See [`Record::split`].
    pub split: Option<String>,
    /// See [`Record::position`].
    pub position: Option<String>,
    /// See [`Record::sex`].
    pub sex: Option<String>,
    /// See [`Record::age`].
    pub age: Option<String>,
    /// See [`Record::follow_up`].
    pub follow_up: Option<String>,
    /// See [`Record::spacing_mm`].
    pub spacing_mm: Option<String>,
    /// See [`Record::rows`].
    pub rows: Option<String>,
    /// See [`Record::columns`].
    pub columns: Option<String>,
    /// Columns of 1, 0, -1 or nothing, each a label.
    pub labels: Vec<String>,
    /// A column of words: each word is a label, 1 where it stands and 0 elsewhere.
    pub class: Option<String>,
}

/// The columns as they stand in the table.
struct Found {
    image: Column,
    texts: [Option<Column>; 5],
    wholes: [Option<Column>; 4],
    spacing: Option<Column>,
    labels: Vec<Column>,
    class: Option<Column>,
}

impl Columns {
    pub(super) fn list(&self, root: &Path) -> Result<Listing, LayoutError> {
        let file = root.join(&self.table);
        if !file.is_file() {
            let expected = self.table.display().to_string();
            return Err(LayoutError::Table { root: root.into(), expected });
        }
        let sheet = Sheet::read(&file)?;
        let found = self.find(&sheet)?;
        let classes: BTreeSet<&str> = match &found.class {
            Some(class) => sheet.rows().filter_map(|cells| cells.text(class)).collect(),
            None => BTreeSet::new(),
        };
        let mut labels = self.labels.clone();
        labels.extend(classes.iter().map(|class| (*class).to_owned()));
        let mut listing = Listing { labels, records: Vec::new(), absent: 0 };
        for cells in sheet.rows() {
            match self.picture(root, cells.needed(&found.image)?) {
                Some(image) => listing.records.push(found.record(&cells, image, &classes)?),
                None => listing.absent += 1,
            }
        }
        Ok(listing)
    }

    fn find(&self, sheet: &Sheet) -> Result<Found, LayoutError> {
        let optional = |named: &Option<String>, usual: &str| match named {
            Some(name) => sheet.column(name).map(Some),
            None => Ok(sheet.column_if(usual)),
        };
        Ok(Found {
            image: sheet.column(self.image.as_deref().unwrap_or("image"))?,
            texts: [
                optional(&self.patient, "patient")?,
                optional(&self.study, "study")?,
                optional(&self.split, "split")?,
                optional(&self.position, "position")?,
                optional(&self.sex, "sex")?,
            ],
            wholes: [
                optional(&self.age, "age")?,
                optional(&self.follow_up, "follow_up")?,
                optional(&self.rows, "rows")?,
                optional(&self.columns, "columns")?,
            ],
            spacing: optional(&self.spacing_mm, "spacing_mm")?,
            labels: self.labels.iter().map(|l| sheet.column(l)).collect::<Result<_, _>>()?,
            class: self.class.as_ref().map(|class| sheet.column(class)).transpose()?,
        })
    }

    /// The picture's path below the root; none where it is not there.
    fn picture(&self, root: &Path, name: &str) -> Option<String> {
        let whole = self.images.join(name);
        let whole = whole.to_str()?;
        let with_ending = tree::PICTURES.iter().map(|ending| format!("{whole}.{ending}"));
        std::iter::once(whole.to_owned()).chain(with_ending).find(|path| root.join(path).is_file())
    }
}

impl Found {
    fn record(
        &self,
        cells: &Cells<'_>,
        image: String,
        classes: &BTreeSet<&str>,
    ) -> Result<Record, LayoutError> {
        let text = |at: usize| self.texts[at].as_ref().and_then(|column| cells.text(column));
        let whole = |at: usize| match &self.wholes[at] {
            Some(column) => cells.whole(column),
            None => Ok(None),
        };
        let mut labels: Vec<Option<Mark>> =
            self.labels.iter().map(|label| cells.mark(label)).collect::<Result<_, _>>()?;
        if let Some(column) = &self.class {
            let own = cells.text(column);
            let mark = |class: &&str| {
                own.map(|own| if own == *class { Mark::Present } else { Mark::Absent })
            };
            labels.extend(classes.iter().map(mark));
        }
        Ok(Record {
            image,
            patient: text(0).map(Into::into),
            study: text(1).map(Into::into),
            split: text(2).map(Into::into),
            position: text(3).and_then(position),
            sex: text(4).and_then(sex),
            age: whole(0)?,
            follow_up: whole(1)?,
            rows: whole(2)?,
            columns: whole(3)?,
            spacing_mm: match &self.spacing {
                Some(column) => cells.single(column)?,
                None => None,
            },
            labels,
        })
    }
}
