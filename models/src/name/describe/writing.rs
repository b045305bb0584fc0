//! Descriptions by a language model, and its judgement of reports by them.

use super::describing::{Description, One};
use super::material::Material;
use super::words;
use crate::name::chat::Ask;
use crate::name::client::{Answer, Client};
use crate::name::held_out::said;
use crate::name::prompts::{self, Described};
use crate::name::reply::Failure;
use crate::name::score::{Judged, Said};
use crate::name::{Event, NameError, Tell};

/// A description of each feature. One that compares with an earlier examination is asked for once
/// more, then it has failed.
pub(super) fn written(
    client: &Client<'_>,
    material: &Material,
    features: &[One],
    random: usize,
    tell: Tell<'_>,
) -> Result<Vec<Result<Description, Failure>>, NameError> {
    let texts = |rows: &[usize]| -> Vec<&str> {
        rows.iter().map(|row| material.texts[*row].as_str()).collect()
    };
    let ask = |one: &One, again: bool| {
        let without = [&one.contrast[..], &one.background[..random.min(one.background.len())]];
        prompts::describe(&texts(&one.top), &texts(&without.concat()), again)
    };
    let first: Vec<Ask> = features.iter().map(|one| ask(one, false)).collect();
    tell(Event::Asks(first.len()));
    let mut found: Vec<_> = client.all(&first, tell)?.into_iter().map(description).collect();
    let compares = |at: &usize| found[*at].as_ref().err() == Some(&Failure::Language);
    let again: Vec<usize> = (0..found.len()).filter(compares).collect();
    let second: Vec<Ask> = again.iter().map(|at| ask(&features[*at], true)).collect();
    tell(Event::Asks(second.len()));
    for (at, answer) in again.into_iter().zip(client.all(&second, tell)?) {
        found[at] = description(answer);
    }
    Ok(found)
}

fn description(answer: Answer) -> Result<Description, Failure> {
    let text = answer?.read::<Described>()?.description;
    match words::comparing(&text) {
        Some(_) => Err(Failure::Language),
        None => Ok(Description { text, phrases: Vec::new() }),
    }
}

/// What the judge says of each report by each description: `pairs` of a description and the
/// report's row.
pub(super) fn judged(
    client: &Client<'_>,
    material: &Material,
    pairs: &[(&Description, usize, bool)],
    tell: Tell<'_>,
) -> Result<Vec<Judged>, NameError> {
    let asks: Vec<Ask> = pairs
        .iter()
        .map(|(description, row, _)| prompts::read(&description.text, &material.texts[*row]))
        .collect();
    tell(Event::Asks(asks.len()));
    let answers = client.all(&asks, tell)?;
    let one = |(answer, (_, _, fires)): (Answer, &(&Description, usize, bool))| {
        // A yes or no is a score as well, if a coarse one.
        let scored = |said: Said| Said {
            score: said.score.or(Some(f64::from(u8::from(said.fits)))),
            ..said
        };
        Judged { fires: *fires, said: said(answer).map(scored) }
    };
    Ok(answers.into_iter().zip(pairs).map(one).collect())
}
