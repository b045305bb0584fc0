//! What is usual, and what is not: fitted on usual images, its thresholds from others of them, and
//! told of strange ones only to measure how many it finds.

use std::collections::{BTreeMap, BTreeSet};

use clearfilm::bundle::{Matrix, OodModel};
use clearfilm::findings::round_4;
use clearfilm::ood::Strangeness;
use serde::Serialize;

use super::through::Passed;
use crate::calibrate::proportion::Proportion;
use crate::evaluate::bootstrap::quantile;
use crate::evaluate::pca::Pca;
use crate::evaluate::reconstruct;
use crate::measure::whole;

/// Usual images end where this share of them lies: the edge that both questions are counted in.
const EDGE: f64 = 0.95;

/// How many of a set are called strange.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// Which images.
    pub set: String,
    /// Patients, exposures or pictures that they come from.
    pub sources: usize,
    /// Median score.
    pub median: f64,
    /// Share that is out, with the interval of its images (Clopper and Pearson).
    pub out: Proportion,
    /// Share that is out or borderline.
    pub noticed: f64,
    /// The same with the pooled tokens' distance alone at the same share of false alarms, and with
    /// what the dictionary leaves over alone.
    pub alone: [f64; 2],
}

/// The model and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Strange {
    /// Images that it was fitted on, and images that its thresholds come from.
    pub images: [usize; 2],
    /// Principal components.
    pub components: usize,
    /// Share of the pooled tokens' variance that they hold.
    pub variance: f64,
    /// Out above it.
    pub threshold: f64,
    /// Borderline above it.
    pub borderline: f64,
    /// Usual sets first, by rising name, then strange ones.
    pub sets: Vec<Told>,
}

/// Usual images of one collection, by what was done with them.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Fitted on.
    pub fit: Vec<&'a Passed>,
    /// Held out.
    pub hold: Vec<&'a Passed>,
    /// Thresholds come from what is held out.
    pub sets_thresholds: bool,
}

/// Fits a model of usual images; none where there are fewer images than components.
#[must_use]
pub fn fit(
    bundle: &clearfilm::bundle::Bundle,
    parts: &[Parts<'_>],
    components: usize,
    false_alarms: [f64; 2],
) -> Option<(OodModel, f64)> {
    let fitted: Vec<&Passed> = parts.iter().flat_map(|part| &part.fit).copied().collect();
    let held: Vec<&Passed> = deciding(parts).copied().collect();
    let d = bundle.manifest.encoder.d_token;
    let rows: Vec<f32> = fitted.iter().flat_map(|p| p.tokens.pooled()).collect();
    if fitted.len() <= components || held.is_empty() {
        return None;
    }
    let pca = Pca::of(&rows, d)?;
    let along = pca.project(&rows, components);
    let mean = reconstruct::mean(&rows, d);
    let basis: Vec<f32> = (0..components).flat_map(|at| pca.component(at).to_vec()).collect();
    let (std, rest, variance) = spreads(&rows, &mean, &along, components);
    let mut model = OodModel {
        mean,
        components: Matrix { rows: components, columns: d, values: basis },
        std,
        residual_std: rest,
        centre: centre(bundle, &fitted),
        edge: [1.0; 2],
        threshold: f32::MAX,
        borderline: f32::MAX,
    };
    let scores = held.iter().map(|p| strangeness(bundle, &model, p)).collect::<Vec<_>>();
    let at = |values: Vec<f64>, share: f64| fp32(quantile(&sorted(values), share));
    let of = |which: fn(&Strangeness) -> f32| scores.iter().map(|s| f64::from(which(s))).collect();
    model.edge = [at(of(|s| s.distance), EDGE), at(of(|s| s.unexplained), EDGE)];
    let edge = model.edge;
    let joint: Vec<f64> = scores.iter().map(|s| f64::from(s.score(edge))).collect();
    let joint = sorted(joint);
    let [threshold, borderline] = false_alarms.map(|share| between(&joint, 1.0 - share));
    model.threshold = fp32(round_4(threshold));
    model.borderline = fp32(round_4(borderline)).min(model.threshold);
    Some((model, variance))
}

/// Held-out images that thresholds come from.
fn deciding<'a, 'b>(parts: &'b [Parts<'a>]) -> impl Iterator<Item = &'b &'a Passed> {
    parts.iter().filter(|part| part.sets_thresholds).flat_map(|part| &part.hold)
}

/// The two questions of one image.
#[must_use]
pub fn strangeness(
    bundle: &clearfilm::bundle::Bundle,
    model: &OodModel,
    passed: &Passed,
) -> Strangeness {
    Strangeness::of(&passed.tokens, &passed.embedding, &passed.code, &bundle.sae, model)
}

/// Standard deviations along components and of all the rest, and the share of variance that the
/// components hold.
fn spreads(rows: &[f32], mean: &[f32], along: &[f32], count: usize) -> (Vec<f32>, f32, f64) {
    let n = whole(rows.len() / mean.len());
    let mut squares = vec![0.0_f64; count];
    for row in along.chunks_exact(count) {
        squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
    }
    let all: f64 = (rows.chunks_exact(mean.len()))
        .flat_map(|row| row.iter().zip(mean).map(|(x, m)| f64::from(x - m).powi(2)))
        .sum();
    let inside: f64 = squares.iter().sum();
    let std = squares.iter().map(|sum| fp32((sum / n).sqrt().max(1e-9))).collect();
    (std, fp32(((all - inside).max(0.0) / n).sqrt().max(1e-9)), inside / all)
}

