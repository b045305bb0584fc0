//! How features and labels go together, by MedSAE's measures and by those that correct them.
//!
//! MedSAE (arXiv 2510.26411, its code): Pearson's correlation of every feature with every label;
//! for features that reach |R| > 0.2 somewhere, the entropy of their |R| over the labels.
//! Sampling noise alone pushes that entropy up, so the Kullback-Leibler divergence of a feature's
//! labels from the base rate stands beside it: 0 bits where a feature says nothing.

use rayon::prelude::*;
use serde::Serialize;

use super::labels::{Labels, Mark};
use crate::codes::{Codes, Value};
use crate::measure::whole;

/// |R| from which on MedSAE counts a feature (its code).
pub const CORRELATED: f64 = 0.2;

/// Share of a feature's positive values that lie below where it "fires" (MedSAE's code,
/// `chexpert_score.py`: the upper 30 % fire).
pub const FIRES_ABOVE: f64 = 0.7;

/// MedSAE lists features that are active on more and on fewer images than these.
pub const LISTED: [usize; 2] = [15, 300];

/// Correlations of features with labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlations {
    /// `[features][labels]`, in -1..1; 0 where either is the same everywhere.
    pub r: Vec<Vec<f64>>,
}

impl Correlations {
    /// Pearson's, over the images whose label is known.
    #[must_use]
    pub fn of(codes: &Codes, labels: &Labels) -> Self {
        let counts: Vec<[usize; 2]> = (0..labels.names.len()).map(|l| labels.counts(l)).collect();
        let one = |column: &[Value]| {
            let label = |label: usize| correlation(column, labels, label, counts[label]);
            (0..labels.names.len()).map(label).collect()
        };
        Self { r: codes.columns().map(one).collect() }
    }

    /// The largest |R| of a feature.
    #[must_use]
    pub fn most(&self, feature: usize) -> f64 {
        self.r[feature].iter().fold(0.0, |most, r| r.abs().max(most))
    }

    /// The feature with the largest signed R, for each label.
    #[must_use]
    pub fn best(&self) -> Vec<Option<usize>> {
        let labels = self.r.first().map_or(0, Vec::len);
        let of = |label: usize| {
            let features = (0..self.r.len()).filter(|f| self.r[*f][label] > 0.0);
            features.max_by(|a, b| self.r[*a][label].total_cmp(&self.r[*b][label]))
        };
        (0..labels).map(of).collect()
    }
}

fn correlation(
    column: &[Value],
    labels: &Labels,
    label: usize,
    [positives, negatives]: [usize; 2],
) -> f64 {
    let (mut sum, mut squares, mut with) = (0.0, 0.0, 0.0);
    for value in column {
        let v = f64::from(value.value);
        match labels.mark(value.sample as usize, label) {
            Mark::Positive => with += v,
            Mark::Negative => {}
            Mark::Unknown => continue,
        }
        sum += v;
        squares += v * v;
    }
    let (n1, n) = (whole(positives), whole(positives + negatives));
    let common = with / n - sum / n * (n1 / n);
    let spread = (squares / n - (sum / n) * (sum / n)) * (n1 / n) * (1.0 - n1 / n);
    if spread > 0.0 { common / spread.sqrt() } else { 0.0 }
}

/// MedSAE's figures over one set of labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parity {
    /// Which labels.
    pub labels: Vec<String>,
    /// Features with |R| > 0.2 somewhere.
    pub correlated: usize,
    /// Their mean entropy, in nats; none where no feature is correlated.
    pub entropy_nats: Option<f64>,
    /// The same in bits.
    pub entropy_bits: Option<f64>,
    /// What it could be at most: all labels alike, in nats.
    pub entropy_most_nats: f64,
    /// Mean binary cross-entropy, in nats, between |R| and 1 for the largest, 0 for the others.
    pub cross_entropy: Option<f64>,
    /// For each label the feature with the largest R: its number, R, and entropy in nats.
    pub best: Vec<Option<Best>>,
    /// The mean of the largest R over the labels.
    pub best_mean: f64,
    /// For each label the most that one feature's share of all values on its images exceeds the
    /// feature's share on the others (after arXiv 2501.18052).
    pub class_shares: Vec<f64>,
}

