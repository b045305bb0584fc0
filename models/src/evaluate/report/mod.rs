//! The evaluation as one page: figures first, tables below them, nothing loaded from anywhere.

mod figures;
mod look;
mod plot;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::arm::Measured;
use super::evaluation::Evaluation;
use super::monosemantic::FIRINGS_MIN;
use figures::{Mark, figure, forest};
use look::{GREY, Look, key};

/// The page's look.
const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn page(evaluation: &Evaluation) -> String {
    let plan = &evaluation.plan;
    let names: Vec<(&str, Look<'_>)> = evaluation
        .arms
        .iter()
        .enumerate()
        .map(|(at, arm)| (arm.name.as_str(), Look::of(at)))
        .collect();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (plan.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (plan.title) }
                p .dim { (tables::subtitle(evaluation)) }
                @if !plan.notice.is_empty() { p .notice { (plan.notice) } }
                @if let Some(seed) = plan.data.shuffle {
                    p .notice {
                        "A control: labels were shuffled between patients (seed " (seed)
                        "). What is found here is found by chance."
                    }
                }
                nav {
                    a href="#overview" { "Overview" } a href="#labels" { "Labels" }
                    a href="#features" { "Features" } a href="#medsae" { "MedSAE's figures" }
                    a href="#structure" { "Structure" } a href="#how" { "How it was measured" }
                }
                (overview(evaluation, &names))
                (labels(evaluation))
                (features(evaluation))
                (medsae(evaluation))
                (structure(evaluation, &names))
                (tables::how(evaluation))
            }
        }
    };
    markup.into_string()
}