/// The mean of what the SAE reads.
fn centre(bundle: &clearfilm::bundle::Bundle, fitted: &[&Passed]) -> Vec<f32> {
    let d = bundle.sae.b_dec.len();
    let read: Vec<f32> = match bundle.sae.level {
        clearfilm::bundle::Level::Embedding => {
            fitted.iter().flat_map(|p| &p.embedding.values).copied().collect()
        }
        clearfilm::bundle::Level::Tokens => {
            fitted.iter().flat_map(|p| &p.tokens.values).copied().collect()
        }
    };
    reconstruct::mean(&read, d)
}

/// How many of each set are told, and what each question alone would tell.
#[must_use]
pub fn told(
    bundle: &clearfilm::bundle::Bundle,
    model: &OodModel,
    parts: &[Parts<'_>],
    strange: &[Passed],
) -> Vec<Told> {
    let held: Vec<Strangeness> =
        deciding(parts).map(|passed| strangeness(bundle, model, passed)).collect();
    // Each alone has the same false alarms as both together.
    let outside = |s: &&Strangeness| s.score(model.edge) > model.threshold;
    let share = 1.0 - whole(held.iter().filter(outside).count()) / whole(held.len().max(1));
    let ends = |which: fn(&Strangeness) -> f32| {
        quantile(&sorted(held.iter().map(|s| f64::from(which(s))).collect()), share)
    };
    let ends = [ends(|s| s.distance), ends(|s| s.unexplained)];
    let mut sets: BTreeMap<(bool, String), Vec<&Passed>> = BTreeMap::new();
    for part in parts {
        sets.insert((false, format!("{}, held out", part.name)), part.hold.clone());
    }
    for passed in strange {
        sets.entry((true, passed.split.clone())).or_default().push(passed);
    }
    let tell = |((_, set), members): ((bool, String), Vec<&Passed>)| {
        let found: Vec<Strangeness> =
            members.iter().map(|passed| strangeness(bundle, model, passed)).collect();
        let scores: Vec<f64> = found.iter().map(|s| f64::from(s.score(model.edge))).collect();
        let above = |limit: f32| scores.iter().filter(|s| **s > f64::from(limit)).count();
        let n = whole(found.len().max(1));
        let single = |which: fn(&Strangeness) -> f32, end: f64| {
            round_4(whole(found.iter().filter(|s| f64::from(which(s)) > end).count()) / n)
        };
        let sources: BTreeSet<&str> = members.iter().map(|p| p.patient.as_str()).collect();
        Told {
            set,
            sources: sources.len(),
            median: round_4(quantile(&sorted(scores.clone()), 0.5)),
            out: Proportion::of(above(model.threshold), found.len(), 0.95),
            noticed: round_4(whole(above(model.borderline)) / n),
            alone: [single(|s| s.distance, ends[0]), single(|s| s.unexplained, ends[1])],
        }
    };
    sets.into_iter().map(tell).collect()
}

/// A gap between two scores that rounding does not cross: twice the most by which int8 weights moved
/// the score of one of 152 radiographs (0.0024).
const GAP: f64 = 0.005;

/// Share of images that may be called strange too few for the sake of such a gap.
const GIVE: f64 = 0.02;

/// The middle of the first wide gap between rising scores from where that share of them ends: none
/// of the images that set a threshold lies at it, and never more of them are strange than was asked.
fn between(scores: &[f64], share: f64) -> f64 {
    let last = scores.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few images")]
    let place = |share: f64| (whole(last) * share.min(1.0)) as usize;
    let next = |at: usize| scores[(at + 1).min(last)];
    let wide = |at: &usize| next(*at) - scores[*at] >= GAP;
    let found = (place(share)..=place(share + GIVE)).find(wide).unwrap_or(place(share));
    f64::midpoint(scores[found], next(found))
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

#[expect(clippy::cast_possible_truncation, reason = "a bundle holds fp32")]
fn fp32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_lies_in_the_first_wide_gap_above_the_share() {
        let mut scores: Vec<f64> = (0..180_u32).map(|at| f64::from(at) / 1000.0).collect();
        // No gap is wide: 170 of 180 lie below.
        assert!((between(&scores, 0.95) - 0.1705).abs() < 1e-9);
        scores.iter_mut().skip(173).for_each(|score| *score += 0.01);
        assert!((between(&scores, 0.95) - 0.1775).abs() < 1e-9);
        // Below the share, or too far above it.
        scores.iter_mut().skip(160).for_each(|score| *score += 0.01);
        assert!((between(&scores, 0.95) - 0.1875).abs() < 1e-9);
        assert!((between(&scores, 0.91) - 0.17250).abs() < 1e-9);
        assert!((between(&[3.0], 0.5) - 3.0).abs() < 1e-9);
    }
}
