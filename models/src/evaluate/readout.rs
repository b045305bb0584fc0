//! Readouts of labels beside each other, on the same patients.

use rayon::prelude::*;
use serde::Serialize;

use super::bootstrap::{Bootstrap, Draws, Estimate, Ranked};
use super::images::Images;
use super::labels::Mark;
use super::logistic::Logistic;
use super::probes::{Fold, Probing, Scores, folds, read, read_sparse};
use super::teach::fitted;
use crate::codes::Codes;
use crate::measure::whole;

/// One way to read one label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Readout {
    /// What is read.
    pub label: String,
    /// From what.
    pub from: String,
    /// From how many of its values; 0: all.
    pub size: usize,
    /// Which ones, where they are few; of the first fold.
    pub features: Vec<usize>,
    /// On the images that were read.
    pub auroc: Estimate,
    /// Images with the label, and without.
    pub images: [usize; 2],
    /// Log odds by image.
    #[serde(skip)]
    pub scores: Scores,
}

/// What readouts are made with.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Images and labels.
    pub images: &'a Images,
    /// What is fitted on, and read.
    pub folds: Vec<Fold>,
    /// Images that are read by any fold.
    read: Vec<bool>,
    draws: Draws,
    probing: &'a Probing,
    bootstrap: &'a Bootstrap,
}

/// Readouts of labels from all values of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Taught {
    /// Values of a row.
    pub d: usize,
    /// Of each label, fold by fold.
    pub labels: Vec<Option<Vec<Logistic>>>,
}

/// A difference of two readouts on the same patients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What is read.
    pub label: String,
    /// The one.
    pub of: String,
    /// From how many values.
    pub size: usize,
    /// The other.
    pub versus: String,
    /// AUROC of the one less that of the other.
    pub difference: Estimate,
}

impl<'a> Reader<'a> {
    /// For these folds and draws.
    #[must_use]
    pub fn new(images: &'a Images, probing: &'a Probing, bootstrap: &'a Bootstrap) -> Self {
        let folds = folds(&images.train, &images.test, &images.patients, probing);
        let mut read = vec![false; images.names.len()];
        folds.iter().flat_map(|fold| &fold.read).for_each(|image| read[*image] = true);
        let draws = Draws::of(&images.patients, bootstrap);
        Self { images, folds, read, draws, probing, bootstrap }
    }

    /// How readouts are fitted.
    #[must_use]
    pub fn probing(&self) -> &Probing {
        self.probing
    }

    /// What each label's folds teach by all values of rows `[n, d]`; none for labels that cannot
    /// be read.
    #[must_use]
    pub fn teach(&self, rows: &[f64], d: usize, ridge: f64) -> Taught {
        let labels = 0..self.images.labels.names.len();
        let (patients, how) = (&self.images.patients, (ridge, self.probing));
        let one = |label: usize| {
            let marks = self.images.labels.column(label);
            fitted((rows, d), &marks, patients, &self.folds, how)
        };
        Taught { d, labels: labels.into_par_iter().map(one).collect() }
    }

    /// Every label from rows `[n, d]`, as they were taught by these or others.
    #[must_use]
    pub fn rows(&self, from: &str, taught: &Taught, rows: &[f64]) -> Vec<Readout> {
        let one = |(label, taught_label): (usize, &Option<Vec<Logistic>>)| {
            let scores = read(taught_label.as_ref()?, rows, taught.d, &self.folds);
            self.scored(label, from, (0, Vec::new()), scores)
        };
        taught.labels.par_iter().enumerate().filter_map(one).collect()
    }

