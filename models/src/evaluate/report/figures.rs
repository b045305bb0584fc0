//! The report's figures.

use maud::{Markup, html};

use super::look::{GREY, Look};
use super::plot::{Axis, BELOW, Frame, LEFT, MARGIN, outline, path, px, shares, short};
use crate::evaluate::arm::Measured;
use crate::evaluate::bootstrap::Estimate;
use crate::evaluate::evaluation::Evaluation;
use crate::evaluate::ground::Ground;

/// Width and height of a small figure.
const SMALL: [f64; 2] = [540.0, 320.0];

pub(super) fn figure(name: &str, says: &str, drawn: &Markup) -> Markup {
    html! { figure { figcaption { b { (name) } " " (says) } (drawn) } }
}

/// Variance unexplained against active features, beside principal components.
pub(super) fn explained(evaluation: &Evaluation) -> Markup {
    let l0 = |arm: &Measured| arm.sparsity[1].l0[0];
    let most = evaluation.arms.iter().map(l0).fold(100.0, f64::max);
    let high = evaluation.arms.iter().map(|a| a.reconstruction[1].fvu).fold(1.0, f64::max);
    let names = ["active features, or components", "test variance unexplained"];
    let ends = [1.0, most * 1.2];
    let mut frame =
        Frame::new(SMALL, ends, [0.0, high.min(1.5) * 1.05], names, "variance unexplained");
    frame.x = Axis { logarithmic: true, ..frame.x };
    let components = |ground: &Ground| {
        let points =
            (0_u32..).zip(&ground.components).skip(1).map(|(n, left)| (f64::from(n), *left));
        let shown: Vec<(f64, f64)> = points.take_while(|(n, _)| *n <= ends[1]).collect();
        path(shown.into_iter().map(|(n, left)| (frame.x.at(n), frame.y.at(left))), GREY)
    };
    let marks = html! {
        @for ground in &evaluation.grounds { (components(ground)) }
        @for (at, arm) in evaluation.arms.iter().enumerate() {
            @let [train, test] = [arm.reconstruction[0].fvu, arm.reconstruction[1].fvu];
            @let (x, look) = (frame.x.at(l0(arm)), Look::of(at));
            (look.mark([x, frame.y.at(train)], false, &format!("{}: {} on training images", arm.name, short(train))))
            (look.mark([x, frame.y.at(test)], true, &format!("{}: {} at L0 {}", arm.name, short(test), short(l0(arm)))))
        }
    };
    let says =
        "Filled: unseen patients. Open: training patients. Grey: as many principal components.";
    figure("What the features explain.", says, &frame.draw(&marks))
}

/// How often features fire, on a logarithmic axis.
pub(super) fn rates(evaluation: &Evaluation) -> Markup {
    let edges: Vec<f64> = (0_i32..=32).map(|at| 10_f64.powf(-4.0 + f64::from(at) / 8.0)).collect();
    let all: Vec<Vec<f64>> = evaluation
        .arms
        .iter()
        .map(|arm| shares(arm.features.iter().map(|f| f.train_rate.max(1e-4)), &edges))
        .collect();
    let high = all.iter().flatten().fold(0.05, |most: f64, share| most.max(*share));
    let names = ["share of training images (left end: or never)", "share of features"];
    let mut frame = Frame::new(SMALL, [1e-4, 1.0], [0.0, high * 1.05], names, "firing rates");
    frame.x = Axis { logarithmic: true, ..frame.x };
    let marks = html! {
        @for (at, shares) in all.iter().enumerate() { (outline(&frame, &edges, shares, Look::of(at))) }
    };
    figure("How often features fire.", "", &frame.draw(&marks))
}

/// Active features of an image.
pub(super) fn active(evaluation: &Evaluation) -> Markup {
    let most =
        evaluation.arms.iter().flat_map(|a| &a.sparsity[1].active).max().copied().unwrap_or(1);
    let most = f64::from(most.max(1)) + 1.0;
    let steps = 32.0_f64.min(most);
    #[expect(clippy::cast_possible_truncation, reason = "32 at most")]
    let edges: Vec<f64> =
        (0..=steps as i32).map(|at| most * f64::from(at) / steps.floor()).collect();
    let all: Vec<Vec<f64>> = (evaluation.arms.iter())
        .map(|arm| shares(arm.sparsity[1].active.iter().map(|times| f64::from(*times)), &edges))
        .collect();
    let high = all.iter().flatten().fold(0.05, |most: f64, share| most.max(*share));
    let names = ["active features", "share of test images"];
    let frame =
        Frame::new(SMALL, [0.0, most], [0.0, high * 1.05], names, "active features of an image");
    let marks = html! {
        @for (at, shares) in all.iter().enumerate() { (outline(&frame, &edges, shares, Look::of(at))) }
    };
    figure("How many fire on an image.", "", &frame.draw(&marks))
}

