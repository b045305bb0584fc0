//! What labels can be read from, beside what needs no encoder and what the encoder was taught by.

use clearfilm::bundle::Level;
use serde::Serialize;

use super::plan::Readouts;
use crate::associate::rounded;
use crate::calibrate::finding::read_by_rule;
use crate::calibrate::rule::Fit;
use crate::codes::Codes;
use crate::evaluate::bootstrap::{Bootstrap, Estimate};
use crate::evaluate::images::Images;
use crate::evaluate::probes::Probing;
use crate::evaluate::readout::{Reader, Readout};

/// What a label is read from, as the card names it.
pub const SHIPPED: &str = "dictionary";
/// The whole embedding.
pub const DENSE: &str = "embedding";
/// How an image was taken.
pub const ACQUISITION: &str = "acquisition";
/// Eight statistics of grey values.
pub const GREY: &str = "grey values";
/// The networks that taught the encoder.
pub const TEACHERS: &str = "teachers";

/// One label, or the mean of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is read.
    pub label: String,
    /// Images with it, and without; none for a mean.
    pub images: Option<[usize; 2]>,
    /// AUROC by what it is read from.
    pub from: Vec<(String, Option<Estimate>)>,
    /// Differences: of, less, and how much.
    pub against: Vec<(String, String, Option<Estimate>)>,
}

/// All labels, read in one way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// How patients were kept apart.
    pub how: String,
    /// One a label, and the mean of some last.
    pub rows: Vec<Row>,
}

/// What is read, and from what.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Images and labels.
    pub images: &'a Images,
    /// Embeddings `[n, d]`.
    pub embeddings: (&'a [f32], usize),
    /// Teachers' features `[n, d]`.
    pub teachers: (&'a [f32], usize),
    /// Codes of the dictionary that ships.
    pub codes: &'a Codes,
}

/// Rows `[n, d]`, and `d`.
type Values = (Vec<f64>, usize);

/// The comparisons of a card: what ships, and the whole embedding, each against what is simpler.
const AGAINST: [(&str, &str); 7] = [
    (DENSE, ACQUISITION),
    (DENSE, GREY),
    (DENSE, TEACHERS),
    (SHIPPED, ACQUISITION),
    (SHIPPED, GREY),
    (SHIPPED, TEACHERS),
    (SHIPPED, DENSE),
];

/// Reads every label in two ways: cross-fitted over all patients, and fitted on the training split
/// and read once on the other.
#[must_use]
pub fn tables(
    sources: Sources<'_>,
    asked: &Readouts,
    probing: &Probing,
    (fit, bootstrap): (&Fit, &Bootstrap),
) -> Vec<Table> {
    let folds = probing.folds;
    let ways = [
        (
            format!("cross-fitted by patient, {folds} parts, over the training and the test split"),
            folds,
        ),
        ("fitted on the training split, read once on the test split".to_owned(), 0),
    ];
    let table = |(how, folds): (String, usize)| {
        let probing = Probing { folds, ..probing.clone() };
        let reader = Reader::new(sources.images, &probing, bootstrap);
        Table { how, rows: rows(&reader, sources, asked, fit) }
    };
    ways.map(table).into()
}

fn rows(reader: &Reader<'_>, sources: Sources<'_>, asked: &Readouts, fit: &Fit) -> Vec<Row> {
    let images = sources.images;
    let wide = |(values, d): (&[f32], usize)| (values.iter().map(|x| f64::from(*x)).collect(), d);
    let dense = reader.probing().ridge_dense;
    let kinds: [(&str, Values, f64); 4] = [
        (DENSE, wide(sources.embeddings), dense),
        (ACQUISITION, images.metadata.clone(), reader.probing().ridge),
        (GREY, images.intensity.clone(), reader.probing().ridge),
        (TEACHERS, wide(sources.teachers), dense),
    ];
    let mut read: Vec<Readout> = Vec::new();
    for (from, (values, d), ridge) in &kinds {
        if *d > 0 {
            read.extend(reader.rows(from, &reader.teach(values, *d, *ridge), values));
        }
    }
    let label = |name: &String| images.labels.names.iter().position(|own| own == name);
    for name in asked.labels.iter().filter_map(label) {
        if let Ok((_, readout)) = read_by_rule(reader, sources.codes, name, fit) {
            read.push(Readout { from: SHIPPED.to_owned(), ..readout });
        }
    }
    let one = |name: &String, from: &str| {
        read.iter().find(|readout| readout.label == *name && readout.from == from)
    };
    let froms = [SHIPPED, DENSE, ACQUISITION, GREY, TEACHERS];
    let mut rows: Vec<Row> = Vec::new();
    for name in &asked.labels {
        let found = froms.map(|from| one(name, from));
        rows.push(Row {
            label: name.clone(),
            images: found.iter().flatten().next().map(|readout| readout.images),
            from: froms
                .iter()
                .zip(found)
                .map(|(from, readout)| ((*from).to_owned(), readout.map(|r| rounded(r.auroc))))
                .collect(),
            against: against(|of, versus| {
                let difference = reader.difference(one(name, of)?, one(name, versus)?);
                Some(rounded(difference.difference))
            }),
        });
    }
    let all = |from: &str| -> Option<Vec<&Readout>> {
        asked.mean_of.iter().map(|name| one(name, from)).collect()
    };
    rows.push(Row {
        label: format!("mean of {}", asked.mean_of.len()),
        images: None,
        from: froms
            .iter()
            .map(|from| {
                let mean = all(from).and_then(|readouts| reader.mean(&readouts, &[]));
                ((*from).to_owned(), mean.map(rounded))
            })
            .collect(),
        against: against(|of, versus| Some(rounded(reader.mean(&all(of)?, &all(versus)?)?))),
    });
    rows
}

fn against(
    figure: impl Fn(&str, &str) -> Option<Estimate>,
) -> Vec<(String, String, Option<Estimate>)> {
    let one = |(of, versus): (&str, &str)| (of.to_owned(), versus.to_owned(), figure(of, versus));
    AGAINST.map(one).into()
}

/// The code of every image at the dictionary's level, from its tokens.
#[must_use]
pub fn codes(bundle: &clearfilm::bundle::Bundle, tokens: &[f32], embeddings: &[f32]) -> Codes {
    match bundle.sae.level {
        Level::Embedding => Codes::of(&bundle.sae, embeddings),
        Level::Tokens => Codes::pooled(&bundle.sae, tokens, bundle.manifest.encoder.n_tokens),
    }
}
