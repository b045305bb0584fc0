//! Phrases that some reports have more often than others, and a report's score by them.
//!
//! Log-odds with a Dirichlet prior (after Monroe, Colaresi and Quinn 2008, "Fightin' Words"), of
//! reports that have a phrase or not: a phrase counts once in each. The prior is Jeffreys' half for
//! either, and one report with the background's share of the phrase. A prior of that share alone
//! would make a phrase that stands nowhere else as uncertain as it is rare.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::words::Said;
use crate::name::score::whole;

/// Standard deviations above 0 that a phrase needs against the background: of some thousand phrases
/// one or two reach it by chance.
const BACKGROUND: f64 = 3.0;

/// The same against the contrast, of which there may be three reports: what fires along is
/// somewhere around 0.
const CONTRAST: f64 = 1.0;

/// Phrases of a description, at most.
const MOST: usize = 4;

/// One report in so many of R(i), and number of its reports, that have a phrase at least.
const ONE_IN: usize = 10;
const REPORTS_MIN: usize = 3;

/// A longer phrase takes the place of a shorter one within it that has this share of its reports.
const NESTED: f64 = 0.7;

/// A phrase of a description.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phrase {
    /// One to three words.
    pub phrase: String,
    /// Standard deviations of the log-odds above 0, against the background and against the contrast,
    /// each by what it needs: the smaller of the two, 1 or more.
    pub strength: f64,
    /// Share of R(i) that has it.
    pub share: f64,
}

/// Phrases of a description, by falling strength: of what `top` says, what `contrast` and the `background`
/// say less often. An empty contrast is left out.
#[must_use]
pub fn distinctive(top: &[&Said], contrast: &[&Said], background: &[&Said]) -> Vec<Phrase> {
    let (own, other, all) = (counts(top), counts(contrast), counts(background));
    let n = top.len();
    let need = REPORTS_MIN.max(n.div_ceil(ONE_IN));
    let mut found: Vec<Phrase> = Vec::new();
    for (phrase, count) in own.iter().filter(|(_, count)| **count >= need) {
        let of = |counts: &BTreeMap<&str, usize>| counts.get(phrase).copied().unwrap_or(0);
        let prior = (whole(of(&all)) + 0.5) / (whole(background.len()) + 1.0);
        let against =
            |count_other: usize, n_other: usize| z([*count, n], [count_other, n_other], prior);
        let mut strength = against(of(&all), background.len()) / BACKGROUND;
        if !contrast.is_empty() {
            strength = strength.min(against(of(&other), contrast.len()) / CONTRAST);
        }
        if strength >= 1.0 {
            let share = whole(*count) / whole(n);
            found.push(Phrase { phrase: (*phrase).to_owned(), strength, share });
        }
    }
    found.sort_by(|a, b| b.strength.total_cmp(&a.strength).then_with(|| a.phrase.cmp(&b.phrase)));
    merged(found)
}

/// The strongest, each once: of phrases within one another one remains.
fn merged(found: Vec<Phrase>) -> Vec<Phrase> {
    let mut kept: Vec<Phrase> = Vec::new();
    for phrase in found {
        let words: BTreeSet<&str> = phrase.phrase.split(' ').collect();
        let nested = kept.iter().position(|own| {
            let of_own: BTreeSet<&str> = own.phrase.split(' ').collect();
            words.is_subset(&of_own) || of_own.is_subset(&words)
        });
        if let Some(at) = nested {
            let own = &mut kept[at];
            let longer = phrase.phrase.len() > own.phrase.len();
            if longer && phrase.share >= NESTED * own.share {
                *own = phrase;
            }
        } else if kept.len() < MOST {
            kept.push(phrase);
        }
    }
    // What grew may now contain another one.
    let mut whole: Vec<Phrase> = Vec::new();
    for phrase in kept {
        if !whole.iter().any(|own| own.phrase.contains(&phrase.phrase)) {
            whole.push(phrase);
        }
    }
    whole
}

/// Standard deviations of the difference of two log-odds, with a prior share of a phrase.
fn z([count, n]: [usize; 2], [count_other, n_other]: [usize; 2], prior: f64) -> f64 {
    let with = |count: usize| whole(count) + prior + 0.5;
    let without = |count: usize| whole(count) + 1.5 - prior;
    let odds = |count: usize, n: usize| (with(count) / without(n - count)).ln();
    let spread = |count: usize, n: usize| 1.0 / with(count) + 1.0 / without(n - count);
    (odds(count, n) - odds(count_other, n_other))
        / (spread(count, n) + spread(count_other, n_other)).sqrt()
}

fn counts<'a>(reports: &[&'a Said]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for phrase in reports.iter().flat_map(|report| &report.phrases) {
        *counts.entry(phrase.as_str()).or_default() += 1;
    }
    counts
}

/// A report's score by a description, 0 to 1: the phrases that it says, each weighted by its strength.
#[must_use]
pub fn score(phrases: &[Phrase], report: &Said) -> f64 {
    let all: f64 = phrases.iter().map(|phrase| phrase.strength).sum();
    let said = phrases.iter().filter(|phrase| report.phrases.contains(&phrase.phrase));
    if all > 0.0 { said.map(|phrase| phrase.strength).sum::<f64>() / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: &[(&str, usize)]) -> Vec<Said> {
        let repeated = texts.iter().flat_map(|(text, times)| std::iter::repeat_n(*text, *times));
        repeated.map(Said::of).collect()
    }

    fn phrases(top: &[Said], contrast: &[Said], background: &[Said]) -> Vec<String> {
        let [top, contrast, background] =
            [top, contrast, background].map(|all| all.iter().collect::<Vec<&Said>>());
        distinctive(&top, &contrast, &background).into_iter().map(|p| p.phrase).collect()
    }

    #[test]
    fn the_contrast_takes_away_what_fires_along() {
        let top = said(&[("Hiatal hernia. Cardiomegaly.", 20)]);
        let background = said(&[("Normal heart.", 300)]);
        assert_eq!(phrases(&top, &[], &background), ["cardiomegaly", "hiatal hernia"]);
        let contrast = said(&[("Cardiomegaly.", 10)]);
        assert_eq!(phrases(&top, &contrast, &background), ["hiatal hernia"]);
    }

    #[test]
    fn what_everybody_says_and_what_few_say_is_left_out() {
        let top = said(&[("Normal heart. Clips.", 18), ("Normal heart. Scoliosis.", 2)]);
        let background = said(&[("Normal heart.", 200)]);
        assert_eq!(phrases(&top, &[], &background), ["clips"]);
    }

    #[test]
    fn a_score_is_the_weighted_share_of_phrases_that_are_said() {
        let phrase =
            |phrase: &str, strength| Phrase { phrase: phrase.into(), strength, share: 1.0 };
        let own = [phrase("clips", 3.0), phrase("scoliosis", 1.0)];
        let of = |text: &str| score(&own, &Said::of(text));
        assert!((of("Clips. No scoliosis.") - 0.75).abs() < 1e-12);
        assert!(of("No clips.").abs() < 1e-12);
    }
}
