//! What folds teach of a label from all values of a row, under a ridge that other patients chose.

use super::labels::Mark;
use super::logistic::{Logistic, Prepared};
use super::probes::{Fold, Probing, folds, known, positive};

/// What each fold teaches of a label by rows `[n, d]` of patients; none where a fold has only one
/// kind of image.
#[must_use]
pub fn fitted(
    (rows, d): (&[f64], usize),
    label: &[Mark],
    patients: &[u32],
    folds: &[Fold],
    (ridge, how): (f64, &Probing),
) -> Option<Vec<Logistic>> {
    let one = |fold: &Fold| {
        let known = known(&fold.fit, label);
        let ridge = ridge_for((rows, d), label, patients, &known, how).unwrap_or(ridge);
        taught((rows, d), label, &known, &[ridge])?.pop()
    };
    folds.iter().map(one).collect()
}

/// Readouts of a label by some images under each of the ridges; none where it is the same on all.
fn taught(
    (rows, d): (&[f64], usize),
    label: &[Mark],
    images: &[usize],
    ridges: &[f64],
) -> Option<Vec<Logistic>> {
    let picked: Vec<f64> =
        images.iter().flat_map(|image| &rows[image * d..][..d]).copied().collect();
    let (prepared, positive) = (Prepared::of(&picked, d), positive(images, label));
    ridges.iter().map(|ridge| prepared.fit(&positive, *ridge)).collect()
}

/// Parts that patients are dealt into to choose a ridge.
const PARTS: usize = 5;

/// The ridge under which readouts lose least (cross-entropy) on patients that they were not fitted
/// on, all of them among `known`. None where there is nothing to choose.
fn ridge_for(
    (rows, d): (&[f64], usize),
    label: &[Mark],
    patients: &[u32],
    known: &[usize],
    how: &Probing,
) -> Option<f64> {
    if how.ridges.is_empty() {
        return None;
    }
    let within = Probing { folds: PARTS, ..how.clone() };
    let mut losses = vec![0.0; how.ridges.len()];
    for fold in folds(known, &[], patients, &within) {
        let found = taught((rows, d), label, &fold.fit, &how.ridges)?;
        for (loss, readout) in losses.iter_mut().zip(&found) {
            for image in &fold.read {
                let z = readout.score(&rows[image * d..][..d]);
                let against = if label[*image] == Mark::Positive { -z } else { z };
                *loss += against.max(0.0) + (-against.abs()).exp().ln_1p();
            }
        }
    }
    let best = losses.iter().zip(&how.ridges).min_by(|a, b| a.0.total_cmp(b.0));
    best.map(|(_, ridge)| *ridge)
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;
    use crate::start::{Stream, numbers};

    #[test]
    fn the_ridge_is_the_one_that_holds_on_other_patients() {
        // One value in 40 tells the label of most; with 60 images the rest only looks as if.
        let mut random = numbers(3, Stream::Control);
        let rows: Vec<f64> = (0..60 * 40).map(|_| StandardNormal.sample(&mut random)).collect();
        let label: Vec<Mark> = (0..60)
            .map(|i| if rows[i * 40] > 0.0 { Mark::Positive } else { Mark::Negative })
            .collect();
        let patients: Vec<u32> = (0..60).collect();
        let all: Vec<usize> = (0..60).collect();
        let how = Probing { ridges: vec![1e-6, 10.0, 1e6], ..Probing::default() };
        assert_eq!(ridge_for((&rows, 40), &label, &patients, &all, &how), Some(10.0));
        let how = Probing { ridges: Vec::new(), ..how };
        assert_eq!(ridge_for((&rows, 40), &label, &patients, &all, &how), None);
    }
}
