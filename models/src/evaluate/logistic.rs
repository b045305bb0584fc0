//! Logistic regression: what a label's readout from a few values is.

use faer::linalg::solvers::Solve as _;
use faer::{Mat, Side};

use crate::measure::whole;

/// Rounds of Newton's method at most; it is near after some ten.
const ROUNDS: usize = 50;

/// A round in which no weight moves by more is the last.
const STILL: f64 = 1e-8;

/// Values standardised on the training images, weights, and a bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// One a value, and the bias behind them.
    weights: Vec<f64>,
}

impl Logistic {
    /// Minimises the summed cross-entropy and `ridge / 2` times the squared weights (not the
    /// bias) on rows `[n, d]`; none where the labels are all alike.
    ///
    /// The values are standardised first, so that `ridge` means the same for all of them: 1 is
    /// scikit-learn's default.
    #[must_use]
    pub fn fit(rows: &[f64], d: usize, positive: &[bool], ridge: f64) -> Option<Self> {
        (d > 0).then(|| Prepared::of(rows, d))?.fit(positive, ridge)
    }

    /// The log odds of a row.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> f64 {
        let scaled = row.iter().zip(&self.mean).zip(&self.deviation);
        let sum: f64 = scaled.zip(&self.weights).map(|(((x, m), s), w)| (x - m) / s * w).sum();
        sum + self.weights[self.mean.len()]
    }

    /// The direction in which the log odds rise, in units of the values.
    #[must_use]
    pub fn direction(&self) -> Vec<f64> {
        self.weights.iter().zip(&self.deviation).map(|(w, s)| w / s).collect()
    }
}

/// Rows to fit on, made ready once for several ridges.
#[derive(Debug)]
pub struct Prepared {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Standardised rows and a column of ones `[n, r + 1]`. Of more values than rows only the
    /// directions in which the rows differ are kept: a ridge leaves the others at 0.
    x: Mat<f64>,
    /// Those directions `[d, r]`; none where the values themselves are kept.
    directions: Option<Mat<f64>>,
}

impl Prepared {
    /// Of rows `[n, d]`, with `d` above 0.
    #[must_use]
    pub fn of(rows: &[f64], d: usize) -> Self {
        let n = rows.len() / d;
        let (mean, deviation) = moments(rows, d);
        let standard =
            |row: usize, column: usize| (rows[row * d + column] - mean[column]) / deviation[column];
        let wide = Mat::from_fn(n, d, standard);
        let turned = if d > n { turned(&wide) } else { None };
        let (x, directions) = turned.map_or((wide, None), |(x, turn)| (x, Some(turn)));
        let r = x.ncols();
        let x =
            Mat::from_fn(n, r + 1, |row, column| if column == r { 1.0 } else { x[(row, column)] });
        Self { mean, deviation, x, directions }
    }

    /// The readout under a ridge; none where the labels are all alike.
    #[must_use]
    pub fn fit(&self, positive: &[bool], ridge: f64) -> Option<Logistic> {
        if !positive.contains(&true) || !positive.contains(&false) {
            return None;
        }
        let weights = self.solved(positive, ridge)?;
        let r = weights.nrows() - 1;
        let own = |at: usize| weights[(at, 0)];
        let mut all: Vec<f64> = match &self.directions {
            None => (0..r).map(own).collect(),
            Some(turn) => (0..turn.nrows())
                .map(|row| (0..r).map(|at| turn[(row, at)] * own(at)).sum())
                .collect(),
        };
        all.push(own(r));
        let (mean, deviation) = (self.mean.clone(), self.deviation.clone());
        Some(Logistic { mean, deviation, weights: all })
    }

    /// Newton's method.
    fn solved(&self, positive: &[bool], ridge: f64) -> Option<Mat<f64>> {
        let (n, d) = (self.x.nrows(), self.x.ncols() - 1);
        let mut weights = Mat::<f64>::zeros(d + 1, 1);
        for _ in 0..ROUNDS {
            let z = &self.x * &weights;
            let p = Mat::from_fn(n, 1, |row, _| sigmoid(z[(row, 0)]));
            let residual = Mat::from_fn(n, 1, |row, _| p[(row, 0)] - f64::from(positive[row]));
            let mut gradient = self.x.transpose() * &residual;
            let scaled = Mat::from_fn(n, d + 1, |row, column| {
                let p = p[(row, 0)];
                self.x[(row, column)] * (p * (1.0 - p)).max(FLOOR)
            });
            let mut hessian = self.x.transpose() * &scaled;
            for at in 0..d {
                gradient[(at, 0)] += ridge * weights[(at, 0)];
                hessian[(at, at)] += ridge;
            }
            hessian[(d, d)] += FLOOR;
            let step = hessian.llt(Side::Lower).ok()?.solve(&gradient);
            // Far from the minimum a whole step can overshoot.
            let longest = (0..=d).fold(0.0_f64, |most, at| most.max(step[(at, 0)].abs()));
            let damp = if longest > REACH { REACH / longest } else { 1.0 };
            (0..=d).for_each(|at| weights[(at, 0)] -= damp * step[(at, 0)]);
            if longest < STILL {
                break;
            }
        }
        Some(weights)
    }
}

