//! Is part of the lungs cut off by an edge of the picture?
//!
//! The template of a frontal chest is slid and stretched over the picture. For each edge the best
//! fit whose lungs touch or pass the edge is compared with the best whose lungs end within it: where
//! the first is better by a margin, a part is missing there, or nothing of it can be seen: one lung
//! that is white from top to bottom looks the same.
//!
//! The constants were chosen on 562 radiographs of adults (NIH training part). On 133 others (NIH
//! development part) 6 whole ones are flagged, five of them with a white lung, and of those that were
//! cropped by 25 % of their width or height 88 % at the left, 85 % at the right, 53 % at the top and 40 %
//! at the bottom, where the crop often takes no lung; of 182 of inpatients (Hannover) 12 are flagged.

use std::sync::LazyLock;

use super::anatomy::SIDE;
use super::template::TEMPLATE;
use crate::preprocess::Picture;

/// Squares of a picture or a template, row by row.
type Squares = [f32; SIDE * SIDE];

/// Where lungs begin and end in the template, as shares of its side: across, and down.
const LUNGS_ACROSS: [f32; 2] = [0.21, 0.79];
const LUNGS_DOWN: [f32; 2] = [0.21, 0.77];

/// Sizes of the lungs that are tried, squares: from half of the picture to a fifth more than all.
const SIZES: [usize; 7] = [11, 14, 17, 20, 23, 26, 29];

/// Percent of the lungs that may lie outside at one end.
const OUTSIDE: usize = 35;

/// Width to height of the lungs, in pixels.
const ASPECT: std::ops::RangeInclusive<f32> = 0.75..=1.5;

/// Lungs that end closer to an edge than this touch it, squares.
const NEAR: f32 = 1.0;

/// Least correlation of the best fit at which anything is said.
const FIT_MIN: f32 = 0.5;

/// Points within a square at which the template is looked up.
const POINTS: usize = 4;

/// An edge of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Left,
    Right,
    Top,
    Bottom,
}

/// By how much the fit that passes an edge must be better: between the 98.5 and 99.5 % quantiles of
/// whole radiographs.
const MARGINS: [(Edge, f32); 4] =
    [(Edge::Left, 0.02), (Edge::Right, 0.02), (Edge::Top, 0.045), (Edge::Bottom, 0.02)];

impl Edge {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Top => "top",
            Self::Bottom => "bottom",
        }
    }
}

/// Edges at which part of the lungs seems to be missing.
pub(super) fn clipped(picture: &Picture) -> Vec<Edge> {
    let ranks = ranks(&squares(picture));
    let fits = &*FITS;
    let stretched: Vec<Squares> = fits.axes.iter().map(|axis| axis.across(&ranks)).collect();
    let (mut best, mut cut, mut whole) = (-1.0_f32, [-1.0_f32; 4], [-1.0_f32; 4]);
    for fit in fits.all(picture) {
        let correlation = dot(&fits.axes[fit.down].template, &stretched[fit.across]) / fit.length;
        best = best.max(correlation);
        for (edge, room) in fit.rooms.into_iter().enumerate() {
            let kind = if room < NEAR { &mut cut } else { &mut whole };
            kind[edge] = kind[edge].max(correlation);
        }
    }
    if best < FIT_MIN {
        return Vec::new();
    }
    let worse = cut.iter().zip(whole).map(|(cut, whole)| cut - whole);
    let flagged = MARGINS.iter().zip(worse).filter(|((_, margin), by)| by > margin);
    flagged.map(|((edge, _), _)| *edge).collect()
}

/// Everything about the fits that does not depend on the picture.
static FITS: LazyLock<Fits> = LazyLock::new(Fits::new);

struct Fits {
    axes: Vec<Axis>,
    /// Length of each stretched template less its mean, by down and across.
    lengths: Vec<f32>,
}

/// One way to lay the lungs over a side of the picture.
struct Axis {
    /// Where they begin and end, squares.
    first: f32,
    last: f32,
    /// Which squares of the template each square of the picture is made from, across.
    weights: Squares,
    /// The template, stretched down.
    template: Squares,
}

/// One place and size of the lungs.
struct Fit {
    down: usize,
    across: usize,
    length: f32,
    /// Squares from the lungs to each edge, in the order of [`MARGINS`].
    rooms: [f32; 4],
}

