//! Does another feature take an image away from the one that should fire for a label?
//!
//! Absorption (Chanin et al. 2409.14507, in SAEBench's fractional form): `w` is the unit direction
//! of a label's dense readout, `S` the label's own features (those of its sparse readout). Of a
//! positive image the readout finds `p = <x - b_dec, w>`; its own features bring
//! `m = sum_S a_j <d_j, w>` of that. Where `m < p`, up to three other features that point along
//! `w` (cosine of at least 0.1) and bring at least 0.4 `p` together have absorbed the label, by
//! `t / (t + m)` with `t` the smaller of what they bring and what is missing; wholly where `m <= 0`.

use std::collections::{BTreeMap, HashMap};

use clearfilm::bundle::Sae;
use rayon::prelude::*;
use serde::Serialize;

use crate::kernel::{dot, norm};
use crate::measure::whole;

/// Features that may absorb an image, at most.
const ABSORBERS: usize = 3;

/// The least cosine of an absorber's row and the readout.
const ALONG: f32 = 0.1;

/// The least share of the readout that absorbers bring together.
const TOGETHER: f64 = 0.4;

/// A label's absorption.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Absorption {
    /// Mean over the positive images, 0..1.
    pub fraction: f64,
    /// Share of the positive images that are absorbed at all.
    pub images: f64,
    /// Features that absorb most, and how many images each takes part in.
    pub absorbers: Vec<(usize, usize)>,
    /// Positive images.
    pub positives: usize,
}

/// A label's readout and features.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The direction in which its log odds rise, `[d]`.
    pub direction: &'a [f64],
    /// Its own features.
    pub own: &'a [usize],
    /// Images with the label.
    pub positives: &'a [usize],
}

/// Of one label; `codes` are by image, `embeddings` `[n, d]`.
#[must_use]
pub fn absorption(
    sae: &Sae,
    embeddings: &[f32],
    codes: &[Vec<(u32, f32)>],
    asked: Asked<'_>,
) -> Absorption {
    let d = sae.b_dec.len();
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are fp32")]
    let mut w: Vec<f32> = asked.direction.iter().map(|x| *x as f32).collect();
    let length = norm(&w);
    w.iter_mut().for_each(|x| *x /= length);
    let rows: Vec<(f32, f32)> = (0..sae.b_enc.len())
        .into_par_iter()
        .map(|latent| {
            let row = sae.w_dec.row(latent);
            let along = dot(&row, &w);
            (along, along / norm(&row).max(f32::MIN_POSITIVE))
        })
        .collect();
    let (mut sum, mut images) = (0.0, 0);
    let mut times = BTreeMap::new();
    for &image in asked.positives {
        let x: Vec<f32> =
            embeddings[image * d..][..d].iter().zip(&sae.b_dec).map(|(x, b)| x - b).collect();
        let all = f64::from(dot(&x, &w));
        let (mut main, mut others) = (0.0, Vec::new());
        for &(latent, value) in &codes[image] {
            let (along, cosine) = rows[latent as usize];
            let brings = f64::from(value) * f64::from(along);
            if asked.own.contains(&(latent as usize)) {
                main += brings;
            } else if cosine >= ALONG && brings > 0.0 {
                others.push((brings, latent as usize));
            }
        }
        others.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        others.truncate(ABSORBERS);
        let brought: f64 = others.iter().map(|(brings, _)| brings).sum();
        if main >= all || all <= 0.0 || brought < TOGETHER * all {
            continue;
        }
        let taken = brought.min(all - main);
        sum += if main <= 0.0 { 1.0 } else { taken / (taken + main) };
        images += 1;
        others.iter().for_each(|(_, latent)| *times.entry(*latent).or_insert(0) += 1);
    }
    let n = whole(asked.positives.len().max(1));
    let mut absorbers: Vec<(usize, usize)> = times.into_iter().collect();
    absorbers.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    absorbers.truncate(ABSORBERS);
    Absorption {
        fraction: sum / n,
        images: whole(images) / n,
        absorbers,
        positives: asked.positives.len(),
    }
}