/// Rows `[n, d]` by the directions in which they differ, `[n, r]`, and those directions `[d, r]`;
/// none where they are no numbers.
fn turned(wide: &Mat<f64>) -> Option<(Mat<f64>, Mat<f64>)> {
    let gram = wide * wide.transpose();
    let found = gram.self_adjoint_eigen(Side::Lower).ok()?;
    let (vectors, values) = (found.U(), found.S().column_vector());
    // faer gives rising values.
    let largest = values[values.nrows() - 1];
    let kept: Vec<usize> = (0..values.nrows()).filter(|at| values[*at] > RANK * largest).collect();
    let root = |at: usize| values[kept[at]].sqrt();
    let x = Mat::from_fn(wide.nrows(), kept.len(), |row, at| vectors[(row, kept[at])] * root(at));
    let scaled =
        Mat::from_fn(wide.nrows(), kept.len(), |row, at| vectors[(row, kept[at])] / root(at));
    Some((x, wide.transpose() * &scaled))
}

/// Directions with a smaller share of the largest one's variance hold rounding alone.
const RANK: f64 = 1e-12;

/// The least curvature of an image, which keeps the equations solvable where all are certain.
const FLOOR: f64 = 1e-9;

/// The most that a weight moves in one round, in standard deviations of its value.
const REACH: f64 = 5.0;

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Mean and standard deviation of each value; 1 where it is the same everywhere.
fn moments(rows: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let n = whole(rows.len() / d);
    let mut mean = vec![0.0; d];
    for row in rows.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n);
    }
    let mut variance = vec![0.0; d];
    for row in rows.chunks_exact(d) {
        let apart = row.iter().zip(&mean);
        variance.iter_mut().zip(apart).for_each(|(v, (x, m))| *v += (x - m) * (x - m) / n);
    }
    let deviation = variance.iter().map(|v| if *v > 1e-24 { v.sqrt() } else { 1.0 });
    (mean, deviation.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_of_two_kinds_has_the_odds_of_its_counts() {
        // 3 of 4 are positive at 1, 1 of 4 at 0: the log odds are ln 3 and -ln 3.
        let rows = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let positive = [true, true, true, false, true, false, false, false];
        let fitted = Logistic::fit(&rows, 1, &positive, 0.0).expect("both kinds");
        assert!((fitted.score(&[1.0]) - 3.0_f64.ln()).abs() < 1e-6);
        assert!((fitted.score(&[0.0]) + 3.0_f64.ln()).abs() < 1e-6);
        assert!((fitted.direction()[0] - 2.0 * 3.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn what_is_separable_stays_finite_under_a_ridge() {
        let rows = [0.0, 1.0, 2.0, 3.0];
        let fitted = Logistic::fit(&rows, 1, &[false, false, true, true], 1.0).expect("both kinds");
        assert!(fitted.score(&[3.0]) > 0.0 && fitted.score(&[3.0]) < 10.0);
    }

    #[test]
    fn more_values_than_rows_are_read_as_well_by_their_directions() {
        let rows: Vec<f64> = (0..60_u32).map(|i| f64::from((i * i * 7 + i) % 11)).collect();
        let positive = [true, false, true, true, false, false];
        let wide = Logistic::fit(&rows, 10, &positive, 2.0).expect("both kinds");
        // The minimum has no slope: weights = sum((y - p) x) / ridge.
        let standard = Prepared::of(&rows, 10);
        let off = |at: usize, row: usize| {
            let x = (rows[row * 10 + at] - standard.mean[at]) / standard.deviation[at];
            (f64::from(positive[row]) - sigmoid(wide.score(&rows[row * 10..][..10]))) * x
        };
        for at in 0..10 {
            let along: f64 = (0..6).map(|row| off(at, row)).sum();
            assert!((along - 2.0 * wide.weights[at]).abs() < 1e-6, "{along}");
        }
    }

    #[test]
    fn labels_that_are_all_alike_teach_nothing() {
        assert_eq!(Logistic::fit(&[1.0, 2.0], 1, &[true, true], 1.0), None);
    }
}
