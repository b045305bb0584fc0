//! One finding: its rule, what its score means, and whether it may be called validated.

use clearfilm::findings::round_4;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::conformal;
use super::platt::Platt;
use super::proportion::Proportion;
use super::rule::{Fit, Rule};
use crate::codes::Codes;
use crate::evaluate::bootstrap::{Estimate, Ranked};
use crate::evaluate::labels::Mark;
use crate::evaluate::probes::Fold;
use crate::evaluate::readout::{Difference, Reader, Readout};
use crate::measure::whole;

/// Where a finding is called present, uncertain and absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// Share of images with the finding that may be called absent.
    pub missed_max: f64,
    /// Share of images without it that may be called present.
    pub false_max: f64,
}

impl Default for Levels {
    /// One in ten each way: round numbers for a plan that names none, and no clinical claim.
    fn default() -> Self {
        Self { missed_max: 0.1, false_max: 0.1 }
    }
}

/// Shares at one threshold, each with the interval of its images (Clopper and Pearson).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cut {
    /// The threshold, a probability.
    pub probability: f64,
    /// Whether images to come are bound to keep its level, if they are like these: no fewer of them
    /// than the level needs.
    pub promised: bool,
    /// Images with the finding at or above it.
    pub sensitivity: Proportion,
    /// Images without it below it.
    pub specificity: Proportion,
}

/// A finding, fitted and measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Which label it was fitted to.
    pub label: String,
    /// What ships, fitted on all images.
    #[serde(skip)]
    pub rule: Rule,
    /// From its score to a probability; fitted on cross-fitted scores.
    #[serde(skip)]
    pub platt: Platt,
    /// Cross-fitted.
    pub readout: Readout,
    /// Chance of an AUROC as high with labels of other patients of the same strata; none where it is
    /// not validated anyway.
    pub chance: Option<f64>,
    /// It may be no higher than this, for all findings of the collection together (Bonferroni).
    pub chance_max: f64,
    /// Less what needs no features: all above 0 at their lower end, or it is not validated.
    pub against: Vec<Difference>,
    /// Called present from here on.
    pub present: Cut,
    /// Called uncertain from here on.
    pub uncertain: Cut,
    /// Mean distance of a probability from the share of images that have the finding, over tenths of
    /// probability (expected calibration error); cross-fitted but for the two numbers of the
    /// calibration.
    pub calibration_error: f64,
}

/// Why a label has no finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum NoFinding {
    /// Some part of the patients has images of one kind only, or no latent that speaks for it.
    #[error(
        "{label}: expected images with and without it, and latents that speak for it, in every part; found none in part {part}"
    )]
    Part {
        /// Which label.
        label: String,
        /// Which part of the patients was left out.
        part: usize,
    },
    /// Its scores on other patients do not rise with the label.
    #[error(
        "{label}: expected scores that rise with the label on other patients, found AUROC {auroc}"
    )]
    Score {
        /// Which label.
        label: String,
        /// Cross-fitted, in words.
        auroc: String,
    },
}

/// How findings are fitted and tested.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// Rules.
    pub fit: &'a Fit,
    /// Permutations of labels that a finding is held against.
    pub permutations: u64,
    /// So many findings are asked of these images together.
    pub together: usize,
}

