//! Resizing: Pillow's bicubic for `pad`, torchvision's antialiased bilinear for `squash`.
//!
//! Both are the same separable scheme: a filter whose support grows with the reduction, weights
//! normalised to sum 1, rows first, then columns. They differ in arithmetic, and each is done as
//! its model does it: Pillow in 22-bit fixed point with 8 bits between the passes
//! (`Resample.c`), torchvision on floats that are rounded once at the end.

use super::{Picture, ratio};

/// How pixels are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Pillow's `BICUBIC`, fixed point.
    Bicubic,
    /// torchvision's `bilinear`, `antialias=True`, floats.
    Bilinear,
}

/// The source pixels that make one output pixel.
struct Span {
    first: usize,
    /// Sum 1.
    weights: Vec<f64>,
}

/// Brings a picture to `[height, width]`.
pub(super) fn resize(picture: &Picture, filter: Filter, [height, width]: [usize; 2]) -> Picture {
    if [picture.rows, picture.columns] == [height, width] {
        return picture.clone();
    }
    let across = spans(picture.columns, width, filter);
    let down = spans(picture.rows, height, filter);
    let pixels = match filter {
        Filter::Bicubic => fixed(picture, &across, &down),
        Filter::Bilinear => floating(picture, &across, &down),
    };
    Picture { rows: height, columns: width, pixels }
}

/// Pillow's `precompute_coeffs`; torch's `_compute_weights_aa` is the same in other words.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "C's (int) of small positive numbers"
)]
fn spans(from: usize, to: usize, filter: Filter) -> Vec<Span> {
    let scale = ratio(from, to);
    let stretch = scale.max(1.0);
    let (support, weight): (f64, fn(f64) -> f64) = match filter {
        Filter::Bicubic => (2.0 * stretch, bicubic),
        Filter::Bilinear => (stretch, triangle),
    };
    let span = |at: usize| {
        let center = (ratio(at, 1) + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let mut weights: Vec<f64> =
            (first..end).map(|x| weight((ratio(x, 1) - center + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        Span { first, weights }
    };
    (0..to).map(span).collect()
}

/// Keys' cubic convolution with a = -0.5 (Pillow's `bicubic_filter`, the same expression).
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Fraction bits of Pillow's fixed point: 32 less 8 for the pixel and 2 for sign and overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Two passes in fixed point with 8 bits between them; a pass that changes nothing is left out,
/// as Pillow leaves it out.
fn fixed(picture: &Picture, across: &[Span], down: &[Span]) -> Vec<u8> {
    let columns = across.len();
    let rows = if columns == picture.columns {
        picture.pixels.clone()
    } else {
        let across = quantised(across);
        let mut out = Vec::with_capacity(picture.rows * columns);
        for row in picture.pixels.chunks_exact(picture.columns) {
            out.extend(across.iter().map(|(first, weights)| {
                let sum =
                    weights.iter().zip(&row[*first..]).map(|(w, &p)| w * i32::from(p)).sum::<i32>();
                clipped(sum + HALF)
            }));
        }
        out
    };
    if down.len() == picture.rows {
        return rows;
    }
    let mut out = Vec::with_capacity(down.len() * columns);
    let mut sums = vec![0_i32; columns];
    for (first, weights) in quantised(down) {
        sums.fill(HALF);
        for (w, row) in weights.iter().zip(rows[first * columns..].chunks_exact(columns)) {
            sums.iter_mut().zip(row).for_each(|(s, &p)| *s += w * i32::from(p));
        }
        out.extend(sums.iter().map(|&s| clipped(s)));
    }
    out
}

/// One half in fixed point, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Pillow's `normalize_coeffs_8bpc`: rounded half away from zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "weights are at most a little over 1, times 2^22"
)]
fn quantised(spans: &[Span]) -> Vec<(usize, Vec<i32>)> {
    let one = f64::from(1_u32 << PRECISION_BITS);
    let quantum = |w: &f64| (w * one).round() as i32;
    spans.iter().map(|s| (s.first, s.weights.iter().map(quantum).collect())).collect()
}

#[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255")]
fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Two passes in floats, rounded once.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=255")]
fn floating(picture: &Picture, across: &[Span], down: &[Span]) -> Vec<u8> {
    let columns = across.len();
    let across: Vec<(usize, Vec<f32>)> =
        across.iter().map(|s| (s.first, narrowed(&s.weights))).collect();
    let mut rows = Vec::with_capacity(picture.rows * columns);
    for row in picture.pixels.chunks_exact(picture.columns) {
        rows.extend(across.iter().map(|(first, weights)| {
            weights.iter().zip(&row[*first..]).map(|(w, &p)| w * f32::from(p)).sum::<f32>()
        }));
    }
    let mut out = Vec::with_capacity(down.len() * columns);
    let mut sums = vec![0.0_f32; columns];
    for span in down {
        sums.fill(0.0);
        for (w, row) in
            narrowed(&span.weights).iter().zip(rows[span.first * columns..].chunks_exact(columns))
        {
            sums.iter_mut().zip(row).for_each(|(s, &p)| *s += w * p);
        }
        out.extend(sums.iter().map(|s| (s + 0.5).floor().clamp(0.0, 255.0) as u8));
    }
    out
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "weights of at most 1 in the float path's own precision"
)]
fn narrowed(weights: &[f64]) -> Vec<f32> {
    weights.iter().map(|&w| w as f32).collect()
}