/// The feature that goes best with a label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Best {
    /// Which.
    pub feature: usize,
    /// Pearson's correlation.
    pub r: f64,
    /// Of its |R| over the labels, in nats.
    pub entropy_nats: f64,
}

/// MedSAE's figures on images, with the labels that it names or all.
#[must_use]
pub fn parity(codes: &Codes, labels: &Labels) -> Parity {
    let all = Correlations::of(codes, labels);
    let counted: Vec<&Vec<f64>> =
        (0..all.r.len()).filter(|f| all.most(*f) > CORRELATED).map(|f| &all.r[f]).collect();
    let mean = |of: &dyn Fn(&[f64]) -> f64| {
        let sum: f64 = counted.iter().map(|r| of(r)).sum();
        (!counted.is_empty()).then(|| sum / whole(counted.len()))
    };
    let entropy_nats = mean(&|r| entropy(r));
    let best = all.best();
    let best: Vec<Option<Best>> = best
        .into_iter()
        .enumerate()
        .map(|(label, feature)| {
            let feature = feature?;
            let r = &all.r[feature];
            Some(Best { feature, r: r[label], entropy_nats: entropy(r) })
        })
        .collect();
    let sum: f64 = best.iter().flatten().map(|best| best.r).sum();
    Parity {
        labels: labels.names.clone(),
        correlated: counted.len(),
        entropy_bits: entropy_nats.map(|nats| nats / std::f64::consts::LN_2),
        entropy_nats,
        entropy_most_nats: whole(labels.names.len()).ln(),
        cross_entropy: mean(&cross_entropy),
        best_mean: sum / whole(best.len().max(1)),
        best,
        class_shares: class_shares(codes, labels),
    }
}

/// `- sum p ln p` with `p = |R| / sum |R|`, in nats.
#[must_use]
pub fn entropy(r: &[f64]) -> f64 {
    let sum: f64 = r.iter().map(|r| r.abs()).sum();
    let shares = r.iter().map(|r| r.abs() / sum).filter(|p| *p > 0.0);
    -shares.map(|p| p * p.ln()).sum::<f64>()
}

/// Correlations of exactly 0 and 1 have no finite logarithm.
const AWAY: f64 = 1e-12;

fn cross_entropy(r: &[f64]) -> f64 {
    let largest = r.iter().map(|r| r.abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let largest = largest.map_or(0, |(at, _)| at);
    let each = r.iter().enumerate().map(|(at, r)| {
        let p = r.abs().clamp(AWAY, 1.0 - AWAY);
        if at == largest { -p.ln() } else { -(1.0 - p).ln() }
    });
    each.sum::<f64>() / whole(r.len())
}

/// For each label the largest `m_j / sum m - m'_j / sum m'` of all features `j`: their shares of
/// the mean values on images with the label, less those on images without (SAeUron, 2501.18052).
fn class_shares(codes: &Codes, labels: &Labels) -> Vec<f64> {
    let label = |label: usize| {
        let [n1, n0] = labels.counts(label).map(|n| whole(n.max(1)));
        let means = |column: &[Value]| {
            let mut sums = [0.0; 2];
            for value in column {
                match labels.mark(value.sample as usize, label) {
                    Mark::Positive => sums[0] += f64::from(value.value),
                    Mark::Negative => sums[1] += f64::from(value.value),
                    Mark::Unknown => {}
                }
            }
            [sums[0] / n1, sums[1] / n0]
        };
        let means: Vec<[f64; 2]> = codes.columns().map(means).collect();
        let total = |side: usize| means.iter().map(|m| m[side].abs()).sum::<f64>().max(AWAY);
        let totals = [total(0), total(1)];
        let shares = means.iter().map(|[with, without]| with / totals[0] - without / totals[1]);
        shares.fold(0.0, f64::max)
    };
    (0..labels.names.len()).map(label).collect()
}

/// What a feature's firings say about the labels, whatever their prevalence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Information {
    /// `sum q log2(q / base)`, in bits: `q` is the share of the feature's value that falls on
    /// images of a label, `base` the label's share of all positive labels. 0: no information.
    pub divergence_bits: f64,
    /// Largest share of firings that carry one label.
    pub purity: f64,
    /// The prevalence of that label.
    pub purity_base: f64,
}