/// Monosemanticity above chance, features by falling score.
pub(super) fn monosemanticity(evaluation: &Evaluation) -> Markup {
    let lifts = |scores: &[crate::evaluate::monosemantic::Score]| -> Vec<f64> {
        let enough = |s: &&crate::evaluate::monosemantic::Score| s.firings >= super::FIRINGS_MIN;
        let mut all: Vec<f64> = scores.iter().filter(enough).filter_map(|s| s.lift).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        all
    };
    let arms: Vec<Vec<f64>> =
        evaluation.arms.iter().map(|a| lifts(&a.monosemanticity.scores)).collect();
    let raw: Vec<Vec<f64>> =
        evaluation.grounds.iter().map(|g| lifts(&g.monosemanticity.scores)).collect();
    let all = || arms.iter().chain(&raw).flatten().copied();
    let (low, high) = (all().fold(0.0, f64::min), all().fold(0.01, f64::max));
    let names = ["features by falling score, 0 first and 1 last", "score above chance"];
    let frame = Frame::new(SMALL, [0.0, 1.0], [low, high * 1.05], names, "monosemanticity");
    let line = |scores: &[f64], look: Look<'_>| {
        #[expect(clippy::cast_precision_loss, reason = "features")]
        let last = scores.len().saturating_sub(1).max(1) as f64;
        let points =
            (0_u32..).zip(scores).map(|(at, s)| (frame.x.at(f64::from(at) / last), frame.y.at(*s)));
        path(points, look)
    };
    let zero = px(frame.y.at(0.0));
    let marks = html! {
        line .zero x1=(LEFT) x2=(SMALL[0] - MARGIN) y1=(zero) y2=(zero) {}
        @for scores in &raw { (line(scores, GREY)) }
        @for (at, scores) in arms.iter().enumerate() { (line(scores, Look::of(at))) }
    };
    let says = "Do the images of one feature look alike? Grey: dimensions of the embedding. Features that fire on 30 test images or more.";
    figure("Monosemanticity.", says, &frame.draw(&marks))
}

/// One estimate of one row of a forest.
pub(super) struct Mark<'a> {
    pub(super) row: usize,
    pub(super) name: String,
    pub(super) look: Look<'a>,
    pub(super) estimate: Estimate,
}

/// Height of a forest's row, and of one mark in it.
const ROW: f64 = 12.0;

/// Estimates with their intervals, row by row, the marks of a row below each other.
pub(super) fn forest(
    rows: &[String],
    marks: &[Mark<'_>],
    values: [f64; 2],
    (middle, name): (f64, &str),
) -> Markup {
    let in_row = |row: usize| marks.iter().filter(|mark| mark.row == row).count().max(1);
    let mut tops = vec![MARGIN];
    for row in 0..rows.len() {
        #[expect(clippy::cast_precision_loss, reason = "a dozen")]
        tops.push(tops[row] + in_row(row) as f64 * ROW + 10.0);
    }
    let bottom = tops[rows.len()];
    let [width, height] = [1100.0, bottom + BELOW];
    let left = 230.0;
    let x = Axis::linear(values, [left, width - MARGIN]);
    let mut at = vec![0_u32; rows.len()];
    let mut placed = Vec::new();
    for mark in marks {
        placed.push((mark, tops[mark.row] + ROW * (f64::from(at[mark.row]) + 0.5)));
        at[mark.row] += 1;
    }
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(name) {
            @for tick in x.ticks() {
                line .grid x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1=(MARGIN) y2=(px(bottom)) {}
                text .tick x=(px(x.at(tick))) y=(px(bottom + 16.0)) text-anchor="middle" { (short(tick)) }
            }
            line .zero x1=(px(x.at(middle))) x2=(px(x.at(middle))) y1=(MARGIN) y2=(px(bottom)) {}
            @for (row, name) in rows.iter().enumerate() {
                @let y = px(f64::midpoint(tops[row], tops[row + 1]) - 1.0);
                text x=(left - 12.0) y=(y) text-anchor="end" { (name) }
                line .grid x1="0" x2=(width - MARGIN) y1=(px(tops[row + 1] - 5.0)) y2=(px(tops[row + 1] - 5.0)) {}
            }
            @for (mark, y) in placed {
                @let e = mark.estimate;
                g {
                    title { (mark.name) ": " (short(e.value)) " [" (short(e.low)) ", " (short(e.high)) "]" }
                    line .bar x1=(px(x.at(e.low))) x2=(px(x.at(e.high))) y1=(px(y)) y2=(px(y)) stroke=(mark.look.colour) opacity="0.5" {}
                    circle cx=(px(x.at(e.value))) cy=(px(y)) r="4" fill=(mark.look.colour) {}
                }
            }
            text .axis x=(px(f64::midpoint(left, width))) y=(px(height - 8.0)) text-anchor="middle" { (name) }
        }
    }
}

