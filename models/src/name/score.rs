//! How well a name tells images on which its feature fires from others, and how far that is above
//! what any other feature's name would reach.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use serde::Serialize;

use super::reply::{Failure, Failures, count};
use crate::evaluate::bootstrap::{Bootstrap, Estimate, Ranked, quantile};
use crate::start::{Stream, numbers};

/// One image or report, and what a judge said of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Whether the feature fires.
    pub fires: bool,
    /// Score of the name, 0 to 1: 0 or 1, or a probability where there is one; or why there is
    /// none.
    pub said: Result<Said, Failure>,
}

/// What a judge said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// Whether the name fits.
    pub fits: bool,
    /// The higher, the better it fits; none where the judge says yes or no only.
    pub score: Option<f64>,
}

/// Figures of one name, over what was judged; the failed ones are counted beside them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Images that have an answer.
    pub judged: usize,
    /// Images that have none.
    pub failed: usize,
    /// Why.
    pub failures: Failures,
    /// (TPR + TNR) / 2; none where one kind was not judged.
    pub balanced_accuracy: Option<f64>,
    /// Of the score; none where the judge gives no score for every answer.
    pub auroc: Option<f64>,
    /// Share of the right among those it was said to fit; 0 where there are none.
    pub precision: f64,
    /// Share that it was said to fit among those that fire.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Share of right answers.
    pub accuracy: f64,
}

impl Figures {
    /// Over those that have an answer.
    #[must_use]
    pub fn of(all: &[Judged]) -> Self {
        let mut failures = Failures::new();
        all.iter().filter_map(|j| j.said.err()).for_each(|f| count(&mut failures, f));
        let answers: Vec<(bool, Said)> =
            all.iter().filter_map(|j| Some((j.fires, j.said.ok()?))).collect();
        let n = |fires: bool, fits: bool| {
            let alike = answers.iter().filter(|(f, said)| (*f, said.fits) == (fires, fits));
            whole(alike.count())
        };
        let [tp, fp, tn, fne] = [n(true, true), n(false, true), n(false, false), n(true, false)];
        let share = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        Self {
            judged: answers.len(),
            failed: all.len() - answers.len(),
            failures,
            balanced_accuracy: balanced(all, &every(all)),
            auroc: auroc(all, &every(all)),
            precision: share(tp, tp + fp),
            recall: share(tp, tp + fne),
            f1: share(2.0 * tp, 2.0 * tp + fp + fne),
            accuracy: share(tp + tn, whole(answers.len())),
        }
    }

    /// As MedSAE's code counts: what has no answer was said not to fit.
    #[must_use]
    pub fn with_zeros(all: &[Judged]) -> Self {
        let zero = |judged: &Judged| {
            let said = judged.said.unwrap_or(Said { fits: false, score: None });
            Judged { said: Ok(said), ..*judged }
        };
        Self::of(&all.iter().map(zero).collect::<Vec<_>>())
    }
}

/// Which figure a lift is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Of yes and no.
    BalancedAccuracy,
    /// Of scores.
    Auroc,
}

impl Figure {
    fn of(self, all: &[Judged], drawn: &[usize]) -> Option<f64> {
        match self {
            Self::BalancedAccuracy => balanced(all, drawn),
            Self::Auroc => auroc(all, drawn),
        }
    }
}

/// A feature's own name and those of others, judged on the same images in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// By its own name.
    pub own: Vec<Judged>,
    /// By each of the others.
    pub others: Vec<Vec<Judged>>,
}

impl Beside {
    /// Judgements of so many features, each with its feature and its round: 0 by its own name, and
    /// from 1 by the others'. Rounds in which a feature had no other name are left out.
    #[must_use]
    pub fn gathered(
        features: usize,
        rounds: usize,
        judged: impl IntoIterator<Item = (usize, usize, Judged)>,
    ) -> Vec<Self> {
        let empty = Self { own: Vec::new(), others: vec![Vec::new(); rounds] };
        let mut all = vec![empty; features];
        for (at, round, judged) in judged {
            match round.checked_sub(1) {
                None => all[at].own.push(judged),
                Some(other) => all[at].others[other].push(judged),
            }
        }
        for one in &mut all {
            one.others.retain(|other| !other.is_empty());
        }
        all
    }

