//! What `embed` is told: where things lie, and what is made.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use clearfilm::bundle::Level;
use clearfilm_models::embed::{Dtype, Views};
use clearfilm_models::layout::{Columns, Layout};

/// Rows of a shard: 16 MB of 512 fp32, or 205 MB of 49 tokens of 256 fp16; minutes of one core.
const SHARD_ROWS: usize = 8192;

/// Where things lie on this machine.
#[derive(Debug, Clone, Args)]
pub(super) struct Where {
    /// The collection's folder.
    #[arg(short, long, value_name = "DIR")]
    pub(super) root: PathBuf,
    /// Embeddings folder.
    #[arg(short, long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Bundle folder; without it the configured one, which is the embedded demo bundle by default.
    #[arg(short, long, value_name = "DIR")]
    pub(super) bundle: Option<PathBuf>,
    /// Folder of an encoder alone (encoder.toml, encoder.onnx, head.safetensors), before there is a bundle.
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    pub(super) encoder: Option<PathBuf>,
    /// Configuration file of the runtime, for its limits and the engine's library.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutArgument {
    /// CheXpert: train.csv, valid.csv.
    Chexpert,
    /// MIMIC-CXR or MIMIC-CXR-JPG 2.0.0.
    Mimic,
    /// NIH ChestX-ray14: Data_Entry_2017_v2020.csv.
    Nih,
    /// Open-i: ecgen-radiology/*.xml.
    Openi,
    /// One table; see the options of columns.
    Csv,
    /// Every picture file below the root, without a table.
    Files,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum EngineArgument {
    /// ONNX Runtime, one thread.
    Ort,
    /// tract, compiled in.
    Tract,
    /// ONNX Runtime where its library is found, else tract.
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArgument {
    /// One vector a picture.
    Embedding,
    /// The encoder's tokens.
    Tokens,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DtypeArgument {
    /// 16 bits.
    F16,
    /// 32 bits.
    F32,
}

/// What is made.
#[derive(Debug, Clone, Args)]
pub(super) struct What {
    /// How the collection lies on the disk.
    #[arg(short, long, value_enum)]
    layout: LayoutArgument,
    /// Vectors a picture: itself, and views that are drawn from it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    views: u32,
    /// Views follow from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Mirror every other drawn view left to right.
    #[arg(long)]
    flip: bool,
    /// Vectors of pictures or of tokens.
    #[arg(long, value_enum, default_value_t = LevelArgument::Embedding)]
    level: LevelArgument,
    /// Number format of the vectors.
    #[arg(long, value_enum, default_value_t = DtypeArgument::F32)]
    dtype: DtypeArgument,
    /// Engine; which one it became is part of the plan.
    #[arg(long, value_enum, default_value_t = EngineArgument::Auto)]
    pub(super) engine: EngineArgument,
    /// Vectors of a shard at most; the views of a picture are never parted.
    #[arg(long, default_value_t = SHARD_ROWS)]
    pub(super) shard_rows: usize,
    #[command(flatten)]
    table: TableArguments,
}

/// Columns of `--layout csv`. One that is not given counts where it has the option's name with
/// `_` for `-`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Columns of --layout csv")]
struct TableArguments {
    /// The table, below the root.
    #[arg(long, value_name = "FILE", required_if_eq("layout", "csv"))]
    table: Option<PathBuf>,
    /// Folder below the root that the pictures lie in.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Path or name of the picture; its ending may be missing.
    #[arg(long, value_name = "COLUMN")]
    image: Option<String>,
    /// Whose picture it is.
    #[arg(long, value_name = "COLUMN")]
    patient: Option<String>,
    /// Examination.
    #[arg(long, value_name = "COLUMN")]
    study: Option<String>,
    /// Part of the collection.
    #[arg(long, value_name = "COLUMN")]
    split: Option<String>,
    /// View position.
    #[arg(long, value_name = "COLUMN")]
    position: Option<String>,
    /// Sex.
    #[arg(long, value_name = "COLUMN")]
    sex: Option<String>,
    /// Whole years.
    #[arg(long, value_name = "COLUMN")]
    age: Option<String>,
    /// Number of the examination.
    #[arg(long, value_name = "COLUMN")]
    follow_up: Option<String>,
    /// Pixel spacing of the original, mm.
    #[arg(long, value_name = "COLUMN")]
    spacing_mm: Option<String>,
    /// Rows of the original.
    #[arg(long, value_name = "COLUMN")]
    rows: Option<String>,
    /// Columns of the original.
    #[arg(long, value_name = "COLUMN")]
    columns: Option<String>,
    /// Columns of 1, 0, -1 or nothing, each a label.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    labels: Vec<String>,
    /// A column of words, each a label of its own.
    #[arg(long, value_name = "COLUMN")]
    class: Option<String>,
}

impl What {
    pub(super) fn layout(&self) -> anyhow::Result<Layout> {
        let columns = self.table.columns();
        if !matches!(self.layout, LayoutArgument::Csv) && columns != Columns::default() {
            bail!("expected columns only with --layout csv, found some");
        }
        Ok(match self.layout {
            LayoutArgument::Chexpert => Layout::Chexpert,
            LayoutArgument::Mimic => Layout::Mimic,
            LayoutArgument::Nih => Layout::Nih,
            LayoutArgument::Openi => Layout::Openi,
            LayoutArgument::Csv => Layout::Csv(Box::new(columns)),
            LayoutArgument::Files => Layout::Files,
        })
    }

    pub(super) fn level(&self) -> Level {
        match self.level {
            LevelArgument::Embedding => Level::Embedding,
            LevelArgument::Tokens => Level::Tokens,
        }
    }

    pub(super) fn dtype(&self) -> Dtype {
        match self.dtype {
            DtypeArgument::F16 => Dtype::F16,
            DtypeArgument::F32 => Dtype::F32,
        }
    }

    pub(super) fn views(&self) -> Views {
        Views { count: self.views, seed: self.seed, flip: self.flip }
    }
}

impl TableArguments {
    fn columns(&self) -> Columns {
        let Self { image, patient, study, split, position, sex, age, .. } = self.clone();
        Columns {
            table: self.table.clone().unwrap_or_default(),
            images: self.images.clone().unwrap_or_default(),
            image,
            patient,
            study,
            split,
            position,
            sex,
            age,
            follow_up: self.follow_up.clone(),
            spacing_mm: self.spacing_mm.clone(),
            rows: self.rows.clone(),
            columns: self.columns.clone(),
            labels: self.labels.clone(),
            class: self.class.clone(),
        }
    }
}
