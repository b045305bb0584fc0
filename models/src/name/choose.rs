//! Which images are shown to whom.

use std::collections::HashSet;

use clearfilm::id::Digest;
use rand::seq::SliceRandom as _;

use super::plan::{HeldOut, Medsae};
use crate::codes::Value;
use crate::start::{Stream, numbers};

/// What a patient's pictures are for; never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// They are shown to the namer.
    Namer,
    /// They are shown to the judge.
    Judge,
}

impl Role {
    /// A patient's role follows from his name and the seed, so that it does not depend on who else
    /// is in a collection.
    #[must_use]
    pub fn of(patient: &str, seed: u64) -> Self {
        let digest = Digest::of(format!("{seed}/{patient}").as_bytes());
        if digest.as_bytes()[0].is_multiple_of(2) { Self::Namer } else { Self::Judge }
    }
}

/// Images of which it is known whose they are and where they lie.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    /// `[n]`.
    pub patients: &'a [String],
    /// `[n]`.
    pub roles: &'a [Role],
    /// `[n, d]`.
    pub embeddings: &'a [f32],
    /// Values of an embedding.
    pub d: usize,
}

/// Images for one feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// For the namer.
    pub shown: Vec<usize>,
    /// For the judge: the feature fires. By quantile, the strongest first.
    pub firing: Vec<usize>,
    /// For the judge: it does not; first those that are most like the ones that fire.
    pub silent: Vec<usize>,
}

impl Pool<'_> {
    /// Images for a feature, whose values are by rising value; none where it has too few patients.
    #[must_use]
    pub fn choose(
        &self,
        feature: usize,
        column: &[Value],
        how: &HeldOut,
        seed: u64,
    ) -> Option<Chosen> {
        let mut random = numbers(seed, Stream::Shown(feature as u64));
        let of = |role: Role| -> Vec<usize> {
            let falling = column.iter().rev().map(|value| value.sample as usize);
            falling.filter(|at| self.roles[*at] == role).collect()
        };
        let mut quantiles = |role: Role, each: usize| {
            let (images, mut chosen) = (of(role), Vec::new());
            let mut patients = HashSet::new();
            let size = images.len().div_ceil(how.quantiles.max(1)).max(1);
            for part in images.chunks(size) {
                let mut part = part.to_vec();
                part.shuffle(&mut random);
                let new = part.into_iter().filter(|at| patients.insert(&self.patients[*at]));
                chosen.extend(new.take(each));
            }
            chosen
        };
        let mut shown = quantiles(Role::Namer, how.shown.div_ceil(how.quantiles.max(1)));
        shown.truncate(how.shown);
        let firing = quantiles(Role::Judge, how.each);
        if shown.len() < how.shown || firing.len() < how.each * how.quantiles {
            return None;
        }
        let fires: HashSet<usize> = column.iter().map(|value| value.sample as usize).collect();
        let mut silent: Vec<usize> = (0..self.patients.len())
            .filter(|at| self.roles[*at] == Role::Judge && !fires.contains(at))
            .collect();
        silent.shuffle(&mut random);
        let mut nearest = silent.clone();
        let middle = self.middle(&firing);
        // Sorting is stable: what is as near as another stays in the drawn order.
        nearest.sort_by(|a, b| self.cosine(&middle, *b).total_cmp(&self.cosine(&middle, *a)));
        let mut patients = HashSet::new();
        let mut first = |from: &[usize], count: usize| -> Vec<usize> {
            let new = from.iter().copied().filter(|at| patients.insert(&self.patients[*at]));
            new.take(count).collect()
        };
        let hard = first(&nearest, firing.len() / 2);
        let left = firing.len() - hard.len();
        let silent = [hard, first(&silent, left)].concat();
        (silent.len() == firing.len()).then_some(Chosen { shown, firing, silent })
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.embeddings[at * self.d..][..self.d]
    }

    fn middle(&self, images: &[usize]) -> Vec<f64> {
        let mut sum = vec![0.0; self.d];
        for at in images {
            sum.iter_mut().zip(self.row(*at)).for_each(|(s, x)| *s += f64::from(*x));
        }
        sum
    }

    fn cosine(&self, a: &[f64], at: usize) -> f64 {
        let row = self.row(at);
        let product: f64 = a.iter().zip(row).map(|(a, b)| a * f64::from(*b)).sum();
        let length: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        product / length.sqrt().max(f64::MIN_POSITIVE)
    }
}

