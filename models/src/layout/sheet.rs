//! One table of a collection: CSV with a line of names, also gzipped.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::LayoutError;
use crate::table::Mark;

/// A table in memory. The largest known (MIMIC-CXR's metadata) has 377,000 rows of 12 cells.
pub(super) struct Sheet {
    pub(super) file: PathBuf,
    names: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

/// Where a column stands, and its name for errors.
#[derive(Debug, Clone)]
pub(super) struct Column {
    at: usize,
    name: String,
}

/// One row.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    sheet: &'a Sheet,
    row: &'a csv::StringRecord,
}

impl Sheet {
    /// Reads `name` or `name.gz` below `root`; none where neither is there.
    pub(super) fn find(root: &Path, name: &str) -> Result<Option<Self>, LayoutError> {
        for file in [root.join(name), root.join(format!("{name}.gz"))] {
            if file.is_file() {
                return Self::read(&file).map(Some);
            }
        }
        Ok(None)
    }

    /// As [`Self::find`], where it has to be there.
    pub(super) fn expect(root: &Path, name: &str) -> Result<Self, LayoutError> {
        let expected = || format!("{name} or {name}.gz");
        Self::find(root, name)?
            .ok_or_else(|| LayoutError::Table { root: root.into(), expected: expected() })
    }

    pub(super) fn read(file: &Path) -> Result<Self, LayoutError> {
        let io = |source| LayoutError::Io { file: file.into(), source };
        let bad = |source| LayoutError::Csv { file: file.into(), source };
        let opened = File::open(file).map_err(io)?;
        let gzipped = file.extension().is_some_and(|ending| ending == "gz");
        let from: Box<dyn Read> =
            if gzipped { Box::new(GzDecoder::new(opened)) } else { Box::new(opened) };
        let mut reader = csv::Reader::from_reader(from);
        let names = reader.headers().map_err(bad)?.iter();
        // Spreadsheets put a mark of byte order in front.
        let names = names.map(|name| name.trim_start_matches('\u{feff}').trim().to_owned());
        let names = names.collect();
        let rows = reader.records().collect::<Result<_, _>>().map_err(bad)?;
        Ok(Self { file: file.into(), names, rows })
    }

    /// A column that has to be there.
    pub(super) fn column(&self, name: &str) -> Result<Column, LayoutError> {
        self.column_if(name).ok_or_else(|| LayoutError::Missing {
            file: self.file.clone(),
            column: name.into(),
            found: self.names.join(", "),
        })
    }

    /// A column that may be there.
    pub(super) fn column_if(&self, name: &str) -> Option<Column> {
        let at = self.names.iter().position(|n| n == name)?;
        Some(Column { at, name: name.into() })
    }

    /// Refuses columns beside those that are known; one without a name is a comma too many.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), LayoutError> {
        match self.names.iter().find(|n| !n.is_empty() && !known.contains(&n.as_str())) {
            None => Ok(()),
            Some(found) => Err(self.unknown("only columns of this layout", found)),
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Cells<'_>> {
        self.rows.iter().map(|row| Cells { sheet: self, row })
    }

    pub(super) fn unknown(&self, expected: &'static str, found: &str) -> LayoutError {
        LayoutError::Unknown { file: self.file.clone(), expected, found: found.into() }
    }
}

impl<'a> Cells<'a> {
    /// The cell's text; none where it is empty.
    pub(super) fn text(&self, column: &Column) -> Option<&'a str> {
        self.row.get(column.at).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Text that has to be there.
    pub(super) fn needed(&self, column: &Column) -> Result<&'a str, LayoutError> {
        self.text(column).ok_or_else(|| self.unfit(column, "a text", ""))
    }

    pub(super) fn owned(&self, column: &Column) -> Option<String> {
        self.text(column).map(Into::into)
    }

    /// A number; none where the cell is empty.
    pub(super) fn real(&self, column: &Column) -> Result<Option<f64>, LayoutError> {
        let Some(text) = self.text(column) else { return Ok(None) };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Some).ok_or_else(|| self.unfit(column, "a number", text))
    }

    /// A number as fp32.
    #[expect(clippy::cast_possible_truncation, reason = "millimetres with a few digits")]
    pub(super) fn single(&self, column: &Column) -> Result<Option<f32>, LayoutError> {
        Ok(self.real(column)?.map(|number| number as f32))
    }

    /// A whole number, also written `58.0` or, as NIH's first table has ages, `058Y`.
    pub(super) fn whole(&self, column: &Column) -> Result<Option<i32>, LayoutError> {
        let Some(text) = self.text(column) else { return Ok(None) };
        let unfit = || self.unfit(column, "a whole number", text);
        let number: f64 = text.trim_end_matches('Y').parse().map_err(|_| unfit())?;
        #[expect(clippy::cast_possible_truncation, reason = "checked to come out the same")]
        let whole = number as i32;
        #[expect(clippy::float_cmp, reason = "whole or not is exact")]
        if f64::from(whole) == number { Ok(Some(whole)) } else { Err(unfit()) }
    }

    /// A label: 1, 0, -1, or nothing.
    pub(super) fn mark(&self, column: &Column) -> Result<Option<Mark>, LayoutError> {
        let unfit = || self.unfit(column, "a label of 1, 0 or -1", self.text(column).unwrap_or(""));
        let number = self.whole(column).map_err(|_| unfit())?;
        number.map(Mark::try_from).transpose().map_err(|_| unfit())
    }

    pub(super) fn unfit(
        &self,
        column: &Column,
        expected: &'static str,
        found: &str,
    ) -> LayoutError {
        LayoutError::Cell {
            file: self.sheet.file.clone(),
            line: self.row.position().map_or(0, csv::Position::line),
            column: column.name.clone(),
            expected,
            found: found.into(),
        }
    }
}
