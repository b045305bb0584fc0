//! Tables to Parquet files, column by column with the low-level interface; no Arrow is needed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::{Intensity, LABEL, Mark, Table, Texts};

/// Rows of a group: a few megabytes a column, which is what the format's documents advise.
const GROUP_ROWS: usize = 1 << 17;

/// Bytes of distinct texts of a group that are kept once. A group of 131,072 pictures has 9 MB of
/// digests, which no dictionary makes smaller; paths and patients of views fit easily.
const DICTIONARY_BYTES: usize = 4 << 20;

/// A table that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be opened or made.
    #[error("{action} {}: {source}", file.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To which file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is no Parquet file, or a damaged one.
    #[error("{action} {}: {source}", file.display())]
    Parquet {
        /// What was done.
        action: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the format's library said.
        source: ParquetError,
    },
    /// A column is missing or something else.
    #[error("reading {}: column {column}: expected {expected}, found {found}", file.display())]
    Column {
        /// Which file.
        file: PathBuf,
        /// Which column.
        column: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
}

/// A column as it is written.
enum Column<'a> {
    /// Optional.
    Texts(&'a Texts),
    /// Required, unsigned.
    Counts(&'a [u32]),
    /// Optional.
    Numbers(&'a [Option<i32>]),
    /// Optional.
    Reals(&'a [Option<f32>]),
    /// Required.
    Intensity(&'a [Intensity], usize),
    /// Optional.
    Marks(&'a [Option<Mark>]),
}

impl Table {
    /// Every column, in the order of the file.
    fn written(&self) -> Vec<(String, Column<'_>)> {
        let mut all: Vec<(String, Column<'_>)> = [
            ("image", Column::Texts(&self.image)),
            ("image_sha256", Column::Texts(&self.sha256)),
            ("patient", Column::Texts(&self.patient)),
            ("study", Column::Texts(&self.study)),
            ("split", Column::Texts(&self.split)),
            ("position", Column::Texts(&self.position)),
            ("view", Column::Counts(&self.view)),
            ("sex", Column::Texts(&self.sex)),
            ("age", Column::Numbers(&self.age)),
            ("follow_up", Column::Numbers(&self.follow_up)),
            ("spacing_mm", Column::Reals(&self.spacing_mm)),
            ("rows", Column::Numbers(&self.rows)),
            ("columns", Column::Numbers(&self.columns)),
        ]
        .map(|(name, column)| (name.to_owned(), column))
        .into();
        let grey =
            |(at, name): (usize, &str)| (name.into(), Column::Intensity(&self.intensity, at));
        all.extend(Intensity::NAMES.into_iter().enumerate().map(grey));
        for label in &self.labels {
            all.push((format!("{LABEL}{}", label.name), Column::Marks(&label.marks)));
        }
        all.push(("shard".into(), Column::Counts(&self.shard)));
        all.push(("row".into(), Column::Counts(&self.row)));
        all
    }
}

impl Column<'_> {
    fn field(&self, name: &str) -> Result<TypePtr, ParquetError> {
        let (physical, logical, repetition) = match self {
            Self::Texts(_) => {
                (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::OPTIONAL)
            }
            Self::Counts(_) => {
                let unsigned = LogicalType::integer(32, false);
                (Physical::INT32, Some(unsigned), Repetition::REQUIRED)
            }
            Self::Numbers(_) | Self::Marks(_) => (Physical::INT32, None, Repetition::OPTIONAL),
            Self::Reals(_) => (Physical::FLOAT, None, Repetition::OPTIONAL),
            Self::Intensity(..) => (Physical::FLOAT, None, Repetition::REQUIRED),
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    }

    /// Writes the rows of one group.
    fn write<W: Write + Send>(
        &self,
        to: &mut SerializedRowGroupWriter<'_, W>,
        [from, until]: [usize; 2],
    ) -> Result<(), ParquetError> {
        match self {
            Self::Texts(texts) => {
                let all: Vec<ByteArray> =
                    texts.distinct.iter().map(|t| ByteArray::from(t.as_str())).collect();
                let text = |key: &u32| all[*key as usize].clone();
                optional::<_, ByteArrayType, _>(to, &texts.rows[from..until], text)
            }
            Self::Counts(counts) => {
                // The format keeps unsigned numbers in the bits of signed ones.
                let bits: Vec<i32> = counts[from..until].iter().map(|c| c.cast_signed()).collect();
                column::<Int32Type, _>(to, &bits, None)
            }
            Self::Numbers(numbers) => {
                optional::<_, Int32Type, _>(to, &numbers[from..until], |number| *number)
            }
            Self::Marks(marks) => {
                optional::<_, Int32Type, _>(to, &marks[from..until], |mark| i32::from(*mark))
            }
            Self::Reals(reals) => {
                optional::<_, FloatType, _>(to, &reals[from..until], |real| *real)
            }
            Self::Intensity(all, at) => {
                let values: Vec<f32> = all[from..until].iter().map(|one| one.0[*at]).collect();
                column::<FloatType, _>(to, &values, None)
            }
        }
    }
}

fn optional<T, D: DataType, W: Write + Send>(
    to: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Option<T>],
    value: impl Fn(&T) -> D::T,
) -> Result<(), ParquetError> {
    let values: Vec<D::T> = rows.iter().flatten().map(value).collect();
    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
    column::<D, W>(to, &values, Some(&levels))
}

fn column<D: DataType, W: Write + Send>(
    to: &mut SerializedRowGroupWriter<'_, W>,
    values: &[D::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("expected one more column".into());
    let mut column = to.next_column()?.ok_or_else(missing)?;
    column.typed::<D>().write_batch(values, levels, None)?;
    column.close()
}

/// Writes tables with the same labels one behind the other into one file.
pub struct TableWriter {
    file: PathBuf,
    inner: SerializedFileWriter<File>,
}

impl TableWriter {
    /// Begins a file for tables with these labels.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(file: &Path, labels: &[String]) -> Result<Self, TableError> {
        let to = File::create(file).map_err(|source| TableError::Io {
            action: "making",
            file: file.into(),
            source,
        })?;
        let begun = Self::schema(labels).and_then(|schema| {
            // Without the library's version in it, the same rows are the same bytes for longer.
            let properties = WriterProperties::builder()
                .set_compression(Compression::UNCOMPRESSED)
                .set_dictionary_page_size_limit(DICTIONARY_BYTES)
                .set_created_by("clearfilm".into())
                .build();
            SerializedFileWriter::new(to, schema, Arc::new(properties))
        });
        let inner = begun.map_err(failed("making", file))?;
        Ok(Self { file: file.into(), inner })
    }

    fn schema(labels: &[String]) -> Result<TypePtr, ParquetError> {
        let table = Table::new(labels);
        let fields = table.written().iter().map(|(name, column)| column.field(name)).collect();
        let fields: Result<Vec<TypePtr>, ParquetError> = fields;
        Type::group_type_builder("rows").with_fields(fields?).build().map(Arc::new)
    }

    /// Writes the rows of a table behind those before.
    ///
    /// # Errors
    /// The disk fails, or the table has other labels than the file was begun with.
    pub fn append(&mut self, table: &Table) -> Result<(), TableError> {
        self.groups(table).map_err(failed("writing", &self.file))
    }

    fn groups(&mut self, table: &Table) -> Result<(), ParquetError> {
        let columns = table.written();
        for from in (0..table.count()).step_by(GROUP_ROWS) {
            let until = table.count().min(from + GROUP_ROWS);
            let mut group = self.inner.next_row_group()?;
            for (_, column) in &columns {
                column.write(&mut group, [from, until])?;
            }
            group.close()?;
        }
        Ok(())
    }

    /// Ends the file and syncs it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(self) -> Result<(), TableError> {
        let Self { file, inner } = self;
        let to = inner.into_inner().map_err(failed("writing", &file))?;
        to.sync_all().map_err(|source| TableError::Io { action: "syncing", file, source })
    }
}

pub(super) fn failed(action: &'static str, file: &Path) -> impl FnOnce(ParquetError) -> TableError {
    move |source| TableError::Parquet { action, file: file.into(), source }
}

/// Writes one table as a file.
///
/// # Errors
/// The disk fails.
pub fn write(file: &Path, table: &Table) -> Result<(), TableError> {
    let labels: Vec<String> = table.labels.iter().map(|l| l.name.clone()).collect();
    let mut writer = TableWriter::new(file, &labels)?;
    writer.append(table)?;
    writer.finish()
}
