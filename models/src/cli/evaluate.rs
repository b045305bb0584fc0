//! The verb `evaluate`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm_models::embed::Folder;
use clearfilm_models::evaluate::evaluation::{Loaded, evaluate};
use clearfilm_models::evaluate::images::Columns;
use clearfilm_models::evaluate::plan::Plan;
use clearfilm_models::evaluate::report;
use clearfilm_models::files::put;
use clearfilm_models::samples::{Part, Samples, SamplesError};
use clearfilm_models::table::{self, Intensity, Mark, Table, TableError, Texts};

/// Measure dictionaries.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: evaluation.json with every figure, and report.html to look at, which needs
nothing else. Same plan and files: same bytes.")]
pub(crate) struct Evaluate {
    /// What to measure (TOML); paths in it are taken from its folder.
    #[arg(short, long, value_name = "FILE")]
    plan: PathBuf,
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// A folder of embeddings that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Samples(#[from] SamplesError),
}

impl Evaluate {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let text = fs::read_to_string(&self.plan)
            .with_context(|| format!("reading {}", self.plan.display()))?;
        let mut plan: Plan =
            toml::from_str(&text).with_context(|| format!("reading {}", self.plan.display()))?;
        let written = plan.clone();
        let folder = self.plan.parent().unwrap_or(Path::new("."));
        for arm in &mut plan.arm {
            let paths = [&mut arm.embeddings, &mut arm.sae].into_iter();
            for path in paths.chain(&mut arm.seeds).chain(&mut arm.judge) {
                *path = folder.join(&*path);
            }
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("making folder {}", self.out.display()))?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let tell = |what: &str| anstream::println!("{what}");
        let mut evaluation = pool.install(|| evaluate(&plan, load, tell))?;
        // Where the files lay is not part of what was found.
        evaluation.plan = written;
        let write = |name: &str, bytes: &[u8]| put(&self.out.join(name), bytes);
        write("evaluation.json", serde_json::to_string(&evaluation)?.as_bytes())?;
        write("report.html", report::page(&evaluation).as_bytes())?;
        anstream::println!("written to {}", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Pictures as the device sees them, in the table's order; every file is the one that the folder's
/// manifest lists.
fn load(folder: &Path) -> Result<Loaded, LoadError> {
    let part = Part { split: None, views: Some(1) };
    let samples = Samples::read_folder(folder, "embedding", &part)?;
    let table = table::read(&Folder::at(folder).rows())?;
    let plain: Vec<usize> = (0..table.count()).filter(|row| table.view[*row] == 0).collect();
    Ok(Loaded { columns: columns(&table, &plain), embeddings: samples.values, d: samples.d })
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
