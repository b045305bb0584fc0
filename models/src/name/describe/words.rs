//! Words of reports: what is said to be there, without what is denied and what is compared.

use std::collections::BTreeSet;

/// What a report must have had another one for. A description may have none of these, because the
/// feature saw one image.
const COMPARING: &[&str] = &[
    "again",
    "appearing",
    "baseline",
    "change",
    "changed",
    "compared",
    "comparison",
    "continued",
    "continues",
    "decrease",
    "decreased",
    "decreases",
    "decreasing",
    "earlier",
    "enlarging",
    "evolving",
    "former",
    "formerly",
    "improve",
    "improved",
    "improvement",
    "improving",
    "increase",
    "increased",
    "increases",
    "increasing",
    "interim",
    "interval",
    "intervals",
    "longstanding",
    "new",
    "newly",
    "persist",
    "persistent",
    "persisting",
    "persists",
    "preceding",
    "previous",
    "previously",
    "prior",
    "priors",
    "progressed",
    "progression",
    "progressive",
    "re-demonstrated",
    "recent",
    "recently",
    "redemonstrated",
    "redemonstration",
    "remain",
    "remained",
    "remaining",
    "remains",
    "resolution",
    "resolved",
    "resolving",
    "since",
    "stable",
    "still",
    "unchanged",
    "worse",
    "worsened",
    "worsening",
];

/// Words that deny what follows in their sentence (after NegEx, Chapman et al. 2001).
const DENYING: &[&[&str]] = &[
    &["no"],
    &["not"],
    &["without"],
    &["nor"],
    &["never"],
    &["absent"],
    &["absence"],
    &["denies"],
    &["negative"],
    &["neither"],
    &["cannot"],
    &["free", "of"],
    &["clear", "of"],
    &["rule", "out"],
    &["resolved"],
    &["resolution"],
];

/// Words that deny what stands before them in their sentence.
const DENYING_BEFORE: &[&[&str]] = &[
    &["not", "seen"],
    &["not", "identified"],
    &["not", "present"],
    &["not", "visualized"],
    &["not", "demonstrated"],
    &["not", "appreciated"],
    &["is", "absent"],
    &["are", "absent"],
    &["ruled", "out"],
    &["has", "resolved"],
    &["have", "resolved"],
    &["unlikely"],
];

/// Words that end what is denied.
const BUT: &[&str] = &["but", "however", "although", "though", "except", "aside", "otherwise"];

/// Words that no phrase begins or ends with, and that are none alone.
const EMPTY: &[&str] = &[
    "a",
    "about",
    "above",
    "acute",
    "after",
    "all",
    "also",
    "an",
    "and",
    "any",
    "appear",
    "appears",
    "are",
    "as",
    "at",
    "be",
    "been",
    "being",
    "below",
    "both",
    "by",
    "can",
    "could",
    "demonstrate",
    "demonstrated",
    "demonstrates",
    "due",
    "either",
    "evidence",
    "few",
    "finding",
    "findings",
    "for",
    "from",
    "has",
    "have",
    "identified",
    "if",
    "image",
    "images",
    "in",
    "into",
    "is",
    "it",
    "its",
    "likely",
    "may",
    "more",
    "most",
    "near",
    "noted",
    "of",
    "on",
    "or",
    "other",
    "over",
    "patient",
    "possible",
    "possibly",
    "present",
    "probable",
    "probably",
    "projection",
    "related",
    "represent",
    "representing",
    "represents",
    "seen",
    "several",
    "small",
    "some",
    "suggest",
    "suggesting",
    "suggestive",
    "than",
    "that",
    "the",
    "there",
    "these",
    "this",
    "to",
    "too",
    "up",
    "view",
    "views",
    "visualized",
    "was",
    "were",
    "which",
    "while",
    "with",
    "within",
    "would",
];

/// Words of a phrase, at most.
const LONGEST: usize = 3;

/// What one report says is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Phrases of one to three words.
    pub phrases: BTreeSet<String>,
}

impl Said {
    /// By a report's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut phrases = BTreeSet::new();
        for sentence in sentences(text) {
            for run in affirmed(&sentence) {
                for length in 1..=LONGEST.min(run.len()) {
                    let whole = run.windows(length).filter(|words| is_phrase(words));
                    phrases.extend(whole.map(|words| words.join(" ")));
                }
            }
        }
        Self { phrases }
    }
}

/// The first word of change or comparison in a text; none where it speaks of one image.
#[must_use]
pub fn comparing(text: &str) -> Option<String> {
    sentences(text).into_iter().flatten().find(|word| COMPARING.contains(&word.as_str()))
}