/// Of each feature; none for those that fire on no image with a label.
#[must_use]
pub fn information(codes: &Codes, labels: &Labels) -> Vec<Option<Information>> {
    let width = labels.names.len();
    let counts: Vec<[usize; 2]> = (0..width).map(|label| labels.counts(label)).collect();
    let positives: f64 = counts.iter().map(|[n1, _]| whole(*n1)).sum();
    codes
        .columns()
        .map(|column| {
            let (mut value, mut times) = (vec![0.0_f64; width], vec![0.0_f64; width]);
            let mut known = vec![0.0_f64; width];
            for one in column.iter().filter(|one| one.value > 0.0) {
                for label in 0..width {
                    match labels.mark(one.sample as usize, label) {
                        Mark::Positive => {
                            value[label] += f64::from(one.value);
                            times[label] += 1.0;
                            known[label] += 1.0;
                        }
                        Mark::Negative => known[label] += 1.0,
                        Mark::Unknown => {}
                    }
                }
            }
            let sum: f64 = value.iter().sum();
            if sum <= 0.0 {
                return None;
            }
            let bits = value.iter().zip(&counts).map(|(value, [n1, _])| {
                let (q, base) = (value / sum, whole(*n1) / positives);
                if q > 0.0 { q * (q / base).log2() } else { 0.0 }
            });
            let pure = (0..width).map(|label| times[label] / known[label].max(1.0));
            let purest = pure.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
            let (label, purity) = purest.unwrap_or((0, 0.0));
            let [n1, n0] = counts[label];
            let purity_base = whole(n1) / whole((n1 + n0).max(1));
            Some(Information { divergence_bits: bits.sum(), purity, purity_base })
        })
        .collect()
}

/// "Fires" against "has the label": MedSAE's precision, recall and F1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Firing {
    /// The feature.
    pub feature: usize,
    /// The label.
    pub label: usize,
    /// Above this value it fires: the 70th percentile of its positive values.
    pub threshold: f32,
    /// Share of the firings that have the label.
    pub precision: f64,
    /// Share of the label's images on which it fires.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// The labels that each listed feature fires for best by F1, at most `most` of a feature.
#[must_use]
pub fn firings(codes: &Codes, labels: &Labels, most: usize) -> Vec<Firing> {
    let totals: Vec<usize> = (0..labels.names.len()).map(|l| labels.counts(l)[0]).collect();
    let listed = |feature: &usize| {
        let active = codes.column(*feature).iter().filter(|v| v.value > 0.0).count();
        LISTED[0] < active && active < LISTED[1]
    };
    let asked: Vec<usize> = (0..codes.features()).filter(listed).collect();
    let of = |&feature: &usize| {
        let column = codes.column(feature);
        let positive = &column[column.partition_point(|v| v.value <= 0.0)..];
        let sorted: Vec<f64> = positive.iter().map(|v| f64::from(v.value)).collect();
        #[expect(clippy::cast_possible_truncation, reason = "between two values of fp32")]
        let threshold = super::bootstrap::quantile(&sorted, FIRES_ABOVE) as f32;
        let fired = &positive[positive.partition_point(|v| v.value <= threshold)..];
        let one = |label: usize| {
            let known = |mark: Mark| {
                fired.iter().filter(|v| labels.mark(v.sample as usize, label) == mark).count()
            };
            let (hits, misses) = (whole(known(Mark::Positive)), whole(known(Mark::Negative)));
            let precision = hits / (hits + misses).max(1.0);
            let recall = hits / whole(totals[label].max(1));
            let f1 = 2.0 * precision * recall / (precision + recall).max(AWAY);
            Firing { feature, label, threshold, precision, recall, f1 }
        };
        let mut found: Vec<Firing> = (0..totals.len()).map(one).filter(|f| f.f1 > 0.0).collect();
        found.sort_by(|a, b| b.f1.total_cmp(&a.f1));
        found.truncate(most);
        found
    };
    asked.par_iter().flat_map_iter(of).collect()
}