/// How well each feature that was found tells each label, on test images.
pub(super) fn map(arm: &Measured, labels: &[String]) -> Markup {
    let (cell, left, top) = ([44.0, 20.0], 90.0, 120.0);
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let count = |n: usize| n as f64;
    let size =
        [left + cell[0] * count(labels.len()) + 110.0, top + cell[1] * count(arm.map.len()) + 6.0];
    html! {
        svg viewBox=(format!("0 0 {} {}", size[0], size[1])) role="img" aria-label="features and labels" style=(format!("max-width:{}px", size[0])) {
            @for (at, label) in labels.iter().enumerate() {
                @let x = left + cell[0] * (count(at) + 0.5);
                text transform=(format!("translate({} {}) rotate(-45)", px(x), top - 8.0)) { (label) }
            }
            @for (row, (feature, aurocs)) in arm.map.iter().enumerate() {
                @let y = top + cell[1] * count(row);
                text x=(left - 8.0) y=(px(y + 14.0)) text-anchor="end" { "feature " (feature) }
                @for (column, auroc) in aurocs.iter().enumerate() {
                    @if let Some(auroc) = auroc {
                        rect x=(px(left + cell[0] * count(column))) y=(px(y)) width=(cell[0] - 1.0) height=(cell[1] - 1.0) fill=(shade(*auroc)) rx="2" {
                            title { "feature " (feature) ", " (labels[column]) ": AUROC " (short(*auroc)) }
                        }
                        text x=(px(left + cell[0] * (count(column) + 0.5))) y=(px(y + 13.5)) text-anchor="middle" style="font-size:10px" { (format!("{auroc:.2}")) }
                    }
                }
            }
        }
    }
}

/// Blue above chance, orange below, the stronger the further.
fn shade(auroc: f64) -> String {
    let strength = ((auroc - 0.5).abs() / 0.4).min(1.0) * 0.75;
    let colour = if auroc >= 0.5 { "0,114,178" } else { "213,94,0" };
    format!("rgba({colour},{strength:.2})")
}

/// In how many of the other seeds features are found again.
pub(super) fn stability(evaluation: &Evaluation) -> Option<Markup> {
    let known: Vec<(usize, &Measured)> =
        evaluation.arms.iter().enumerate().filter(|(_, arm)| arm.stability.is_some()).collect();
    if known.is_empty() {
        return None;
    }
    let edges: Vec<f64> = (0_i32..=10).map(|at| f64::from(at) / 10.0 + 1e-9).collect();
    let alive = |arm: &Measured| -> Vec<f64> {
        let fires = |f: &&crate::evaluate::arm::Feature| f.test_rate > 0.0;
        arm.features.iter().filter(fires).filter_map(|f| f.stable).collect()
    };
    let all: Vec<Vec<f64>> =
        known.iter().map(|(_, arm)| shares(alive(arm).into_iter(), &edges)).collect();
    let high = all.iter().flatten().fold(0.05, |most: f64, share| most.max(*share));
    let names = ["share of the other seeds", "share of features that fire"];
    let frame = Frame::new(SMALL, [0.0, 1.0], [0.0, high * 1.05], names, "stability");
    let marks = html! {
        @for ((at, _), shares) in known.iter().zip(&all) { (outline(&frame, &edges, shares, Look::of(*at))) }
    };
    let says = "Encoder and decoder rows within a cosine of 0.7 of their mutual nearest.";
    Some(figure("Who is found again.", says, &frame.draw(&marks)))
}
