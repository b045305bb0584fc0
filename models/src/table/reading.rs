//! Tables from Parquet files.

use std::fs::File;
use std::path::Path;

use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::writing::failed;
use super::{Intensity, LABEL, Label, Mark, NoMark, Table, TableError, Texts};

/// Reads a table; columns that it does not know are left out.
///
/// # Errors
/// The file cannot be read, or a column is missing or holds something else.
pub fn read(file: &Path) -> Result<Table, TableError> {
    let from = File::open(file).map_err(|source| TableError::Io {
        action: "opening",
        file: file.into(),
        source,
    })?;
    let reader = SerializedFileReader::new(from).map_err(failed("opening", file))?;
    let from = Reading { file, reader };
    let mut table = Table::new(&[]);
    table.image = from.names_of("image")?;
    table.sha256 = from.names_of("image_sha256")?;
    table.patient = from.texts("patient")?;
    table.study = from.texts("study")?;
    table.split = from.texts("split")?;
    table.position = from.texts("position")?;
    table.sex = from.texts("sex")?;
    table.view = from.counts("view")?;
    table.age = from.numbers("age")?;
    table.follow_up = from.numbers("follow_up")?;
    table.spacing_mm = from.reals("spacing_mm")?;
    table.rows = from.numbers("rows")?;
    table.columns = from.numbers("columns")?;
    table.intensity = vec![Intensity::default(); table.view.len()];
    for (at, name) in Intensity::NAMES.into_iter().enumerate() {
        let values = from.every::<FloatType>(name, "fp32 in every row")?;
        for (one, value) in table.intensity.iter_mut().zip(values) {
            one.0[at] = value;
        }
    }
    for name in from.names() {
        if let Some(label) = name.strip_prefix(LABEL) {
            let marks = from.marks(&name)?;
            table.labels.push(Label { name: label.into(), marks });
        }
    }
    table.shard = from.counts("shard")?;
    table.row = from.counts("row")?;
    Ok(table)
}

/// A file whose columns are asked for by name.
struct Reading<'a> {
    file: &'a Path,
    reader: SerializedFileReader<File>,
}

/// A column as it was read: its values that are known, and in which rows they stand.
struct Read<D: DataType> {
    values: Vec<D::T>,
    known: Vec<bool>,
}

impl<D: DataType> Read<D> {
    fn rows<T>(self, value: impl Fn(D::T) -> T) -> Vec<Option<T>> {
        let mut values = self.values.into_iter().map(value);
        self.known.into_iter().map(|known| if known { values.next() } else { None }).collect()
    }
}

impl Reading<'_> {
    fn names(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.name().to_owned()).collect()
    }

    fn unfit(&self, column: &str, expected: &'static str, found: String) -> TableError {
        TableError::Column { file: self.file.into(), column: column.into(), expected, found }
    }

    /// All rows of a column of every group.
    fn read<D: DataType>(&self, name: &str, expected: &'static str) -> Result<Read<D>, TableError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let found = schema.columns().iter().enumerate().find(|(_, c)| c.name() == name);
        let (at, column) = found.ok_or_else(|| self.unfit(name, expected, "none".into()))?;
        let physical = column.physical_type();
        if physical != D::get_physical_type() || column.max_rep_level() > 0 {
            return Err(self.unfit(name, expected, format!("{physical}")));
        }
        let nullable = column.max_def_level() > 0;
        let mut read = Read { values: Vec::new(), known: Vec::new() };
        for group in 0..self.reader.num_row_groups() {
            self.group(&mut read, [group, at], nullable).map_err(failed("reading", self.file))?;
        }
        Ok(read)
    }

    fn group<D: DataType>(
        &self,
        to: &mut Read<D>,
        [group, at]: [usize; 2],
        nullable: bool,
    ) -> Result<(), ParquetError> {
        let group = self.reader.get_row_group(group)?;
        let rows = usize::try_from(group.metadata().num_rows())?;
        let other = || ParquetError::General("expected another type of column".into());
        let mut column = D::get_column_reader(group.get_column_reader(at)?).ok_or_else(other)?;
        let mut left = rows;
        while left > 0 {
            let mut levels = Vec::new();
            let (read, ..) = column.read_records(left, Some(&mut levels), None, &mut to.values)?;
            if read == 0 {
                return Err(ParquetError::EOF(format!("expected {rows} rows, {left} are missing")));
            }
            if nullable {
                to.known.extend(levels.iter().map(|level| *level > 0));
            } else {
                to.known.extend(std::iter::repeat_n(true, read));
            }
            left -= read;
        }
        Ok(())
    }

    /// A column that is known in every row.
    fn every<D: DataType>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Vec<D::T>, TableError> {
        let read = self.read::<D>(name, expected)?;
        match read.known.iter().position(|known| !known) {
            Some(row) => Err(self.unfit(name, expected, format!("none in row {row}"))),
            None => Ok(read.values),
        }
    }

    fn texts(&self, name: &str) -> Result<Texts, TableError> {
        let mut texts = Texts::default();
        for row in self.read::<ByteArrayType>(name, "texts")?.rows(|bytes: ByteArray| bytes) {
            let text = row
                .as_ref()
                .map(|bytes| {
                    std::str::from_utf8(bytes.data())
                        .map_err(|e| self.unfit(name, "texts in UTF-8", e.to_string()))
                })
                .transpose()?;
            texts.push(text);
        }
        Ok(texts)
    }

    /// Texts that are known in every row.
    fn names_of(&self, name: &str) -> Result<Texts, TableError> {
        let texts = self.texts(name)?;
        match texts.rows.iter().position(Option::is_none) {
            Some(row) => Err(self.unfit(name, "a text in every row", format!("none in row {row}"))),
            None => Ok(texts),
        }
    }

    fn counts(&self, name: &str) -> Result<Vec<u32>, TableError> {
        let bits = self.every::<Int32Type>(name, "a whole number in every row")?;
        Ok(bits.into_iter().map(i32::cast_unsigned).collect())
    }

    fn numbers(&self, name: &str) -> Result<Vec<Option<i32>>, TableError> {
        Ok(self.read::<Int32Type>(name, "whole numbers")?.rows(|number| number))
    }

    fn reals(&self, name: &str) -> Result<Vec<Option<f32>>, TableError> {
        Ok(self.read::<FloatType>(name, "fp32")?.rows(|real| real))
    }

    fn marks(&self, name: &str) -> Result<Vec<Option<Mark>>, TableError> {
        let mark = |number: Option<i32>| number.map(Mark::try_from).transpose();
        let marks: Result<_, NoMark> = self.numbers(name)?.into_iter().map(mark).collect();
        marks.map_err(|NoMark(found)| self.unfit(name, "labels of 1, 0 or -1", found))
    }
}