    /// The figure of its own name less the mean of the others', on images drawn so.
    fn lift(&self, figure: Figure, drawn: &[usize]) -> Option<f64> {
        let own = figure.of(&self.own, drawn)?;
        let others: Vec<f64> =
            self.others.iter().filter_map(|other| figure.of(other, drawn)).collect();
        (!others.is_empty()).then(|| own - others.iter().sum::<f64>() / whole(others.len()))
    }

    /// Images drawn with replacement, as many of each kind as there are.
    fn drawn(&self, random: &mut impl rand::Rng) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(self.own.len());
        for fires in [true, false] {
            let kind: Vec<usize> =
                (0..self.own.len()).filter(|at| self.own[*at].fires == fires).collect();
            drawn.extend((0..kind.len()).map(|_| kind[random.random_range(0..kind.len())]));
        }
        drawn
    }

    /// The lift of one feature, with the interval that other images would give.
    #[must_use]
    pub fn estimate(&self, figure: Figure, how: &Bootstrap) -> Option<Estimate> {
        let value = self.lift(figure, &every(&self.own))?;
        let draw = |number: u64| {
            let mut random = numbers(how.seed, Stream::Patients(number));
            self.lift(figure, &self.drawn(&mut random))
        };
        Some(interval(value, (0..how.count as u64).into_par_iter().filter_map(draw), how.level))
    }
}

/// The mean lift of features, with the interval that other features and other images of each
/// would give (two-stage bootstrap; Davison and Hinkley 1997, 3.8).
#[must_use]
pub fn lift(features: &[Beside], figure: Figure, how: &Bootstrap) -> Option<Estimate> {
    let mean = |lifts: Vec<f64>| {
        (!lifts.is_empty()).then(|| lifts.iter().sum::<f64>() / whole(lifts.len()))
    };
    let value = mean(features.iter().filter_map(|b| b.lift(figure, &every(&b.own))).collect())?;
    let draw = |number: u64| {
        let mut random = numbers(how.seed, Stream::Patients(number));
        let one = |_| {
            let feature = &features[random.random_range(0..features.len())];
            let drawn = feature.drawn(&mut random);
            feature.lift(figure, &drawn)
        };
        mean((0..features.len()).filter_map(one).collect())
    };
    Some(interval(value, (0..how.count as u64).into_par_iter().filter_map(draw), how.level))
}

/// The mean of values, with the interval that others like them would give; none of none.
#[must_use]
pub fn mean(values: &[f64], how: &Bootstrap) -> Option<Estimate> {
    if values.is_empty() {
        return None;
    }
    let n = whole(values.len());
    let draw = |number: u64| {
        let mut random = numbers(how.seed, Stream::Patients(number));
        let drawn = (0..values.len()).map(|_| values[random.random_range(0..values.len())]);
        drawn.sum::<f64>() / n
    };
    let drawn = (0..how.count as u64).into_par_iter().map(draw);
    Some(interval(values.iter().sum::<f64>() / n, drawn, how.level))
}

fn interval(value: f64, drawn: impl ParallelIterator<Item = f64>, level: f64) -> Estimate {
    let mut drawn: Vec<f64> = drawn.collect();
    drawn.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - level) / 2.0;
    Estimate { value, low: quantile(&drawn, outside), high: quantile(&drawn, 1.0 - outside) }
}

/// Whose name each feature takes in each of `times` rounds: that of another one which fires about
/// as often, out of groups of `group` neighbours by `fires`; none where there is no other.
#[must_use]
pub fn dealt(fires: &[usize], group: usize, times: usize, seed: u64) -> Vec<Vec<Option<usize>>> {
    let mut order: Vec<usize> = (0..fires.len()).collect();
    order.sort_unstable_by_key(|at| (fires[*at], *at));
    let group = group.max(times + 1).max(2);
    let mut random = numbers(seed, Stream::Control);
    let mut rounds = vec![vec![None; fires.len()]; times];
    let mut rest = order.as_mut_slice();
    while !rest.is_empty() {
        // What would be left over comes along: no group is smaller than asked for.
        let size = if rest.len() < 2 * group { rest.len() } else { group };
        let (own, behind) = rest.split_at_mut(size);
        rest = behind;
        own.shuffle(&mut random);
        for (round, names) in rounds.iter_mut().enumerate() {
            for (at, feature) in own.iter().enumerate() {
                let other = own[(at + round + 1) % own.len()];
                names[*feature] = (other != *feature).then_some(other);
            }
        }
    }
    rounds
}