    /// Every label from a few features, for each of the sizes that are probed.
    #[must_use]
    pub fn sparse(&self, from: &str, codes: &Codes) -> Vec<Readout> {
        let labels = self.images.labels.names.len();
        let asked: Vec<(usize, usize)> = (self.probing.sizes.iter())
            .flat_map(|size| (0..labels).map(move |label| (label, *size)))
            .collect();
        let read = |&(label, size): &(usize, usize)| {
            let marks = self.images.labels.column(label);
            let how = (size, self.probing.ridge);
            let (scores, chosen) = read_sparse(codes, &marks, &self.folds, how)?;
            self.scored(label, from, (size, chosen), scores)
        };
        asked.iter().filter_map(read).collect()
    }

    /// How much better one readout is, by patients that both see.
    #[must_use]
    pub fn difference(&self, of: &Readout, versus: &Readout) -> Difference {
        let label = self.images.labels.names.iter().position(|name| *name == of.label);
        let marks = self.known(label.unwrap_or(0));
        let [a, b] = [of, versus].map(|readout| Ranked::of(&readout.scores, &marks));
        let level = self.bootstrap.level;
        let value = of.auroc.value - versus.auroc.value;
        let figure = |weights: &[u16]| Some(a.auroc(weights)? - b.auroc(weights)?);
        Difference {
            label: of.label.clone(),
            of: of.from.clone(),
            size: of.size,
            versus: versus.from.clone(),
            difference: self.draws.estimate(value, level, figure),
        }
    }

    /// The mean AUROC of some readouts, and where others stand beside them, how much better it is
    /// than theirs; by patients that all see. None where a readout has no AUROC.
    #[must_use]
    pub fn mean(&self, of: &[&Readout], versus: &[&Readout]) -> Option<Estimate> {
        let ranked = |readouts: &[&Readout]| -> Vec<Ranked> {
            let one = |readout: &&Readout| {
                let name = |label: &String| *label == readout.label;
                let label = self.images.labels.names.iter().position(name).unwrap_or(0);
                Ranked::of(&readout.scores, &self.known(label))
            };
            readouts.iter().map(one).collect()
        };
        let (own, theirs) = (ranked(of), ranked(versus));
        let mean = |of: &[Ranked], weights: &[u16]| -> Option<f64> {
            let sum: Option<f64> = of.iter().map(|ranked| ranked.auroc(weights)).sum();
            Some(sum? / whole(of.len().max(1)))
        };
        let figure = |weights: &[u16]| Some(mean(&own, weights)? - mean(&theirs, weights)?);
        let value = figure(&vec![1; self.images.names.len()])?;
        Some(self.draws.estimate(value, self.bootstrap.level, figure))
    }

    /// Share of the draws between the ends of an interval.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.bootstrap.level
    }

    /// The AUROC of any value of the images, with its interval.
    #[must_use]
    pub fn auroc(&self, label: usize, scores: &[f64]) -> Option<Estimate> {
        let ranked = Ranked::of(scores, &self.known(label));
        let value = ranked.plain(scores.len())?;
        let level = self.bootstrap.level;
        Some(self.draws.estimate(value, level, |weights| ranked.auroc(weights)))
    }

    /// A label by scores that were found in another way, one an image that is read.
    #[must_use]
    pub fn scored(
        &self,
        label: usize,
        from: &str,
        (size, features): (usize, Vec<usize>),
        scores: Scores,
    ) -> Option<Readout> {
        let known = self.known(label);
        let images = [true, false].map(|kind| known.iter().filter(|k| **k == Some(kind)).count());
        Some(Readout {
            label: self.images.labels.names[label].clone(),
            from: from.to_owned(),
            size,
            features,
            auroc: self.auroc(label, &scores)?,
            images,
            scores,
        })
    }

    /// What is known of a label on the images that are read.
    fn known(&self, label: usize) -> Vec<Option<bool>> {
        let marks = self.images.labels.column(label);
        let known = marks.iter().zip(&self.read).map(|(mark, read)| match mark {
            Mark::Positive if *read => Some(true),
            Mark::Negative if *read => Some(false),
            Mark::Positive | Mark::Negative | Mark::Unknown => None,
        });
        known.collect()
    }
}
