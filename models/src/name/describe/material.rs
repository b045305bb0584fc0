//! Reports, what each says, and which latents fire on each.

use std::collections::HashMap;
use std::path::Path;

use rand::seq::SliceRandom as _;

use super::plan::{Fires, Plan, Where};
use super::words::Said;
use crate::codes::Codes;
use crate::layout::{Reports, activations};
use crate::name::choose::Role;
use crate::name::score::whole;
use crate::name::{NameError, unfit};
use crate::start::{Stream, numbers};
use crate::table::Mark;

/// Share of the best report's likeness that a report of the contrast has at least: many that are
/// hardly alike would hide the few that are.
pub(super) const LEAST: f64 = 0.75;

/// Everything that a description is made from and judged on.
#[derive(Debug, Clone)]
pub struct Material {
    /// Text of each report.
    pub texts: Vec<String>,
    /// What each report says is there.
    pub said: Vec<Said>,
    /// What each report is for, by its patient.
    pub roles: Vec<Role>,
    /// Latents of reports.
    pub codes: Codes,
    /// What each latent was planted for; empty where nobody knows.
    pub planted: Vec<String>,
    seed: u64,
}

impl Material {
    /// Reports of a plan that are not empty, and the latents that fire on them. `studies` gives the
    /// latents of a dictionary by study.
    ///
    /// # Errors
    /// A file cannot be read, or none of its reports is among those of the collection.
    pub fn read(
        plan: &Plan,
        studies: impl FnOnce(&Path, &Path) -> Result<Vec<(String, u32, f32)>, NameError>,
    ) -> Result<Self, NameError> {
        let all = match &plan.reports {
            Where::Openi(root) => Reports::openi(root)?,
            Where::Table(table) => Reports::of_table(table)?,
        };
        let mut reports = all.reports;
        reports.retain(|report| !report.text.trim().is_empty());
        let (mut planted, mut values) = (Vec::new(), Vec::new());
        let listed = match &plan.codes {
            Fires::Labels { reports_min } => {
                for (at, name) in all.labels.iter().enumerate() {
                    let present = |row: &usize| reports[*row].labels[at] == Some(Mark::Present);
                    let firing: Vec<usize> = (0..reports.len()).filter(present).collect();
                    if firing.len() >= *reports_min {
                        let latent = number(planted.len());
                        values.extend(firing.into_iter().map(|row| (latent, number(row), 1.0)));
                        planted.push(name.clone());
                    }
                }
                None
            }
            Fires::File(file) => Some(activations(file)?),
            Fires::Sae { sae, vectors, .. } => Some(studies(sae, vectors)?),
        };
        if let Some(listed) = listed {
            values = placed(&listed, reports.iter().map(|report| report.id.as_str()))?;
        }
        values.sort_unstable_by_key(|(latent, row, _)| (*row, *latent));
        let latents = values.iter().map(|(latent, ..)| *latent as usize + 1).max().unwrap_or(0);
        if latents == 0 {
            return Err(unfit("codes", "latents that fire on reports", "none"));
        }
        let seed = plan.seed;
        Ok(Self {
            said: reports.iter().map(|report| Said::of(&report.text)).collect(),
            roles: reports.iter().map(|report| Role::of(&report.patient, seed)).collect(),
            codes: Codes::listed(reports.len(), latents, &values),
            texts: reports.into_iter().map(|report| report.text).collect(),
            planted,
            seed,
        })
    }

    /// Reports of one role on which a latent fires, the strongest first; of those as strong in a
    /// drawn order.
    #[must_use]
    pub fn firing(&self, latent: usize, role: Role) -> Vec<usize> {
        let mut values: Vec<(f32, usize)> = self
            .codes
            .column(latent)
            .iter()
            .map(|value| (value.value, value.sample as usize))
            .filter(|(_, row)| self.roles[*row] == role)
            .collect();
        values.shuffle(&mut numbers(self.seed, Stream::Shown(latent as u64)));
        values.sort_by(|a, b| b.0.total_cmp(&a.0));
        values.into_iter().map(|(_, row)| row).collect()
    }

    /// Reports of one role on which a latent is silent, in a drawn order.
    #[must_use]
    pub fn silent(&self, latent: usize, role: Role) -> Vec<usize> {
        let fires = self.fires(latent);
        let mut rows: Vec<usize> =
            (0..self.texts.len()).filter(|row| self.roles[*row] == role && !fires[*row]).collect();
        rows.shuffle(&mut numbers(self.seed ^ 1, Stream::Shown(latent as u64)));
        rows
    }

    /// On which reports a latent fires, `[n]`.
    #[must_use]
    pub fn fires(&self, latent: usize) -> Vec<bool> {
        self.codes.spread(latent).iter().map(|value| *value > 0.0).collect()
    }

    /// Of `silent` reports those that are most like R(i) in everything but the latent: each other
    /// latent counts by how much more often it fires on R(i) than elsewhere. Reports that are less
    /// than `least` times as like as the best are none of them, nor are those without anything alike.
    #[must_use]
    pub fn alike(
        &self,
        top: &[usize],
        silent: &[usize],
        (count, least): (usize, f64),
    ) -> Vec<usize> {
        if count == 0 || top.is_empty() {
            return Vec::new();
        }
        let rows = self.codes.by_sample();
        let mut weight: HashMap<u32, f64> = HashMap::new();
        let share = 1.0 / whole(top.len());
        for (latent, _) in top.iter().flat_map(|row| &rows[*row]) {
            *weight.entry(*latent).or_default() += share;
        }
        for (latent, weight) in &mut weight {
            let fires = self.codes.column(*latent as usize).len();
            *weight -= whole(fires) / whole(rows.len());
        }
        let like = |row: &usize| -> f64 {
            let own = rows[*row].iter().filter_map(|(latent, _)| weight.get(latent));
            own.filter(|weight| **weight > 0.0).sum()
        };
        let mut found: Vec<(f64, usize)> =
            silent.iter().map(|row| (like(row), *row)).filter(|(like, _)| *like > 0.0).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = found.first().map_or(0.0, |(like, _)| *like);
        let kept = found.into_iter().take(count).filter(|(like, _)| *like >= least * best);
        kept.map(|(_, row)| row).collect()
    }
}

/// Values by row of the report; of several of one latent and report the largest.
fn placed<'a>(
    listed: &[(String, u32, f32)],
    ids: impl Iterator<Item = &'a str>,
) -> Result<Vec<(u32, u32, f32)>, NameError> {
    let rows: HashMap<&str, u32> = ids.zip(0..).collect();
    let mut largest: HashMap<(u32, u32), f32> = HashMap::new();
    for (id, latent, value) in listed {
        if let Some(row) = rows.get(id.as_str()) {
            let own = largest.entry((*latent, *row)).or_default();
            *own = own.max(*value);
        }
    }
    if largest.is_empty() {
        let found = listed.first().map_or("none".into(), |(id, ..)| format!("{id:?} first"));
        return Err(unfit("codes", "reports of the collection", found));
    }
    Ok(largest.into_iter().map(|((latent, row), value)| (latent, row, value)).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "fewer than 2^32 reports and labels")]
fn number(at: usize) -> u32 {
    at as u32
}