impl Finding {
    /// Fits a label of the reader's images and measures it beside readouts of the same label.
    ///
    /// # Errors
    /// No rule can be fitted, or it says nothing on other patients.
    pub fn fit(
        reader: &Reader<'_>,
        codes: &Codes,
        label: usize,
        (how, levels): (&How<'_>, &Levels),
        beside: &[&Readout],
    ) -> Result<Self, NoFinding> {
        let name = reader.images.labels.names[label].clone();
        let read = images_of(&reader.folds);
        let known = among(&marked(&reader.images.labels.column(label)), &read);
        let (rule, readout) = read_by_rule(reader, codes, label, how.fit)?;
        let platt = Platt::fit(&readout.scores, &known).ok_or_else(|| NoFinding::Score {
            label: name.clone(),
            auroc: format!("{:.3}", readout.auroc.value),
        })?;
        let [with, without] = [true, false].map(|kind| -> Vec<f64> {
            let of = known.iter().zip(&readout.scores).filter(|(known, _)| **known == Some(kind));
            of.map(|(_, score)| round_4(platt.probability(*score))).collect()
        });
        let (present, uncertain) = cuts(&with, &without, levels);
        let mut found = Self {
            against: beside.iter().map(|other| reader.difference(&readout, other)).collect(),
            calibration_error: calibration_error(&with, &without),
            chance: None,
            chance_max: (1.0 - reader.level()) / whole(how.together.max(1)),
            label: name,
            rule,
            platt,
            readout,
            present,
            uncertain,
        };
        if found.better() {
            found.chance = Some(found.chance(reader, codes, &known, (&read, how)));
        }
        Ok(found)
    }

    /// Whether it is better than everything that it was held against, at the lower end of the
    /// difference, and than no difference at all at the lower end of its AUROC.
    fn better(&self) -> bool {
        let beats = |difference: &Difference| difference.difference.low > 0.0;
        let known = self.readout.auroc.low > 0.5 && !self.against.is_empty();
        known && self.against.iter().all(beats)
    }

    /// Share of permutations of whole patients within strata whose labels, fitted and read in the
    /// same way, come to an AUROC as high.
    fn chance(
        &self,
        reader: &Reader<'_>,
        codes: &Codes,
        known: &[Option<bool>],
        (read, how): (&[usize], &How<'_>),
    ) -> f64 {
        let blocks = reader.images.blocks_of(read);
        let as_high = |number: &u64| {
            let mut moved = vec![None; known.len()];
            let from = blocks.permuted(reader.probing().seed, *number);
            read.iter().zip(&from).for_each(|(to, from)| moved[*to] = known[read[*from as usize]]);
            let scores = cross_fitted(codes, &moved, &reader.folds, how.fit);
            let auroc = scores.ok().and_then(|s| Ranked::of(&s, &moved).plain(s.len()));
            auroc.is_some_and(|auroc| auroc >= self.readout.auroc.value)
        };
        let reached = (0..how.permutations).into_par_iter().filter(as_high).count();
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let all = how.permutations as f64;
        (1.0 + whole(reached)) / (1.0 + all)
    }

    /// Whether it may be called validated on these images: better than everything that it was held
    /// against, and beyond chance for all findings together. False where it was held against nothing.
    ///
    /// The differences alone do not do: a baseline that was fitted to noise lies below 1/2 as often
    /// as above it, so that some differences of labels that mean nothing are above 0; and intervals
    /// of cross-fitted scores know nothing of the fits.
    #[must_use]
    pub fn validated(&self) -> bool {
        self.better() && self.chance.is_some_and(|p| p <= self.chance_max)
    }

    /// Cross-fitted, with the interval that other patients would give.
    #[must_use]
    pub fn auroc(&self) -> Estimate {
        self.readout.auroc
    }
}

/// A rule of a label, fitted on all images that any fold reads or is fitted on, and what rules that
/// were fitted without an image's patient say of it.
///
/// # Errors
/// No rule can be fitted.
pub fn read_by_rule(
    reader: &Reader<'_>,
    codes: &Codes,
    label: usize,
    fit: &Fit,
) -> Result<(Rule, Readout), NoFinding> {
    let name = reader.images.labels.names[label].clone();
    let none = |part| NoFinding::Part { label: name.clone(), part };
    let all = images_of(&reader.folds);
    let known = among(&marked(&reader.images.labels.column(label)), &all);
    let scores = cross_fitted(codes, &known, &reader.folds, fit).map_err(none)?;
    let rule = Rule::fit(codes, &known, fit).ok_or_else(|| none(reader.folds.len()))?;
    let latents = rule.weights.iter().map(|(latent, _)| *latent).collect();
    let readout = reader.scored(label, "rule", (fit.latents_max, latents), scores);
    Ok((rule, readout.ok_or_else(|| none(reader.folds.len()))?))
}

/// Images that any fold reads or is fitted on.
fn images_of(folds: &[Fold]) -> Vec<usize> {
    let all = folds.iter().flat_map(|fold| fold.read.iter().chain(&fold.fit));
    let mut images: Vec<usize> = all.copied().collect();
    images.sort_unstable();
    images.dedup();
    images
}

/// Scores of images by rules that were fitted without their patients; where one cannot be fitted,
/// the part that was left out.
fn cross_fitted(
    codes: &Codes,
    known: &[Option<bool>],
    folds: &[Fold],
    fit: &Fit,
) -> Result<Vec<f64>, usize> {
    let mut scores = vec![f64::NAN; codes.samples];
    for (part, fold) in folds.iter().enumerate() {
        let rule = Rule::fit(codes, &among(known, &fold.fit), fit).ok_or(part)?;
        let all = rule.scores(codes);
        fold.read.iter().for_each(|image| scores[*image] = all[*image]);
    }
    Ok(scores)
}

/// Of known labels.
fn marked(marks: &[Mark]) -> Vec<Option<bool>> {
    let known = |mark: &Mark| match mark {
        Mark::Positive => Some(true),
        Mark::Negative => Some(false),
        Mark::Unknown => None,
    };
    marks.iter().map(known).collect()
}

/// Labels of some of the images; of the others nothing is known.
fn among(known: &[Option<bool>], images: &[usize]) -> Vec<Option<bool>> {
    let mut some = vec![None; known.len()];
    images.iter().for_each(|image| some[*image] = known[*image]);
    some
}

/// Probabilities are said in four decimals, and held against thresholds as they are said.
const DIGIT: f64 = 1e-4;

/// Present where few without the finding lie, uncertain where few with it lie below.
///
/// Where both can be kept by one threshold, that is the one in the middle (log odds), and nothing is
/// called uncertain.
fn cuts(with: &[f64], without: &[f64], levels: &Levels) -> (Cut, Cut) {
    let negated: Vec<f64> = without.iter().map(|p| -p).collect();
    // Just above the probability that too many negatives reach.
    let above = |p: f64| round_4(p + DIGIT);
    let present = conformal::threshold(&negated, levels.false_max).map(|p| above(-p));
    let uncertain = conformal::threshold(with, levels.missed_max);
    let highest = without.iter().copied().fold(0.0, f64::max);
    let lowest = with.iter().copied().fold(1.0, f64::min);
    let (mut at_present, mut at_uncertain) =
        (present.unwrap_or(above(highest)).min(1.0), uncertain.unwrap_or(lowest));
    if at_uncertain > at_present {
        at_present = middle(at_present, at_uncertain);
        at_uncertain = at_present;
    }
    let cut = |probability: f64, promised: bool| Cut {
        probability,
        promised,
        sensitivity: share(with, |p| p >= probability),
        specificity: share(without, |p| p < probability),
    };
    (cut(at_present, present.is_some()), cut(at_uncertain, uncertain.is_some()))
}

/// Half way between two probabilities in log odds, as it is said.
fn middle(low: f64, high: f64) -> f64 {
    let odds = |p: f64| {
        let p = p.clamp(DIGIT / 2.0, 1.0 - DIGIT / 2.0);
        (p / (1.0 - p)).ln()
    };
    let z = f64::midpoint(odds(low), odds(high));
    round_4(1.0 / (1.0 + (-z).exp())).clamp(low, high)
}

/// Level of every interval.
const LEVEL: f64 = 0.95;

fn share(of: &[f64], is: impl Fn(f64) -> bool) -> Proportion {
    Proportion::of(of.iter().filter(|p| is(**p)).count(), of.len(), LEVEL)
}

/// Steps of probability that are held against the share of images with the finding in them.
const STEPS: usize = 10;

fn calibration_error(with: &[f64], without: &[f64]) -> f64 {
    // Of each step: what was said, and what was so.
    let mut steps = [[0.0; 2]; STEPS];
    let mut add = |p: f64, is: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
        let at = ((p * whole(STEPS)) as usize).min(STEPS - 1);
        steps[at][0] += p;
        steps[at][1] += is;
    };
    with.iter().for_each(|p| add(*p, 1.0));
    without.iter().for_each(|p| add(*p, 0.0));
    let apart: f64 = steps.iter().map(|[said, so]| (said - so).abs()).sum();
    apart / whole(with.len() + without.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_keep_their_levels_on_the_images_that_set_them() {
        let with: Vec<f64> = (1..=39).map(|i| 0.2 + f64::from(i) / 60.0).collect();
        let without: Vec<f64> = (1..=59).map(|i| f64::from(i) / 100.0).collect();
        let (present, uncertain) =
            cuts(&with, &without, &Levels { missed_max: 0.1, false_max: 0.1 });
        assert!(present.promised && uncertain.promised);
        // floor(0.1 * 40) - 1 positives below, floor(0.1 * 60) - 1 negatives at or above.
        assert_eq!(uncertain.sensitivity.of - uncertain.sensitivity.hits, 3);
        assert_eq!(present.specificity.of - present.specificity.hits, 5);
        assert!(uncertain.probability < present.probability);
    }

    #[test]
    fn few_images_promise_nothing_and_kinds_that_are_apart_leave_nothing_uncertain() {
        let (present, uncertain) =
            cuts(&[0.8, 0.9], &[0.1, 0.2, 0.3], &Levels { missed_max: 0.1, false_max: 0.1 });
        assert!(!present.promised && !uncertain.promised);
        assert!((uncertain.probability - present.probability).abs() < 1e-12);
        assert_eq!((uncertain.sensitivity.hits, present.specificity.hits), (2, 3));
        // Between 0.3001 and 0.8, at odds of the root of 0.3001 * 0.8 / (0.6999 * 0.2).
        assert!((present.probability - 0.567).abs() < 1e-3, "{}", present.probability);
    }

    #[test]
    fn probabilities_that_say_the_share_have_no_error() {
        let with = [vec![0.5; 50], vec![0.9; 9]].concat();
        let without = [vec![0.5; 50], vec![0.9; 1]].concat();
        assert!(calibration_error(&with, &without) < 1e-9);
        // All are called 0.9, half are so.
        assert!((calibration_error(&[0.9; 5], &[0.9; 5]) - 0.4).abs() < 1e-9);
    }
}
