//! Does the picture look like a frontal chest at all, and the right way round in its greys?
//!
//! A frontal chest is two dark fields with something bright between and below: that shows in 24 x 24
//! squares. The picture is compared with a template, the mean of drawn phantoms, by normalised
//! cross-correlation over small shifts. A hip or a leg does not have that pattern, and a chest whose
//! header lies about its photometric interpretation has it in the negative.

use super::template::TEMPLATE;
use crate::preprocess::Picture;

/// Squares along a side.
pub(super) const SIDE: usize = 24;

/// Squares by which the picture may lie beside the template, each way: 2 of 24 are 3.5 cm of 43.
const SHIFT: isize = 2;

/// What the pattern says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Likeness {
    /// Largest correlation with the template, -1 to 1.
    pub(super) chest: f64,
    /// Largest correlation of the negative.
    pub(super) negative: f64,
}

/// Compares a picture with the template.
pub(super) fn likeness(picture: &Picture) -> Likeness {
    let squares = squares(picture);
    let (mut chest, mut negative) = (-1.0_f64, -1.0_f64);
    for down in -SHIFT..=SHIFT {
        for right in -SHIFT..=SHIFT {
            let correlation = correlation(&squares, down, right);
            chest = chest.max(correlation);
            negative = negative.max(-correlation);
        }
    }
    Likeness { chest, negative }
}

/// Mean grey of each square `[SIDE, SIDE]` of the picture laid in the middle of a square; none
/// where the picture covers less than half of one, because what lies beside it says nothing.
pub(super) fn squares(picture: &Picture) -> Vec<Option<f64>> {
    let side = picture.rows.max(picture.columns).max(1);
    let (top, left) = ((side - picture.rows) / 2, (side - picture.columns) / 2);
    let square = |at: usize| at * SIDE / side;
    let across: Vec<usize> = (0..picture.columns).map(|column| square(column + left)).collect();
    let (mut sums, mut counts) = (vec![0_u64; SIDE * SIDE], vec![0_u64; SIDE * SIDE]);
    for (row, line) in picture.pixels.chunks_exact(picture.columns.max(1)).enumerate() {
        let base = square(row + top) * SIDE;
        for (&column, &grey) in across.iter().zip(line) {
            sums[base + column] += u64::from(grey);
            counts[base + column] += 1;
        }
    }
    let half = (side as u64 * side as u64) / (2 * (SIDE * SIDE) as u64);
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of at most 2^26 pixels of 8 bits are exact"
    )]
    let mean = |(sum, count): (u64, u64)| (count > half).then(|| sum as f64 / count as f64);
    sums.into_iter().zip(counts).map(mean).collect()
}

/// Pearson's correlation of picture and template where they overlap at a shift.
fn correlation(squares: &[Option<f64>], down: isize, right: isize) -> f64 {
    let pairs = || {
        (0..SIDE).flat_map(move |row| (0..SIDE).map(move |column| (row, column))).filter_map(
            move |(row, column)| {
                let row_there = row.checked_add_signed(-down).filter(|r| *r < SIDE)?;
                let column_there = column.checked_add_signed(-right).filter(|c| *c < SIDE)?;
                let there = f64::from(TEMPLATE[row_there * SIDE + column_there]);
                Some((squares[row * SIDE + column]?, there))
            },
        )
    };
    let (mut n, mut x, mut y, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in pairs() {
        n += 1.0;
        x += a;
        y += b;
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    let spread = ((xx - x * x / n) * (yy - y * y / n)).sqrt();
    if spread > f64::EPSILON { (xy - x * y / n) / spread } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::phantom::{Phantom, Projection, Variant};

    pub(crate) fn drawn(seed: u64, rows: usize, columns: usize) -> Picture {
        let variant = Variant::ALL[usize::try_from(seed).expect("small") % Variant::ALL.len()];
        let projection = if seed.is_multiple_of(2) { Projection::Pa } else { Projection::Ap };
        let canvas = Phantom { seed, projection, variant }.draw(rows, columns);
        let png = canvas.to_png().expect("drawn");
        let frame = crate::decode::decode(
            &png,
            &crate::config::Decode::default(),
            &crate::config::DicomLimits::default(),
        );
        crate::preprocess::render(&frame.expect("decoded"))
    }

    /// The mean of phantoms, as the template was made; printed where it no longer fits.
    #[test]
    fn the_template_is_the_mean_of_phantoms() {
        let mut sums = vec![0.0; SIDE * SIDE];
        for seed in 0..96 {
            for (sum, square) in sums.iter_mut().zip(squares(&drawn(seed, 240, 240))) {
                *sum += square.expect("covered") / 96.0;
            }
        }
        let rounded: Vec<String> = sums.iter().map(|s| format!("{s:.0}")).collect();
        let lines: Vec<String> = rounded.chunks(SIDE).map(|line| line.join(", ")).collect();
        let fits = sums.iter().zip(TEMPLATE).all(|(s, t)| (s - f64::from(t)).abs() <= 2.0);
        assert!(fits, "expected the template to be\n{},", lines.join(",\n"));
    }

    #[test]
    fn phantoms_look_like_chests_and_their_negatives_do_not() {
        for seed in 1_000..1_012 {
            let picture = drawn(seed, 256, 208);
            let found = likeness(&picture);
            assert!(found.chest > 0.8 && found.negative < 0.0, "{seed}: {found:?}");
            let pixels = picture.pixels.iter().map(|p| 255 - p).collect();
            let found = likeness(&Picture { pixels, ..picture });
            assert!(found.negative > 0.8 && found.chest < 0.0, "{seed}: {found:?}");
        }
    }

    #[test]
    fn a_shifted_phantom_still_looks_like_a_chest_and_a_flat_picture_like_nothing() {
        let picture = drawn(5, 256, 224);
        let columns = picture.columns;
        let pixels = (0..picture.pixels.len())
            .map(|at| if at % columns < 15 { 0 } else { picture.pixels[at - 15] })
            .collect();
        assert!(likeness(&Picture { pixels, ..picture }).chest > 0.8);
        let flat = Picture { rows: 100, columns: 100, pixels: vec![90; 10_000] };
        assert_eq!(likeness(&flat), Likeness { chest: 0.0, negative: 0.0 });
    }
}
