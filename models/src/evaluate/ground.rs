//! What an encoder's embeddings give without any dictionary: what every dictionary stands beside.

use rand_distr::{Distribution as _, StandardNormal};
use serde::Serialize;

use super::alignment::{Parity, parity};
use super::images::Images;
use super::labels::Labels;
use super::monosemantic::{Monosemanticity, monosemanticity};
use super::pca::{Pca, project};
use super::plan::Plan;
use super::probes::{Single, singles};
use super::readout::{Reader, Readout, Taught};
use crate::codes::Codes;
use crate::normalise::{NormaliseError, Normaliser, Offset};
use crate::start::{Stream, numbers};

/// Components and random directions that readouts may choose from, as many as an embedding has
/// dimensions at most.
const DIRECTIONS: usize = 512;

/// A folder of embeddings, without a dictionary.
#[derive(Debug, Serialize)]
pub struct Ground {
    /// Values of an embedding.
    pub d: usize,
    /// How far the training images stand from the origin.
    pub offset: Offset,
    /// Share of the test images' variance that so many principal components of the training
    /// images leave, from 0 to `d` components.
    pub components: Vec<f64>,
    /// Readouts: acquisition, grey values, the whole embedding, and a few of its dimensions,
    /// components, random directions.
    pub readouts: Vec<Readout>,
    /// MedSAE's figures of the embedding's dimensions, for each set of labels.
    pub parity: Vec<Parity>,
    /// Their best single probes.
    pub singles: Vec<Option<Single>>,
    /// Their monosemanticity on the test images.
    pub monosemanticity: Monosemanticity,
    /// What the whole embedding teaches of each label.
    #[serde(skip)]
    pub taught: Taught,
}

/// Labels of sets, on images.
pub(super) struct Sets {
    /// The images of the balanced subset.
    pub(super) balanced: Vec<usize>,
    /// Names and labels on the balanced subset.
    pub(super) sets: Vec<(String, Labels)>,
}

impl Sets {
    /// By the plan; the balanced subset is drawn from the training images, as MedSAE does.
    pub(super) fn of(images: &Images, plan: &Plan) -> Self {
        let train = images.labels.moved(&images.train);
        let chosen = train.balanced(plan.balanced);
        let balanced: Vec<usize> = chosen.iter().map(|at| images.train[*at]).collect();
        let labels = images.labels.moved(&balanced);
        let named = plan.label_set.iter().map(|set| (set.name.clone(), only(&labels, &set.labels)));
        let mut sets: Vec<(String, Labels)> = named.collect();
        if sets.is_empty() {
            sets.push(("all".to_owned(), labels));
        }
        Self { balanced, sets }
    }

    pub(super) fn parity(&self, codes: &Codes) -> Vec<Parity> {
        let own = codes.only(&self.balanced);
        self.sets.iter().map(|(_, labels)| parity(&own, labels)).collect()
    }

    pub(super) fn singles(&self, codes: &Codes, seed: u64) -> Vec<Option<Single>> {
        let own = codes.only(&self.balanced);
        self.sets.last().map_or_else(Vec::new, |(_, labels)| singles(&own, labels, seed))
    }
}

/// Some of the labels, in the order of their names.
fn only(labels: &Labels, names: &[String]) -> Labels {
    let kept = names.iter().filter_map(|name| {
        let at = labels.names.iter().position(|own| own == name)?;
        Some((name.clone(), labels.column(at)))
    });
    Labels::of(kept.collect())
}

impl Ground {
    /// Of the images' embeddings.
    ///
    /// # Errors
    /// They are all alike, or no numbers.
    pub(super) fn of(
        images: &Images,
        reader: &Reader<'_>,
        sets: &Sets,
        plan: &Plan,
    ) -> Result<Self, NormaliseError> {
        let d = images.d;
        let train = images.embeddings_of(&images.train);
        let test = images.embeddings_of(&images.test);
        let (_, offset) = Normaliser::of(&train, d)?;
        let pca = Pca::of(&train, d);
        let raw = Codes::dense(&images.embeddings, d);
        let (ridge, dense) = (plan.probing.ridge, plan.probing.ridge_dense);
        let embedding: Vec<f64> = images.embeddings.iter().map(|x| f64::from(*x)).collect();
        let (metadata, m) = &images.metadata;
        let (intensity, i) = &images.intensity;
        let both: Vec<f64> = (0..images.names.len())
            .flat_map(|row| metadata[row * m..][..*m].iter().chain(&intensity[row * i..][..*i]))
            .copied()
            .collect();
        let read = |from: &str, rows: &[f64], d: usize| {
            if d == 0 { Vec::new() } else { reader.rows(from, &reader.teach(rows, d, ridge), rows) }
        };
        let mut readouts = read("acquisition", metadata, *m);
        readouts.extend(read("grey values", intensity, *i));
        readouts.extend(read("acquisition and grey values", &both, m + i));
        let taught = reader.teach(&embedding, d, dense);
        readouts.extend(reader.rows("embedding", &taught, &embedding));
        readouts.extend(reader.sparse("dimensions", &raw));
        let count = d.min(DIRECTIONS);
        if let Some(pca) = &pca {
            let projected = pca.project(&images.embeddings, count);
            readouts.extend(reader.sparse("components", &Codes::dense(&projected, count)));
        }
        let projected = project(&images.embeddings, d, &random(d, count, plan.probing.seed));
        readouts.extend(reader.sparse("random directions", &Codes::dense(&projected, count)));
        Ok(Self {
            d,
            offset,
            components: pca.as_ref().map_or_else(Vec::new, |pca| pca.unexplained(&test)),
            readouts,
            parity: sets.parity(&raw),
            singles: sets.singles(&raw, plan.probing.seed),
            monosemanticity: monosemanticity(
                &raw.only(&images.test),
                &test,
                d,
                &images.patients_of(&images.test),
            ),
            taught,
        })
    }
}

/// Rows of normal numbers, `[count, d]`.
fn random(d: usize, count: usize, seed: u64) -> Vec<f32> {
    let mut random = numbers(seed, Stream::Control);
    (0..d * count).map(|_| StandardNormal.sample(&mut random)).collect()
}