fn overview(evaluation: &Evaluation, names: &[(&str, Look<'_>)]) -> Markup {
    html! {
        h2 #overview { "Overview" }
        (tables::overview(evaluation))
        (key(names))
        div .grid2 {
            (figures::explained(evaluation))
            (figures::monosemanticity(evaluation))
            (figures::rates(evaluation))
            (figures::active(evaluation))
        }
    }
}

/// What is beside the features in the figures of readouts.
const RIVALS: [(&str, Look<'static>); 6] = [
    ("acquisition", Look::plain("#b8a07a")),
    ("grey values", Look::plain("#c2b5b0")),
    ("acquisition and grey values", Look::plain("#a08a80")),
    ("embedding", Look::plain("#3f4a56")),
    ("dimensions", GREY),
    ("components", Look::plain("#b3bcc6")),
];

fn labels(evaluation: &Evaluation) -> Markup {
    html! {
        h2 #labels { "What can be read out" }
        p { "AUROC on patients who taught nothing, with the interval that other patients would give. "
            "A few features stand beside as many dimensions and principal components, the whole embedding, "
            "and what needs no picture at all." }
        @for (at, arm) in evaluation.arms.iter().enumerate() {
            h3 { (arm.name) }
            (readouts(evaluation, arm, Look::of(at)))
            (differences(evaluation, arm, Look::of(at)))
        }
    }
}

/// The largest sparse readout, which the figures show.
fn largest(evaluation: &Evaluation) -> usize {
    evaluation.plan.probing.sizes.iter().copied().max().unwrap_or(1)
}

fn readouts(evaluation: &Evaluation, arm: &Measured, own: Look<'_>) -> Markup {
    let size = largest(evaluation);
    let ground = &evaluation.grounds[arm.ground];
    let rows: Vec<String> =
        evaluation.images.labels.iter().map(|(name, _, _)| name.clone()).collect();
    let mut marks = Vec::new();
    for (row, label) in rows.iter().enumerate() {
        for readout in arm.readouts.iter().filter(|r| r.label == *label && r.size == size) {
            let name = format!("{size} features");
            marks.push(Mark { row, name, look: own, estimate: readout.auroc });
        }
        for (from, look) in RIVALS {
            let fits = |size_of: usize| size_of == 0 || size_of == size;
            for readout in ground
                .readouts
                .iter()
                .filter(|r| r.label == *label && r.from == from && fits(r.size))
            {
                let name =
                    if readout.size == 0 { from.to_owned() } else { format!("{size} {from}") };
                marks.push(Mark { row, name, look, estimate: readout.auroc });
            }
        }
    }
    let own_name = format!("{size} features");
    let level = 100.0 * evaluation.plan.bootstrap.level;
    let says = format!("Lines are intervals of {level:.0} % by patient.");
    let mut entries = vec![(own_name.as_str(), own)];
    entries.extend(RIVALS);
    html! {
        (key(&entries))
        (figure("Readouts.", &says, &forest(&rows, &marks, [0.3, 1.0], (0.5, "AUROC"))))
    }
}

fn differences(evaluation: &Evaluation, arm: &Measured, own: Look<'_>) -> Markup {
    let size = largest(evaluation);
    let rows: Vec<String> =
        evaluation.images.labels.iter().map(|(name, _, _)| name.clone()).collect();
    let rivals = [
        ("acquisition", Look::plain("#b8a07a")),
        ("grey values", Look::plain("#c2b5b0")),
        ("embedding", Look::plain("#3f4a56")),
    ];
    let mut marks = Vec::new();
    for (row, label) in rows.iter().enumerate() {
        for (versus, look) in rivals {
            let of = |d: &&super::readout::Difference| {
                d.label == *label && d.versus == versus && d.size == size
            };
            for found in arm.differences.iter().filter(of) {
                let name = format!("{size} features less {versus}");
                marks.push(Mark { row, name, look, estimate: found.difference });
            }
        }
        for found in arm.downstream.iter().filter(|d| d.label == *label) {
            let name =
                "embedding's readout on the reconstruction, less on the embedding".to_owned();
            marks.push(Mark { row, name, look: own, estimate: found.difference });
        }
    }
    let drawn = forest(&rows, &marks, [-0.4, 0.4], (0.0, "difference of AUROC"));
    let says = "Features less what they stand beside, on the same patients; in the dictionary's colour what the embedding's readout loses on the reconstruction.";
    html! { details { summary { "Paired differences" } (figure("Differences.", says, &drawn)) } }
}

fn features(evaluation: &Evaluation) -> Markup {
    let labels: Vec<String> =
        evaluation.images.labels.iter().map(|(name, _, _)| name.clone()).collect();
    html! {
        h2 #features { "Features and labels" }
        p { "Matched on " (evaluation.images.images[1]) " images, held against labels that changed places between patients of the same stratum, "
            "and then looked at on patients who took no part in the choice." }
        @for arm in &evaluation.arms {
            h3 { (arm.name) }
            (tables::found(arm))
            @if !arm.map.is_empty() {
                div .scroll { (figure("AUROC on test images.", "Features by how far they are beyond chance.", &figures::map(arm, &labels))) }
            }
            details { summary { "Who fires for what (MedSAE's precision, recall, F1)" } (tables::firings(arm, &labels)) }
        }
    }
}

fn medsae(evaluation: &Evaluation) -> Markup {
    html! {
        h2 #medsae { "MedSAE's figures" }
        p { "On " (evaluation.images.balanced) " training images with at most " (evaluation.plan.balanced)
            " of each label, as its code does. Entropies are over the correlations of features that reach |R| > 0.2 somewhere; "
            "sampling noise alone moves them towards the largest." }
        (tables::parity(evaluation))
    }
}

fn structure(evaluation: &Evaluation, names: &[(&str, Look<'_>)]) -> Markup {
    html! {
        h2 #structure { "Structure" }
        (tables::structure(evaluation))
        @if let Some(drawn) = figures::stability(evaluation) { (key(names)) div .grid2 { (drawn) } }
        @for arm in &evaluation.arms {
            details { summary { (arm.name) ": absorption and families" } (tables::absorption(arm)) (tables::families(arm)) }
        }
    }
}