impl Fits {
    fn new() -> Self {
        let axes: Vec<Axis> = intervals().map(|(first, last)| Axis::new(first, last)).collect();
        let lengths = axes.iter().flat_map(|down| axes.iter().map(|across| down.length(across)));
        let lengths = lengths.collect();
        Self { axes, lengths }
    }

    /// All fits whose lungs have a shape of lungs on this picture.
    fn all(&self, picture: &Picture) -> impl Iterator<Item = Fit> {
        let shape = count(picture.columns) / count(picture.rows.max(1));
        let pairs = (0..self.axes.len()).flat_map(|d| (0..self.axes.len()).map(move |a| (d, a)));
        pairs.zip(&self.lengths).filter_map(move |((down, across), &length)| {
            let (rows, columns) = (&self.axes[down], &self.axes[across]);
            let aspect = (columns.last - columns.first) / (rows.last - rows.first) * shape;
            let side = count(SIDE);
            let rooms = [columns.first, side - columns.last, rows.first, side - rows.last];
            ASPECT.contains(&aspect).then_some(Fit { down, across, length, rooms })
        })
    }
}

/// Where lungs of each size may begin and end: outside at one end at most.
fn intervals() -> impl Iterator<Item = (f32, f32)> {
    SIZES.into_iter().flat_map(|size| {
        let outside = OUTSIDE * size / 100;
        (0..=SIDE + 2 * outside - size).filter_map(move |at| {
            let (first, last) = (count(at) - count(outside), count(at + size) - count(outside));
            (first >= 0.0 || last <= count(SIDE)).then_some((first, last))
        })
    })
}

impl Axis {
    fn new(first: f32, last: f32) -> Self {
        let down = weights(first, last, LUNGS_DOWN);
        let mut template = [0.0; SIDE * SIDE];
        for (row, weights) in down.chunks_exact(SIDE).enumerate() {
            for (weight, line) in weights.iter().zip(TEMPLATE.chunks_exact(SIDE)) {
                for (sum, &grey) in template[row * SIDE..].iter_mut().zip(line) {
                    *sum += weight * f32::from(grey);
                }
            }
        }
        Self { first, last, weights: weights(first, last, LUNGS_ACROSS), template }
    }

    /// What correlates with a template that is stretched across: a picture, stretched the other way.
    fn across(&self, picture: &Squares) -> Squares {
        let mut stretched = [0.0; SIDE * SIDE];
        for (sums, line) in stretched.chunks_exact_mut(SIDE).zip(picture.chunks_exact(SIDE)) {
            for (&value, weights) in line.iter().zip(self.weights.chunks_exact(SIDE)) {
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
            }
        }
        stretched
    }

    /// Length of the template, stretched down by this and across by another axis, less its mean.
    fn length(&self, across: &Self) -> f32 {
        let (mut sum, mut squares) = (0.0, 0.0);
        for line in self.template.chunks_exact(SIDE) {
            for weights in across.weights.chunks_exact(SIDE) {
                let value: f32 = line.iter().zip(weights).map(|(a, b)| a * b).sum();
                sum += value;
                squares += value * value;
            }
        }
        // A template that is flat where it lies correlates with nothing.
        (squares - sum * sum / count(SIDE * SIDE)).max(1.0).sqrt()
    }
}

/// For each square of the picture the shares of the template's squares, linear between their centres.
fn weights(first: f32, last: f32, lungs: [f32; 2]) -> Squares {
    let mut weights = [0.0; SIDE * SIDE];
    for (square, weights) in weights.chunks_exact_mut(SIDE).enumerate() {
        for point in 0..POINTS {
            let at = count(square) + (count(point) + 0.5) / count(POINTS);
            let share = lungs[0] + (at - first) / (last - first) * (lungs[1] - lungs[0]);
            let place = (share * count(SIDE) - 0.5).clamp(0.0, count(SIDE - 1));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 23")]
            let below = place as usize;
            let behind = place - count(below);
            weights[below] += (1.0 - behind) / count(POINTS);
            if behind > 0.0 {
                weights[below + 1] += behind / count(POINTS);
            }
        }
    }
    weights
}

