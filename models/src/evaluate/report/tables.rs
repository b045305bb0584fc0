//! The report's tables.

use maud::{Markup, html};

use super::look::Look;
use super::plot::short;
use crate::evaluate::arm::{FAMILY, Found, Measured};
use crate::evaluate::bootstrap::{Estimate, quantile};
use crate::evaluate::evaluation::Evaluation;
use crate::evaluate::monosemantic::FIRINGS_MIN;
use crate::evaluate::readout::Readout;

pub(super) fn subtitle(evaluation: &Evaluation) -> String {
    let [train, _, test] = evaluation.images.images;
    let [patients, _, others] = evaluation.images.patients;
    format!(
        "{train} training images of {patients} patients, {test} test images of {others} others · {}",
        evaluation.software
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval(estimate: Option<Estimate>) -> String {
    estimate
        .map_or_else(|| "–".to_owned(), |e| format!("{:.3} [{:.3}, {:.3}]", e.value, e.low, e.high))
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), short)
}

/// The median lift of features that fire often enough.
fn lift(scores: &[crate::evaluate::monosemantic::Score]) -> Option<f64> {
    let enough = scores.iter().filter(|s| s.firings >= FIRINGS_MIN);
    let mut all: Vec<f64> = enough.filter_map(|s| s.lift).collect();
    all.sort_unstable_by(f64::total_cmp);
    (!all.is_empty()).then(|| quantile(&all, 0.5))
}

/// The mean AUROC of readouts of one kind over the labels that all have.
fn mean_auroc(readouts: &[Readout], from: &str, size: usize) -> Option<f64> {
    let own: Vec<f64> = readouts
        .iter()
        .filter(|readout| readout.from == from && readout.size == size)
        .map(|readout| readout.auroc.value)
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a dozen labels")]
    let n = own.len() as f64;
    (!own.is_empty()).then(|| own.iter().sum::<f64>() / n)
}

pub(super) fn overview(evaluation: &Evaluation) -> Markup {
    let size = super::largest(evaluation);
    html! {
        div .scroll { table .names {
            tr {
                th { "dictionary" } th .n { "latents" } th .n { "L0 (rate)" } th .n { "FVU, test" } th .n { "as many components" }
                th .n { "dead, train / test" } th .n { "rare" } th .n { "dense" } th .n { "monosemanticity, median above chance" }
                th .n { "pairs beyond chance" } th .n { "stable" } th .n { "mean AUROC, " (size) " features" } th .n { "embedding" }
            }
            @for (at, arm) in evaluation.arms.iter().enumerate() {
                @let ground = &evaluation.grounds[arm.ground];
                @let [train, test] = &arm.sparsity;
                tr {
                    td { (Look::of(at).swatch()) b { (arm.name) } @if !arm.note.is_empty() { br; span .dim { (arm.note) } } }
                    td .n { (arm.latents) }
                    td .n { (short(test.l0[0])) " (" (percent(test.l0_rate)) ")" br; span .dim { (short(test.l0[1])) "–" (short(test.l0[2])) } }
                    td .n { (short(arm.reconstruction[1].fvu)) } td .n { (short(arm.components_fvu)) }
                    td .n { (percent(train.dead)) " / " (percent(test.dead)) } td .n { (percent(train.rare)) } td .n { (percent(train.dense)) }
                    td .n { (optional(lift(&arm.monosemanticity.scores))) br; span .dim { "dimensions " (optional(lift(&ground.monosemanticity.scores))) } }
                    td .n { (arm.beyond) " of " (arm.pairs) }
                    td .n { (arm.stability.as_ref().map_or_else(|| "–".to_owned(), |s| percent(s.stable))) }
                    td .n { (optional(mean_auroc(&arm.readouts, "features", size))) }
                    td .n { (optional(mean_auroc(&ground.readouts, "embedding", 0))) }
                }
            }
        } }
    }
}

/// Lines of the listing of pairs that are seen without asking.
const SHOWN: usize = 12;