/// MedSAE's images for the namer: of the strongest (two thirds of all that fire, `listed` at most)
/// the first and the last, shuffled. Values are by rising value.
#[must_use]
pub fn medsae_shown(feature: usize, column: &[Value], how: &Medsae) -> Vec<usize> {
    let count = (column.len() * 2 / 3).min(how.listed);
    let list: Vec<usize> = column.iter().rev().take(count).map(|v| v.sample as usize).collect();
    let first = (how.shown / 2).min(list.len());
    let last = list.len() - (how.shown - how.shown / 2).min(list.len() - first);
    let mut shown = [&list[..first], &list[last..]].concat();
    shown.shuffle(&mut numbers(how.seed, Stream::Shown(feature as u64)));
    shown
}

/// MedSAE's images for the judge, each with whether the feature fires: the strongest, and as many
/// drawn of those where its value is at most 1e-7; shuffled.
#[must_use]
pub fn medsae_judged(
    feature: usize,
    column: &[Value],
    samples: usize,
    how: &Medsae,
) -> Vec<(usize, bool)> {
    /// `naming_eval.py`.
    const SILENT: f32 = 1e-7;
    let mut random = numbers(how.seed, Stream::Shown(feature as u64));
    let mut judged: Vec<(usize, bool)> =
        column.iter().rev().take(how.judged).map(|v| (v.sample as usize, true)).collect();
    let fires: HashSet<usize> =
        column.iter().filter(|v| v.value > SILENT).map(|v| v.sample as usize).collect();
    let mut silent: Vec<usize> = (0..samples).filter(|at| !fires.contains(at)).collect();
    silent.shuffle(&mut random);
    judged.extend(silent.into_iter().take(how.judged).map(|at| (at, false)));
    judged.shuffle(&mut random);
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(count: u32) -> Vec<Value> {
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        (0..count).map(|at| Value { sample: at, value: 1.0 + at as f32 }).collect()
    }

    #[test]
    fn medsae_shows_the_first_and_the_last_fifteen_of_the_strongest() {
        let mut shown = medsae_shown(0, &column(90), &Medsae::default());
        shown.sort_unstable();
        // Of 90, the strongest 60 are images 30 to 89.
        assert_eq!(shown, (30..45).chain(75..90).collect::<Vec<_>>());
        let mut shown = medsae_shown(0, &column(900), &Medsae::default());
        shown.sort_unstable();
        assert_eq!(shown, (800..815).chain(885..900).collect::<Vec<_>>());
    }

    #[test]
    fn no_patient_is_seen_by_namer_and_judge_and_none_twice() {
        let patients: Vec<String> = (0..600).map(|at| (at / 2).to_string()).collect();
        let roles: Vec<Role> = patients.iter().map(|p| Role::of(p, 7)).collect();
        let embeddings: Vec<f32> = (0_u16..600).flat_map(|at| [1.0, f32::from(at)]).collect();
        let pool = Pool { patients: &patients, roles: &roles, embeddings: &embeddings, d: 2 };
        let chosen = pool.choose(3, &column(300), &HeldOut::default(), 1).expect("enough");
        assert_eq!((chosen.shown.len(), chosen.firing.len(), chosen.silent.len()), (25, 25, 25));
        for (images, role) in [
            (&chosen.shown, Role::Namer),
            (&chosen.firing, Role::Judge),
            (&chosen.silent, Role::Judge),
        ] {
            let own: HashSet<&String> = images.iter().map(|at| &patients[*at]).collect();
            assert_eq!(own.len(), 25);
            assert!(images.iter().all(|at| roles[*at] == role));
        }
        assert!(chosen.silent.iter().all(|at| *at >= 300));
        // The strongest quantile comes first.
        assert!(chosen.firing[..5].iter().min() > chosen.firing[20..].iter().max());
        assert_eq!(pool.choose(3, &column(40), &HeldOut::default(), 1), None);
    }
}
