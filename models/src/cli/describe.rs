//! The verb `describe`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm::bundle::Level;
use clearfilm_models::codes::Codes;
use clearfilm_models::embed::Folder;
use clearfilm_models::files::put;
use clearfilm_models::name::NameError;
use clearfilm_models::name::describe::describing::{Descriptions, describe};
use clearfilm_models::name::describe::material::Material;
use clearfilm_models::name::describe::plan::{Fires, Plan, Where};
use clearfilm_models::{dictionary, table};

use super::progress::{Progress, estimate, failures};
use super::vectors::load;

/// Describe features from reports, and measure the descriptions.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: descriptions.json, and replies/ with every reply of a server as it came.
By phrases no server is asked, and the same plan and files give the same bytes.")]
pub(crate) struct Describe {
    /// Which features, from which reports (TOML); paths in it are taken from its folder.
    #[arg(short, long, value_name = "FILE")]
    plan: PathBuf,
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

impl Describe {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let written: Plan = super::asked(&self.plan)?;
        let folder = self.plan.parent().unwrap_or(Path::new("."));
        let mut plan = written.clone();
        match &mut plan.reports {
            Where::Openi(root) => *root = folder.join(&root),
            Where::Table(table) => table.file = folder.join(&table.file),
        }
        let mut level = Level::Embedding;
        match &mut plan.codes {
            Fires::Labels { .. } => {}
            Fires::File(file) => *file = folder.join(&file),
            Fires::Sae { sae, vectors, level: asked } => {
                (*sae, *vectors, level) = (folder.join(&sae), folder.join(&vectors), *asked);
            }
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("making folder {}", self.out.display()))?;
        let material = Material::read(&plan, |sae, vectors| {
            studies(sae, vectors, level).map_err(|error| NameError::Vectors(error.into()))
        })?;
        let progress = Progress::new();
        let tell = |event: clearfilm_models::name::Event<'_>| progress.tell(event);
        let found = describe((&plan, &written), &material, &self.out, &tell)?;
        drop(progress);
        let mut text = serde_json::to_string_pretty(&found)?;
        text.push('\n');
        put(&self.out.join("descriptions.json"), text.as_bytes())?;
        say(&found);
        Ok(ExitCode::SUCCESS)
    }
}

/// A dictionary's latents on the pictures of each study.
fn studies(sae: &Path, vectors: &Path, level: Level) -> anyhow::Result<Vec<(String, u32, f32)>> {
    let dictionary = dictionary::read(sae)?;
    let loaded = load(vectors, level)?;
    let d = dictionary.b_dec.len();
    anyhow::ensure!(
        loaded.d.is_multiple_of(d) && (level == Level::Tokens || loaded.d == d),
        "{}: expected vectors of {d} values, found {}",
        vectors.display(),
        loaded.d
    );
    let codes = match level {
        Level::Embedding => Codes::of(&dictionary, &loaded.embeddings),
        Level::Tokens => Codes::pooled(&dictionary, &loaded.embeddings, loaded.d / d),
    };
    let rows = table::read(&Folder::at(vectors).rows())?;
    // As `load` takes them: pictures as the device sees them, in the table's order.
    let plain = (0..rows.count()).filter(|row| rows.view[*row] == 0);
    let mut found = Vec::new();
    for (row, latents) in plain.zip(codes.by_sample()) {
        let Some(study) = rows.study.get(row) else { continue };
        found.extend(latents.into_iter().map(|(latent, value)| (study.to_owned(), latent, value)));
    }
    Ok(found)
}

fn say(found: &Descriptions) {
    for warning in &found.warnings {
        anstream::println!("warning: {warning}");
    }
    anstream::println!(
        "{} features from {} reports; describing {}; judging {}",
        found.features.len(),
        found.reports[0],
        failures(&found.failures),
        failures(&found.judging_failures)
    );
    if let Some(together) = &found.together {
        anstream::println!(
            "{} pairs that occur together: own label's words {} with the contrast, {} without, \
             difference {}; {} and {} of {} sides name their own, {} and {} the other's",
            together.pairs,
            estimate(together.with),
            estimate(together.without),
            estimate(together.difference),
            together.own[0],
            together.own[1],
            together.sides.len(),
            together.others[0],
            together.others[1]
        );
    }
    anstream::println!(
        "AUROC of descriptions on other patients' reports {}, lift over other descriptions {}",
        estimate(found.auroc),
        estimate(found.lift)
    );
}
