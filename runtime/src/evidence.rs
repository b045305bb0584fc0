//! Where in the image a feature comes from.
//!
//! At the embedding level a latent's pre-activation splits exactly into one share per token plus
//! a constant, because everything between the tokens and it is linear but for one common norm:
//! `pre = sum_i w_enc . (W t_i) / (n ||u||) + (w_enc . b / ||u|| + b_enc)`.
//! At the token level the share of a token is its activation over the number of tokens; the
//! shares sum to the image's activation by definition. Neither is an approximation.

use crate::bundle::{Bundle, Head, Level, dot};
use crate::encode::{Embedding, Tokens, count};
use crate::findings::{Finding, Region, Shape, Space};
use crate::id::LatentIndex;
use crate::preprocess::Placement;
use crate::sparse::Code;

/// A latent's value split over the token grid.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceMap {
    /// Rows and columns of the grid.
    pub grid: [usize; 2],
    /// Share of each token, row by row; with `constant` they sum to the latent's value.
    pub shares: Vec<f32>,
    /// What comes from no place in the image.
    pub constant: f32,
}

/// What the encoder and the SAE made of one image.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// The spatial map.
    pub tokens: &'a Tokens,
    /// The embedding.
    pub embedding: &'a Embedding,
    /// The SAE's code.
    pub code: &'a Code,
}

/// Splits one latent's pre-activation (embedding level) or activation (token level) over the grid.
#[must_use]
pub fn map(bundle: &Bundle, encoded: Encoded<'_>, latent: LatentIndex) -> EvidenceMap {
    let grid = bundle.manifest.encoder.grid;
    let n = count(encoded.tokens.n_tokens);
    match bundle.sae.level {
        Level::Tokens => {
            let shares =
                encoded.code.tokens.iter().map(|code| code.activation(latent) / n).collect();
            EvidenceMap { grid, shares, constant: 0.0 }
        }
        Level::Embedding => {
            let row = bundle.sae.w_enc.row(latent.position());
            let norm = encoded.embedding.norm;
            let through = through_head(&bundle.head, &row);
            let shares = encoded.tokens.iter().map(|t| dot(&through, t) / (n * norm)).collect();
            let bias = bundle.head.bias.as_ref().map_or(0.0, |b| dot(&row, b) / norm);
            EvidenceMap { grid, shares, constant: bias + bundle.sae.b_enc[latent.position()] }
        }
    }
}

/// `w_enc . W`, a row vector `[d_token]`.
fn through_head(head: &Head, row: &[f32]) -> Vec<f32> {
    let mut through = vec![0.0_f32; head.weight.columns];
    for (model, w) in row.iter().enumerate() {
        through.iter_mut().zip(head.weight.row(model)).for_each(|(t, h)| *t += w * h);
    }
    through
}

/// Tokens with at least this part of the strongest share belong to the region
/// (half of the maximum: the usual width of a peak).
const REGION_FROM: f32 = 0.5;

/// The smallest box around the strong tokens, in source pixels; none where no token speaks for
/// the latent or the strong ones lie outside the image.
#[must_use]
pub fn region(map: &EvidenceMap, placement: &Placement) -> Option<Region> {
    let strongest = map.shares.iter().copied().fold(0.0_f32, f32::max);
    if strongest <= 0.0 {
        return None;
    }
    let [_, columns] = map.grid;
    let strong = map.shares.iter().enumerate().filter(|(_, s)| **s >= REGION_FROM * strongest);
    let cells: Vec<(usize, usize)> = strong.map(|(at, _)| (at / columns, at % columns)).collect();
    let (top, bottom) = (cells.iter().map(|c| c.0).min()?, cells.iter().map(|c| c.0).max()?);
    let (left, right) = (cells.iter().map(|c| c.1).min()?, cells.iter().map(|c| c.1).max()?);
    let [x0, y0, x1, y1] = placement.grid_box(map.grid, [left, top, right + 1, bottom + 1])?;
    Some(Region { shape: Shape::Box, points: vec![x0, y0, x1, y1], space: Space::SourcePixels })
}

/// Gives every piece of evidence its region.
pub fn locate(
    findings: &mut [Finding],
    bundle: &Bundle,
    encoded: Encoded<'_>,
    placement: &Placement,
) {
    for evidence in findings.iter_mut().flat_map(|f| &mut f.evidence) {
        evidence.region = region(&map(bundle, encoded, evidence.feature), placement);
    }
}
