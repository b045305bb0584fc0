//! Names without any server: which label a latent goes with, beyond chance, on patients who had no
//! part in naming it.
//!
//! Patients are dealt into two halves. On one, each latent is held against each label, with
//! family-wise control over all pairs (largest statistic over permutations of whole patients within
//! strata, `evaluate::permute`). The other half says what the name is worth: the AUROC of the latent
//! for its label, and its lift, that is how far it lies above latents which fire as often. A name is
//! kept where the lower end of its lift is above 0.

use clearfilm::findings::round_4;
use serde::{Deserialize, Serialize};

use crate::codes::Codes;
use crate::evaluate::auroc::agreements;
use crate::evaluate::bootstrap::{Bootstrap, Draws, Estimate, Ranked};
use crate::evaluate::images::Images;
use crate::evaluate::labels::{Labels, Mark};
use crate::evaluate::permute::{Permutations, chances};
use crate::evaluate::probes::{Fold, Probing, folds};
use crate::measure::whole;

/// Others that a latent is held against, the nearest by how often they fire: enough for a mean.
const OTHERS: usize = 32;

/// How names are given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Naming {
    /// Chance that any latent of the collection is named by mistake (family-wise).
    pub chance_max: f64,
    /// A weaker association is worth no name, AUROC on the naming half.
    pub auroc_min: f64,
    /// Permutations, and which latents and labels take part.
    pub permutations: Permutations,
    /// Same seed, same halves.
    pub seed: u64,
}

impl Default for Naming {
    /// 0.6: an association that is seen with half of the patients and no more is below it by the
    /// half-width of its interval.
    fn default() -> Self {
        let permutations = Permutations::default();
        Self { chance_max: 0.05, auroc_min: 0.6, permutations, seed: 0 }
    }
}

/// A latent and the label it goes with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Association {
    /// Which latent.
    pub latent: usize,
    /// Which label.
    pub label: String,
    /// On the half that named it, and the chance that any latent would be named so by mistake.
    pub naming: (f64, f64),
    /// AUROC on the other half.
    pub auroc: Estimate,
    /// Less the mean of latents that fire as often, on the other half.
    pub lift: Estimate,
    /// The name is kept: its lift is above 0 at the lower end.
    pub kept: bool,
}

/// What a collection says of latents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Associations {
    /// Images that named, and images that judged.
    pub images: [usize; 2],
    /// Latents that fired often enough to be asked, and all.
    pub asked: [usize; 2],
    /// Labels that had enough images of both kinds.
    pub labels: usize,
    /// Those that were named, by rising latent.
    pub found: Vec<Association>,
}

impl Associations {
    /// Names that are kept.
    pub fn kept(&self) -> impl Iterator<Item = &Association> {
        self.found.iter().filter(|found| found.kept)
    }

    /// Mean lift of all that were named, kept or not; none where nothing was.
    #[must_use]
    pub fn mean_lift(&self) -> Option<f64> {
        let sum: f64 = self.found.iter().map(|found| found.lift.value).sum();
        (!self.found.is_empty()).then(|| round_4(sum / whole(self.found.len())))
    }
}

/// Names latents by the labels of images; `codes` has one column per latent.
#[must_use]
pub fn associate(
    images: &Images,
    codes: &Codes,
    how: &Naming,
    bootstrap: &Bootstrap,
) -> Associations {
    let halves = Probing { folds: 2, seed: how.seed, ..Probing::default() };
    let dealt = folds(&images.train, &images.test, &images.patients, &halves);
    let Fold { fit: naming, read: judging } = &dealt[0];
    let (own, labels) = (codes.only(naming), images.labels.moved(naming));
    let blocks = images.blocks_of(naming);
    let chance = chances(&own, &labels, &blocks, &how.permutations);
    let strength = agreements(&own, &labels);
    let firings: Vec<usize> = (0..codes.features()).map(|f| own.column(f).len()).collect();
    let judge = Judge::of(images, codes, judging, &firings, bootstrap);
    let mut found = Vec::new();
    for latent in 0..codes.features() {
        let named = chance[latent].iter().zip(&strength[latent]).enumerate();
        let holds = named.filter_map(|(label, (chance, strength))| {
            let (chance, strength) = ((*chance)?, (*strength)?);
            let beyond = chance.z > 0.0 && chance.p_family <= how.chance_max;
            (beyond && strength.auroc >= how.auroc_min).then_some((
                label,
                strength.auroc,
                chance.p_family,
            ))
        });
        let Some((label, auroc, chance)) = holds.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        let Some((held, lift)) = judge.judged(latent, label) else { continue };
        found.push(Association {
            latent,
            label: labels.names[label].clone(),
            naming: (round_4(auroc), round_4(chance)),
            auroc: rounded(held),
            lift: rounded(lift),
            kept: lift.low > 0.0,
        });
    }
    let asked = chance.iter().filter(|row| row.iter().any(Option::is_some)).count();
    let enough = |label: &usize| chance.iter().any(|row| row[*label].is_some());
    Associations {
        images: [naming.len(), judging.len()],
        asked: [asked, codes.features()],
        labels: (0..labels.names.len()).filter(enough).count(),
        found,
    }
}

/// The half that judges.
struct Judge<'a> {
    codes: Codes,
    labels: Labels,
    draws: Draws,
    level: f64,
    /// On the half that named: what decides which others a latent is held against.
    firings: &'a [usize],
}

impl<'a> Judge<'a> {
    fn of(
        images: &Images,
        codes: &Codes,
        judging: &[usize],
        firings: &'a [usize],
        bootstrap: &Bootstrap,
    ) -> Self {
        Self {
            codes: codes.only(judging),
            labels: images.labels.moved(judging),
            draws: Draws::of(&images.patients_of(judging), bootstrap),
            level: bootstrap.level,
            firings,
        }
    }

    /// AUROC and lift of a latent for a label; none where this half has images of one kind only.
    fn judged(&self, latent: usize, label: usize) -> Option<(Estimate, Estimate)> {
        let marks: Vec<Option<bool>> = (self.labels.column(label).into_iter())
            .map(|mark| match mark {
                Mark::Positive => Some(true),
                Mark::Negative => Some(false),
                Mark::Unknown => None,
            })
            .collect();
        let ranked = |latent: usize| {
            let values: Vec<f64> = self.codes.spread(latent).into_iter().map(f64::from).collect();
            Ranked::of(&values, &marks)
        };
        let own = ranked(latent);
        let others: Vec<Ranked> = self.alike(latent).into_iter().map(ranked).collect();
        let lift = |weights: &[u16]| {
            let mean: Option<f64> = others.iter().map(|other| other.auroc(weights)).sum();
            Some(own.auroc(weights)? - mean? / whole(others.len().max(1)))
        };
        let once = vec![1; self.codes.samples];
        let (auroc, above) = (own.auroc(&once)?, lift(&once)?);
        Some((
            self.draws.estimate(auroc, self.level, |weights| own.auroc(weights)),
            self.draws.estimate(above, self.level, lift),
        ))
    }

    /// Other latents that fire about as often.
    fn alike(&self, latent: usize) -> Vec<usize> {
        let own = self.firings[latent];
        let mut others: Vec<usize> =
            (0..self.firings.len()).filter(|f| *f != latent && self.firings[*f] > 0).collect();
        others.sort_by_key(|other| (self.firings[*other].abs_diff(own), *other));
        others.truncate(OTHERS);
        others
    }
}

/// In four decimals, as everything is that a bundle says.
#[must_use]
pub fn rounded(of: Estimate) -> Estimate {
    Estimate { value: round_4(of.value), low: round_4(of.low), high: round_4(of.high) }
}