pub(super) fn found(arm: &Measured) -> Markup {
    let beyond: Vec<&Found> = arm.found.iter().filter(|f| f.chance.p_family < FAMILY).collect();
    let (first, rest) = beyond.split_at(beyond.len().min(SHOWN));
    html! {
        @if first.is_empty() {
            p .dim { "No pair of " (arm.pairs) " is beyond chance at a family-wise error of " (FAMILY) "." }
        } @else {
            (pairs(first))
            @if !rest.is_empty() { details { summary { (rest.len()) " more" } (pairs(rest)) } }
        }
    }
}

fn pairs(found: &[&Found]) -> Markup {
    html! {
        div .scroll { table {
            tr { th .n { "feature" } th { "label" } th .n { "z" } th .n { "p, family" } th .n { "q" } th .n { "AUROC, matched" } th .n { "AUROC, test" } th .n { "most it could reach" } th .n { "average precision, test (base)" } }
            @for f in found {
                tr {
                    td .n { (f.feature) } td { (f.label) } td .n { (format!("{:+.1}", f.chance.z)) } td .n { (short(f.chance.p_family)) } td .n { (short(f.chance.q)) }
                    td .n { (format!("{:.3}", f.find.auroc)) }
                    td .n { (interval(f.test_auroc)) }
                    td .n { (f.test.map_or_else(|| "–".to_owned(), |t| format!("{:.3}", t.cap))) }
                    td .n { (f.test.map_or_else(|| "–".to_owned(), |t| format!("{:.3} ({:.3})", t.average_precision, base(t.positives, t.negatives)))) }
                }
            }
        } }
    }
}

fn base(positives: usize, negatives: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 images")]
    let [p, n] = [positives, negatives].map(|n| n as f64);
    p / (p + n)
}

pub(super) fn firings(arm: &Measured, labels: &[String]) -> Markup {
    html! {
        @if arm.firings.is_empty() { p .dim { "No feature fires on more than 15 and fewer than 300 test images with any label." } }
        @else { div .scroll { table {
            tr { th .n { "feature" } th { "label" } th .n { "precision" } th .n { "recall" } th .n { "F1" } }
            @for f in &arm.firings {
                tr { td .n { (f.feature) } td { (labels[f.label]) } td .n { (format!("{:.3}", f.precision)) } td .n { (format!("{:.3}", f.recall)) } td .n { (format!("{:.3}", f.f1)) } }
            }
        } } }
    }
}

pub(super) fn parity(evaluation: &Evaluation) -> Markup {
    let sets = &evaluation.plan.label_set;
    let name = |at: usize| sets.get(at).map_or("all labels", |set| set.name.as_str());
    let row = |who: &str, parity: &crate::evaluate::alignment::Parity| {
        html! {
            tr {
                td { (who) } td .n { (parity.correlated) }
                td .n { (optional(parity.entropy_nats)) } td .n { (optional(parity.entropy_bits)) } td .n { (short(parity.entropy_most_nats)) }
                td .n { (short(parity.best_mean)) } td .n { (optional(parity.cross_entropy)) }
                td { @for (label, best) in parity.labels.iter().zip(&parity.best) {
                    @if let Some(best) = best { span title=(format!("feature {}", best.feature)) { (label) " " (format!("{:.2} ({:.2})", best.r, best.entropy_nats)) "; " } }
                } }
            }
        }
    };
    let count = evaluation.grounds.first().map_or(0, |ground| ground.parity.len());
    html! {
        @for set in 0..count {
            h3 { (name(set)) }
            div .scroll { table {
                tr { th { "" } th .n { "features with |R| > 0.2" } th .n { "entropy, nats" } th .n { "entropy, bits" } th .n { "largest, nats" } th .n { "mean of the best R" } th .n { "cross-entropy, nats" } th { "best R by label (entropy, nats)" } }
                @for (at, ground) in evaluation.grounds.iter().enumerate() {
                    (row(&format!("dimensions of embedding {}", at + 1), &ground.parity[set]))
                }
                @for arm in &evaluation.arms { (row(&arm.name, &arm.parity[set])) }
            } }
        }
        h3 { "Explained variance by three definitions, test images" }
        div .scroll { table {
            tr { th { "" } th .n { "1 − FVU (training mean)" } th .n { "MedSAE's" } th .n { "cosine" } th .n { "length ratio" } th .n { "relative bias" } }
            @for arm in &evaluation.arms {
                @let r = arm.reconstruction[1];
                tr { td { (arm.name) } td .n { (short(r.explained)) } td .n { (short(r.explained_medsae)) } td .n { (short(r.cosine)) } td .n { (short(r.length_ratio)) } td .n { (short(r.relative_bias)) } }
            }
        } }
    }
}

