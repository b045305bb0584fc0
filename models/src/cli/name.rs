//! The verb `name`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clearfilm::decode::Program;
use clearfilm_models::dictionary;
use clearfilm_models::embed::{self, Folder};
use clearfilm_models::files::put;
use clearfilm_models::name::held_out::HeldOutResult;
use clearfilm_models::name::medsae::{Arm, MedsaeResult};
use clearfilm_models::name::naming::{Outcome, name};
use clearfilm_models::name::plan::Plan;
use clearfilm_models::name::show::Source;

use super::progress::{Progress, estimate, failures};
use super::vectors::load;

/// Name features, and measure the names.
#[derive(Debug, Args)]
#[command(after_help = "\
Written to the folder: names.json, and replies/ with every reply of a server as it came.
A run that was cut off goes on when it is started again, and asks for nothing twice.")]
pub(crate) struct Name {
    /// Which features, by whom (TOML); paths in it are taken from its folder.
    #[arg(short, long, value_name = "FILE")]
    plan: PathBuf,
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

impl Name {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let written: Plan = super::asked(&self.plan)?;
        let folder = self.plan.parent().unwrap_or(Path::new("."));
        let mut plan = written.clone();
        plan.sae = folder.join(&plan.sae);
        plan.vectors = folder.join(&plan.vectors);
        plan.pictures = folder.join(&plan.pictures);
        if let Some(words) = &mut plan.vocabulary {
            words.words = folder.join(&words.words);
            words.embeddings = folder.join(&words.embeddings);
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("making folder {}", self.out.display()))?;
        let sae = dictionary::read(&plan.sae)?;
        let loaded = load(&plan.vectors, plan.level)?;
        let (made_by, _) = embed::Plan::read(&Folder::at(&plan.vectors))?;
        let source = Source {
            root: plan.pictures.clone(),
            plan: made_by,
            size: plan.size,
            program: Program::own(),
        };
        let progress = Progress::new();
        let tell = |event: clearfilm_models::name::Event<'_>| progress.tell(event);
        let named = name((&plan, &written), (&loaded, &sae), &source, &self.out, &tell)?;
        drop(progress);
        let mut text = serde_json::to_string_pretty(&named)?;
        text.push('\n');
        put(&self.out.join("names.json"), text.as_bytes())?;
        for warning in &named.warnings {
            anstream::println!("warning: {warning}");
        }
        match &named.result {
            Outcome::Medsae(result) => say_medsae(result),
            Outcome::HeldOut(result) => say_held_out(result),
            Outcome::Vocabulary(matches) => {
                anstream::println!("{} features have a nearest word", matches.len());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn say_medsae(result: &MedsaeResult) {
    let arms = [("features", &result.sae), ("raw", &result.raw), ("shuffled", &result.shuffled)];
    for (name, arm) in arms {
        let Arm { features, means, naming_failures, judging_failures, .. } = arm;
        let accuracy = means.as_ref().map(|means| means.accuracy);
        let zeros = means.as_ref().map(|means| means.accuracy_with_zeros);
        anstream::println!(
            "{name}: {} of them, accuracy {} (with failures as zeros {}); naming {}; judging {}",
            features.len(),
            estimate(accuracy),
            estimate(zeros),
            failures(naming_failures),
            failures(judging_failures)
        );
    }
}

fn say_held_out(result: &HeldOutResult) {
    anstream::println!(
        "{} features: balanced accuracy {}; naming {}; judging {}",
        result.features.len(),
        estimate(result.balanced_accuracy),
        failures(&result.naming_failures),
        failures(&result.judging_failures)
    );
    anstream::println!(
        "picked among two of five {}, by chance {:.2}; {}",
        estimate(result.contrastive),
        result.contrastive_chance,
        failures(&result.contrastive_failures)
    );
    anstream::println!(
        "lift {} of the balanced accuracy, {} of the AUROC",
        estimate(result.lift),
        estimate(result.lift_auroc)
    );
}