/// Mean grey of the picture in squares, stretched to as many across as down.
fn squares(picture: &Picture) -> Squares {
    let bounds = |at: usize, side: usize| at * side / SIDE..(at + 1) * side / SIDE;
    let mut squares = [0.0; SIDE * SIDE];
    for (at, mean) in squares.iter_mut().enumerate() {
        let rows = bounds(at / SIDE, picture.rows);
        let columns = bounds(at % SIDE, picture.columns);
        let pixels = count((rows.len() * columns.len()).max(1));
        let lines = picture.pixels.chunks_exact(picture.columns.max(1));
        let pieces = lines.skip(rows.start).take(rows.len()).map(|line| &line[columns.clone()]);
        // A piece of a line has at most 2^16 pixels of 8 bits.
        let sums = pieces.map(|piece| piece.iter().map(|&grey| u32::from(grey)).sum::<u32>());
        #[expect(clippy::cast_precision_loss, reason = "only the order of the means matters")]
        let sum = sums.map(u64::from).sum::<u64>() as f32;
        *mean = sum / pixels;
    }
    squares
}

/// The order of the squares' means instead of them: free of any grey curve; mean 0 and length 1.
fn ranks(squares: &Squares) -> Squares {
    let mut order: Vec<usize> = (0..squares.len()).collect();
    order.sort_by(|&a, &b| squares[a].total_cmp(&squares[b]));
    let n = count(squares.len());
    // Sum of the squares of n numbers that are 1 apart, with mean 0.
    let length = (n * (n * n - 1.0) / 12.0).sqrt();
    let mut ranks = [0.0; SIDE * SIDE];
    for (rank, at) in order.into_iter().enumerate() {
        ranks[at] = (count(rank) - (n - 1.0) / 2.0) / length;
    }
    ranks
}

/// Sum of products, in four sums at once so that none waits for the one before.
fn dot(a: &Squares, b: &Squares) -> f32 {
    let mut sums = [0.0; 4];
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a.as_chunks().0.iter().zip(b.as_chunks().0) {
        sums[0] += a0 * b0;
        sums[1] += a1 * b1;
        sums[2] += a2 * b2;
        sums[3] += a3 * b3;
    }
    sums.iter().sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of squares and pixels are below 2^24")]
fn count(number: usize) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::super::anatomy::tests::drawn;
    use super::*;

    /// What is left of a picture when `percent` are cut off at an edge.
    fn cropped(picture: &Picture, edge: Edge, percent: usize) -> Picture {
        let (rows, columns) = (picture.rows, picture.columns);
        let off = |side: usize| side * percent / 100;
        let (down, across) = match edge {
            Edge::Left => (0..rows, off(columns)..columns),
            Edge::Right => (0..rows, 0..columns - off(columns)),
            Edge::Top => (off(rows)..rows, 0..columns),
            Edge::Bottom => (0..rows - off(rows), 0..columns),
        };
        let lines = picture.pixels.chunks_exact(columns).skip(down.start).take(down.len());
        let pixels = lines.flat_map(|line| line[across.clone()].to_vec()).collect();
        Picture { rows: down.len(), columns: across.len(), pixels }
    }

    #[test]
    fn whole_phantoms_are_whole_and_cropped_ones_are_clipped_where_they_were_cropped() {
        for seed in 2_000..2_008 {
            let picture = drawn(seed, 320, 256);
            assert_eq!(clipped(&picture), [], "{seed}");
            for (edge, _) in MARGINS {
                let found = clipped(&cropped(&picture, edge, 35));
                assert!(found.contains(&edge), "{seed}: {edge:?}, found {found:?}");
            }
        }
    }

    #[test]
    fn another_grey_curve_gives_the_same_answer() {
        let picture = cropped(&drawn(2_001, 320, 256), Edge::Left, 35);
        let pixels = picture.pixels.iter().map(|&p| p / 2 + 40).collect();
        assert_eq!(clipped(&Picture { pixels, ..picture }), [Edge::Left]);
    }

    #[test]
    fn ranks_have_mean_0_and_length_1() {
        let ranks = ranks(&squares(&drawn(1, 300, 200)));
        let length = dot(&ranks, &ranks);
        assert!(ranks.iter().sum::<f32>().abs() < 1e-4 && (length - 1.0).abs() < 1e-4, "{length}");
    }
}