pub(super) fn structure(evaluation: &Evaluation) -> Markup {
    html! {
        div .scroll { table {
            tr { th { "" } th .n { "nearest row, mean cosine" } th .n { "twins (> 0.9)" } th .n { "mass in dense features" } th .n { "Hoyer" } th .n { "absorption, mean over labels" } th .n { "other seeds" } th .n { "stable" } th .n { "cosine to the nearest" } th .n { "correlation of partners" } }
            @for arm in &evaluation.arms {
                @let absorbed = mean(arm.absorption.iter().filter(|(_, a)| a.positives > 0).map(|(_, a)| a.fraction));
                tr {
                    td { (arm.name) } td .n { (short(arm.redundancy.nearest)) } td .n { (percent(arm.redundancy.twins)) }
                    td .n { (percent(arm.sparsity[1].dense_mass)) } td .n { (short(arm.sparsity[1].hoyer)) } td .n { (optional(absorbed)) }
                    @match &arm.stability {
                        Some(s) => { td .n { (s.others) } td .n { (percent(s.stable)) } td .n { (short(s.cosine)) } td .n { (short(s.correlation)) } }
                        None => { td .n { "–" } td .n { "–" } td .n { "–" } td .n { "–" } }
                    }
                }
            }
        } }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    (n > 0.0).then_some(sum / n)
}

pub(super) fn absorption(arm: &Measured) -> Markup {
    html! {
        table {
            tr { th { "label" } th .n { "positive test images" } th .n { "absorbed" } th .n { "fraction" } th { "by (images)" } }
            @for (label, a) in &arm.absorption {
                tr { td { (label) } td .n { (a.positives) } td .n { (percent(a.images)) } td .n { (short(a.fraction)) }
                    td { @for (feature, images) in &a.absorbers { (feature) " (" (images) ") " } } }
            }
        }
    }
}

pub(super) fn families(arm: &Measured) -> Markup {
    html! {
        @if !arm.families.is_empty() { table {
            tr { th .n { "feature" } th .n { "fires with" } th .n { "share of its firings" } th .n { "strangers' share" } th .n { "share of the other's" } }
            @for f in &arm.families {
                tr { td .n { (f.child) } td .n { (f.parent) } td .n { (short(f.parent_given_child)) } td .n { (short(f.parent_rate)) } td .n { (short(f.child_given_parent)) } }
            }
        } }
    }
}

pub(super) fn how(evaluation: &Evaluation) -> Markup {
    let plan = &evaluation.plan;
    html! {
        h2 #how { "How it was measured" }
        p { "Variance unexplained is the squared error over the squared distance from the training images' mean, each summed over all test images and values. "
            "Chance: " (plan.permutations.count) " permutations of the labels between patients within strata of " (plan.data.strata.join(", "))
            "; each agreement in standard deviations of its own permutations, held against the largest of all pairs. "
            "Intervals: " (plan.bootstrap.count) " draws of patients. Readouts: logistic regression with ridge, "
            @if plan.probing.folds > 1 { "cross-fitted over " (plan.probing.folds) " parts of all patients." } @else { "fitted on training patients, read on test patients." } }
        @for (at, ground) in evaluation.grounds.iter().enumerate() {
            p .dim { "Embedding " (at + 1) ": " (ground.d) " values; the mean lies " (short(ground.offset.gamma)) " spreads off the origin; one dimension holds at most " (percent(ground.offset.largest_share)) " of the variance; mean cosine of two test images " (short(ground.monosemanticity.chance)) "." }
        }
        details { summary { "Labels" } table {
            tr { th { "label" } th .n { "with / without, to match" } th .n { "with / without, to test" } }
            @for (name, find, test) in &evaluation.images.labels {
                tr { td { (name) } td .n { (find[0]) " / " (find[1]) } td .n { (test[0]) " / " (test[1]) } }
            }
        } }
    }
}