/// One feature that mostly fires where another does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Family {
    /// The rarer one.
    pub child: usize,
    /// The one that is there as well.
    pub parent: usize,
    /// Share of the child's firings on which the parent fires.
    pub parent_given_child: f64,
    /// Share of the parent's firings on which the child fires.
    pub child_given_parent: f64,
    /// The same share of all images: what two strangers would give.
    pub parent_rate: f64,
}

/// Among the `asked` features, pairs whose rarer one hardly fires alone, by how far that is from
/// what strangers would give; at most `most`.
#[must_use]
pub fn families(codes: &[Vec<(u32, f32)>], asked: &[usize], most: usize) -> Vec<Family> {
    let place: HashMap<usize, usize> =
        asked.iter().enumerate().map(|(at, feature)| (*feature, at)).collect();
    let m = asked.len();
    let mut together = vec![0_u32; m * m];
    for code in codes {
        let here: Vec<usize> =
            code.iter().filter_map(|(f, _)| place.get(&(*f as usize)).copied()).collect();
        for &a in &here {
            here.iter().for_each(|&b| together[a * m + b] += 1);
        }
    }
    let n = whole(codes.len());
    let alone = |at: usize| f64::from(together[at * m + at]);
    let mut found = Vec::new();
    for child in 0..m {
        for parent in (0..m).filter(|parent| *parent != child) {
            let both = f64::from(together[child * m + parent]);
            if both > 0.0 && alone(child) < alone(parent) {
                found.push(Family {
                    child: asked[child],
                    parent: asked[parent],
                    parent_given_child: both / alone(child),
                    child_given_parent: both / alone(parent),
                    parent_rate: alone(parent) / n,
                });
            }
        }
    }
    found.sort_by(|a, b| {
        let apart = |f: &Family| f.parent_given_child - f.parent_rate;
        apart(b).total_cmp(&apart(a)).then_with(|| (a.child, a.parent).cmp(&(b.child, b.parent)))
    });
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use clearfilm::bundle::{Level, Matrix, Weights};

    use super::*;

    fn axes() -> Sae {
        let rows = |values: Vec<f32>| Weights::F32(Matrix { rows: 3, columns: 2, values });
        let values = vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0];
        Sae {
            level: Level::Embedding,
            w_enc: rows(values.clone()),
            b_enc: vec![0.0; 3],
            w_dec: rows(values),
            b_dec: vec![0.0; 2],
            threshold: vec![0.0; 3],
        }
    }

    #[test]
    fn an_image_that_another_feature_explains_is_absorbed() {
        let embeddings = [2.0, 0.0, 2.0, 0.0, 2.0, 0.0];
        // Image 0 fires its own feature, image 1 the neighbour, image 2 one that stands across.
        let codes = vec![vec![(0, 2.0)], vec![(1, 2.0)], vec![(2, 2.0)]];
        let asked = Asked { direction: &[3.0, 0.0], own: &[0], positives: &[0, 1, 2] };
        let found = absorption(&axes(), &embeddings, &codes, asked);
        assert!((found.fraction - 1.0 / 3.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found.absorbers, [(1, 1)]);
    }

    #[test]
    fn what_never_fires_alone_has_a_parent() {
        let codes: Vec<Vec<(u32, f32)>> = (0..20)
            .map(|i| {
                if i % 10 == 0 {
                    vec![(0, 1.0), (1, 1.0)]
                } else if i < 8 {
                    vec![(0, 1.0)]
                } else {
                    vec![(2, 1.0)]
                }
            })
            .collect();
        let found = families(&codes, &[0, 1, 2], 5);
        assert_eq!((found[0].child, found[0].parent), (1, 0));
        assert!((found[0].parent_given_child - 1.0).abs() < 1e-9);
        assert_eq!(found.len(), 1);
    }
}
