//! `features.json`: what latents are called, from the labels they go with and where they are active.

use clearfilm::bundle::{Bundle, Feature, Features, LabelSource};
use clearfilm::findings::round_4;
use clearfilm::id::LatentIndex;

use super::through::Passed;
use crate::associate::{Association, Associations};
use crate::measure::whole;

/// Version of `features.json`.
const FORMAT: u32 = 1;

/// A side, or the middle, is named where it holds this much of a latent's map.
const SIDE: f32 = 0.6;

/// Where a latent is active, its mean activation per token over images, in the patient's own sides.
#[must_use]
pub fn zone(bundle: &Bundle, images: &[&Passed], latent: usize) -> String {
    let [rows, columns] = bundle.manifest.encoder.grid;
    let latent = LatentIndex(u32::try_from(latent).unwrap_or(u32::MAX));
    let mut map = vec![0.0_f32; rows * columns];
    for passed in images {
        for (sum, token) in map.iter_mut().zip(&passed.code.tokens) {
            *sum += token.activation(latent);
        }
    }
    let total: f32 = map.iter().sum();
    if total <= 0.0 {
        return String::new();
    }
    let share = |inside: &dyn Fn(f32, f32) -> bool| -> f32 {
        let cell = |at: usize| {
            let middle = |n: usize, of: usize| ratio(2 * n + 1, 2 * of);
            inside(middle(at / columns, rows), middle(at % columns, columns))
        };
        (0..map.len()).filter(|at| cell(*at)).map(|at| map[at]).sum::<f32>() / total
    };
    let height =
        (0..map.len()).map(|at| ratio(at / columns, rows.max(2) - 1) * map[at]).sum::<f32>();
    let height = match height / total {
        h if h < 0.39 => "upper",
        h if h < 0.61 => "middle",
        _ => "lower",
    };
    // The picture's left is the patient's right.
    let right = share(&|_, x| x < 3.0 / 7.0);
    let left = share(&|_, x| x > 4.0 / 7.0);
    let central = share(&|_, x| (2.0 / 7.0..=5.0 / 7.0).contains(&x));
    let side = if right > SIDE {
        "right"
    } else if left > SIDE {
        "left"
    } else if central > SIDE {
        "central"
    } else {
        "both sides,"
    };
    format!("{side} {height} zone")
}

#[expect(clippy::cast_precision_loss, reason = "cells of a token map")]
fn ratio(a: usize, b: usize) -> f32 {
    a as f32 / b as f32
}

/// A collection that named latents, what it found, and its images.
#[derive(Debug)]
pub struct Found<'a> {
    /// What labels are called in names.
    pub phrases: &'a std::collections::BTreeMap<String, String>,
    /// What was found.
    pub associations: &'a Associations,
    /// Its images, for maps.
    pub images: Vec<&'a Passed>,
}

/// Names of every latent that a collection named, and of those that findings stand on. The first
/// collection that names a latent counts; `firing` is each latent's share of images.
#[must_use]
pub fn features(bundle: &Bundle, found: &[Found<'_>], firing: &[f64], named_by: &str) -> Features {
    let mut features = Vec::new();
    for (latent, firing) in firing.iter().enumerate() {
        let by = found.iter().find_map(|of| {
            let kept = of.associations.kept().find(|a| a.latent == latent)?;
            Some((of, kept, of.phrases.get(&kept.label)?))
        });
        let index = LatentIndex(u32::try_from(latent).unwrap_or(u32::MAX));
        let used = |rule: &clearfilm::bundle::FindingRule| {
            rule.weights.iter().any(|weight| weight.latent == index)
        };
        if by.is_none() && !bundle.rules.findings.iter().any(used) {
            continue;
        }
        let everywhere: Vec<&Passed> = found.iter().flat_map(|of| &of.images).copied().collect();
        let images = by.as_ref().map_or(&everywhere, |(of, ..)| &of.images);
        let place = zone(bundle, images, latent);
        features.push(feature(index, by.map(|(_, kept, phrase)| (kept, phrase)), &place, *firing));
    }
    Features { format: FORMAT, named_by: named_by.to_owned(), features }
}

fn feature(
    latent: LatentIndex,
    by: Option<(&Association, &String)>,
    place: &str,
    firing: f64,
) -> Feature {
    let beside = |word: &str| {
        if place.is_empty() { word.to_owned() } else { format!("{word}, {place}") }
    };
    let firing_rate = round_4(firing);
    let label_source = LabelSource::Auto;
    match by {
        None => Feature {
            latent,
            name: beside("pattern without a name"),
            description: beside("Pattern that goes with no label beyond chance; most active"),
            label_source,
            label_auroc: None,
            firing_rate,
        },
        Some((kept, phrase)) => Feature {
            latent,
            name: beside(&format!("associated with {phrase}")),
            description: format!(
                "Feature associated with {phrase}: AUROC {:.2} on patients who had no part in naming it, {:+.2} [{:+.2}, {:+.2}] above features that fire as often.",
                kept.auroc.value, kept.lift.value, kept.lift.low, kept.lift.high
            ),
            label_source,
            label_auroc: Some(kept.auroc.value),
            firing_rate,
        },
    }
}

/// Share of images where each latent fires.
#[must_use]
pub fn firing(images: &[&Passed], latents: usize) -> Vec<f64> {
    let mut fired = vec![0_usize; latents];
    for passed in images {
        for active in passed.code.image.entries() {
            fired[active.latent.position()] += 1;
        }
    }
    fired.into_iter().map(|n| whole(n) / whole(images.len().max(1))).collect()
}