fn every(all: &[Judged]) -> Vec<usize> {
    (0..all.len()).collect()
}

fn balanced(all: &[Judged], drawn: &[usize]) -> Option<f64> {
    let (mut right, mut of) = ([0_usize; 2], [0_usize; 2]);
    for judged in drawn.iter().map(|at| &all[*at]) {
        if let Ok(said) = judged.said {
            of[usize::from(judged.fires)] += 1;
            right[usize::from(judged.fires)] += usize::from(said.fits == judged.fires);
        }
    }
    let share = |kind: usize| whole(right[kind]) / whole(of[kind]);
    (of[0] > 0 && of[1] > 0).then(|| f64::midpoint(share(0), share(1)))
}

fn auroc(all: &[Judged], drawn: &[usize]) -> Option<f64> {
    let answers = drawn.iter().map(|at| &all[*at]).filter_map(|j| Some((j.fires, j.said.ok()?)));
    let (mut scores, mut fires) = (Vec::new(), Vec::new());
    for (one, said) in answers {
        scores.push(said.score?);
        fires.push(Some(one));
    }
    Ranked::of(&scores, &fires).plain(scores.len())
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 images")]
pub(super) fn whole(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answers: &[(bool, Option<bool>)]) -> Vec<Judged> {
        let one = |(fires, fits): &(bool, Option<bool>)| Judged {
            fires: *fires,
            said: fits.map(|fits| Said { fits, score: None }).ok_or(Failure::Malformed),
        };
        answers.iter().map(one).collect()
    }

    #[test]
    fn what_has_no_answer_is_counted_and_is_no_zero() {
        let (yes, no) = (Some(true), Some(false));
        let all = judged(&[(true, yes), (true, None), (false, no), (false, yes), (false, no)]);
        let figures = Figures::of(&all);
        assert_eq!((figures.judged, figures.failed), (4, 1));
        assert_eq!(figures.failures[&Failure::Malformed], 1);
        // TPR 1 of 1, TNR 2 of 3.
        let balanced = figures.balanced_accuracy.expect("both kinds");
        assert!((balanced - 5.0 / 6.0).abs() < 1e-12);
        assert!((figures.recall - 1.0).abs() < 1e-12 && (figures.precision - 0.5).abs() < 1e-12);
        let zeros = Figures::with_zeros(&all);
        assert!((zeros.recall - 0.5).abs() < 1e-12 && (zeros.accuracy - 0.6).abs() < 1e-12);
    }

    #[test]
    fn a_name_goes_to_another_feature_that_fires_about_as_often() {
        let fires: Vec<usize> = (0..23).map(|at| at * at).collect();
        for seed in 0..20 {
            let rounds = dealt(&fires, 5, 2, seed);
            for round in &rounds {
                let mut names: Vec<usize> = round.iter().flatten().copied().collect();
                assert!(round.iter().enumerate().all(|(own, name)| *name != Some(own)));
                assert!(
                    round.iter().enumerate().all(|(own, n)| n.is_some_and(|n| n.abs_diff(own) < 8))
                );
                names.sort_unstable();
                assert_eq!(names, (0..23).collect::<Vec<_>>());
            }
            assert!((0..23).all(|at| rounds[0][at] != rounds[1][at]));
        }
        assert_eq!(dealt(&[7], 5, 1, 0), [[None]]);
    }

    #[test]
    fn lift_is_above_zero_for_right_names_and_around_it_for_none() {
        let random = &mut numbers(3, Stream::Samples);
        let mut feature = |right: f64| {
            let own: Vec<Judged> = (0..40)
                .map(|at| {
                    let fires = at < 20;
                    let fits = fires == random.random_bool(right);
                    Judged { fires, said: Ok(Said { fits, score: None }) }
                })
                .collect();
            own
        };
        let mut features = |right: f64| -> Vec<Beside> {
            let one = |_| Beside { own: feature(right), others: vec![feature(0.5)] };
            (0..12).map(one).collect()
        };
        let how = Bootstrap::default();
        let good = lift(&features(0.8), Figure::BalancedAccuracy, &how).expect("judged");
        assert!(good.low > 0.15 && good.value > 0.2 && good.high < 0.45, "{good:?}");
        let none = lift(&features(0.5), Figure::BalancedAccuracy, &how).expect("judged");
        assert!(none.low < 0.0 && none.high > 0.0, "{none:?}");
    }
}
