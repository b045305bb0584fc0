//! What a card says of where images come from, counted.

use std::collections::BTreeSet;

use serde::Serialize;

use super::plan::Source;
use crate::evaluate::images::Columns;

/// A collection, counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counted {
    /// What it is.
    pub what: String,
    /// Images by split.
    pub images: Vec<(String, usize)>,
    /// Patients in all.
    pub patients: usize,
    /// What it was used for.
    pub used_for: String,
    /// Licence and whom it is owed to.
    pub licence: String,
    /// Shares of the sexes that the table names, in percent.
    pub sexes: Vec<(String, f64)>,
    /// Years of age, where the table names them: youngest, middle, oldest.
    pub ages: Option<[f64; 3]>,
}

impl Counted {
    /// Of a table.
    #[must_use]
    pub fn of(source: &Source, columns: &Columns) -> Self {
        let splits: BTreeSet<&str> = columns.split.iter().flatten().map(String::as_str).collect();
        let images = splits.into_iter().map(|split| {
            let own = columns.split.iter().filter(|s| s.as_deref() == Some(split)).count();
            (split.to_owned(), own)
        });
        let patients: BTreeSet<&String> = columns.patient.iter().collect();
        let mut ages: Vec<f64> =
            columns.numbers.get("age").into_iter().flatten().flatten().copied().collect();
        ages.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| crate::evaluate::bootstrap::quantile(&ages, share);
        Self {
            what: source.what.clone(),
            images: images.collect(),
            patients: patients.len(),
            used_for: source.used_for.clone(),
            licence: source.licence.clone(),
            sexes: sexes(columns),
            ages: (!ages.is_empty()).then(|| [at(0.0), at(0.5), at(1.0)]),
        }
    }
}

fn sexes(columns: &Columns) -> Vec<(String, f64)> {
    let Some(words) = columns.words.get("sex") else { return Vec::new() };
    let kinds: BTreeSet<&String> = words.iter().flatten().collect();
    let known = words.iter().flatten().count();
    let share = |kind: &String| {
        let own = words.iter().flatten().filter(|word| *word == kind).count();
        (crate::measure::whole(own) / crate::measure::whole(known.max(1)) * 1000.0).round() / 10.0
    };
    kinds.into_iter().map(|kind| (kind.clone(), share(kind))).collect()
}