/// Words of each sentence, lower case; what was blacked out (`XXXX`) and numbers end a sentence,
/// because nobody knows what stood there.
fn sentences(text: &str) -> Vec<Vec<String>> {
    let lower = text.to_lowercase();
    let mut sentences = vec![Vec::new()];
    let (mut word, mut rest) = (String::new(), lower.chars().peekable());
    let mut end = |word: &mut String, stop: bool| {
        let taken = std::mem::take(word);
        let taken = taken.trim_matches('-');
        let unknown = taken.starts_with("xx") || taken.starts_with(|c: char| c.is_ascii_digit());
        if !taken.is_empty()
            && !unknown
            && let Some(sentence) = sentences.last_mut()
        {
            sentence.push(taken.to_owned());
        }
        if stop || unknown {
            sentences.push(Vec::new());
        }
    };
    while let Some(letter) = rest.next() {
        match letter {
            '.' if rest.peek().is_some_and(char::is_ascii_digit) => word.push(letter),
            '.' | ';' | ':' | '!' | '?' | '\n' | '(' | ')' => end(&mut word, true),
            '-' | '\'' => word.push(letter),
            _ if letter.is_alphanumeric() => word.push(letter),
            // A comma ends a phrase but not what is denied: it stands as a word of its own.
            ',' => {
                end(&mut word, false);
                word.push(',');
                end(&mut word, false);
            }
            _ => end(&mut word, false),
        }
    }
    end(&mut word, true);
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// Runs of words of a sentence that nothing denies.
fn affirmed(sentence: &[String]) -> Vec<Vec<&str>> {
    let words: Vec<&str> = sentence.iter().map(String::as_str).collect();
    let starts = |at: usize, cues: &[&[&str]]| cues.iter().any(|cue| words[at..].starts_with(cue));
    let mut denied = vec![false; words.len()];
    let mut denying = false;
    let mut clause = 0;
    for at in 0..words.len() {
        if BUT.contains(&words[at]) {
            denying = false;
            clause = at;
        }
        if starts(at, DENYING_BEFORE) {
            denied[clause..at].fill(true);
        }
        denying |= starts(at, DENYING);
        denied[at] = denying;
    }
    let mut runs = vec![Vec::new()];
    for (word, denied) in words.iter().zip(denied) {
        if denied || *word == "," || COMPARING.contains(word) || BUT.contains(word) {
            runs.push(Vec::new());
        } else if let Some(run) = runs.last_mut() {
            run.push(*word);
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn is_phrase(words: &[&str]) -> bool {
    let full = |word: Option<&&str>| word.is_some_and(|w| w.len() > 2 && !EMPTY.contains(w));
    full(words.first()) && full(words.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, has: &[&str], lacks: &[&str]) {
        let said = Said::of(text).phrases;
        for phrase in has {
            assert!(said.contains(*phrase), "{text}: expected {phrase:?}, found {said:?}");
        }
        for phrase in lacks {
            assert!(!said.contains(*phrase), "{text}: expected no {phrase:?}, found {said:?}");
        }
    }

    #[test]
    fn what_is_denied_is_not_said() {
        check("No effusion or pneumothorax.", &[], &["effusion", "pneumothorax"]);
        check("Lungs are free of edema, nodules.", &["lungs"], &["edema", "nodules"]);
        check("No effusion but basal opacity.", &["basal opacity"], &["effusion"]);
        check("Pleural effusion is not seen. Clips.", &["clips"], &["effusion"]);
        check("There is an effusion. No edema.", &["effusion"], &["edema"]);
        check("Without edema. Calcified granuloma", &["calcified granuloma"], &["edema"]);
    }

    #[test]
    fn phrases_are_whole_words_of_one_sentence() {
        check(
            "Tortuous aorta, clips",
            &["tortuous aorta"],
            &["aorta clips", "tortuous aorta clips"],
        );
        check(
            "Opacity in XXXX lobe",
            &["opacity", "lobe"],
            &["opacity in xxxx", "in", "opacity lobe"],
        );
        check("Opacity of the lung", &["opacity"], &["of the lung", "opacity of"]);
    }

    #[test]
    fn what_compares_is_no_phrase_and_is_found() {
        check("Stable cardiomegaly", &["cardiomegaly"], &["stable", "stable cardiomegaly"]);
        assert_eq!(comparing("The heart is UNCHANGED."), Some("unchanged".into()));
        assert_eq!(comparing("Since the prior study"), Some("since".into()));
        assert_eq!(comparing("A large heart; newness of nothing"), None);
    }
}
