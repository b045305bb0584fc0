//! The metrics against scikit-learn, SciPy and loops over all pairs, on one stored set of features,
//! labels and embeddings; `models/oracle/metrics.py` wrote what they give.

use std::fs;

use clearfilm_models::codes::Codes;
use clearfilm_models::evaluate::alignment::Correlations;
use clearfilm_models::evaluate::auroc::{Agreement, agreements};
use clearfilm_models::evaluate::labels::{Labels, Mark};
use clearfilm_models::evaluate::logistic::Logistic;
use clearfilm_models::evaluate::monosemantic::monosemanticity;
use safetensors::SafeTensors;

/// Where both sides count the same whole numbers.
const EXACT: f64 = 1e-12;

/// Where one side sums pairs and the other does not, in fp32 units.
const CLOSE: f64 = 1e-6;

/// Where both sides stop an iteration.
const NEAR: f64 = 1e-5;

struct Fixture(Vec<u8>);

impl Fixture {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/metrics.safetensors");
        Self(fs::read(path).expect("the fixture of models/oracle/metrics.py"))
    }

    fn bytes(&self, name: &str) -> (Vec<u8>, Vec<usize>) {
        let all = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let tensor = all.tensor(name).expect("the tensor is there");
        (tensor.data().to_vec(), tensor.shape().to_vec())
    }

    fn fp64(&self, name: &str) -> Vec<f64> {
        self.bytes(name).0.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    fn fp32(&self, name: &str) -> Vec<f32> {
        self.bytes(name).0.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn codes(&self) -> Codes {
        Codes::dense(&self.fp32("values"), self.bytes("values").1[1])
    }

    fn labels(&self) -> Labels {
        let (bytes, shape) = self.bytes("marks");
        let mark = |byte: u8| match byte.cast_signed() {
            1 => Mark::Positive,
            0 => Mark::Negative,
            _ => Mark::Unknown,
        };
        let columns = (0..shape[1]).map(|label| {
            let marks = (0..shape[0]).map(|row| mark(bytes[row * shape[1] + label]));
            (label.to_string(), marks.collect())
        });
        Labels::of(columns.collect())
    }
}

/// Holds every pair of feature and label against the stored figures.
fn check(name: &str, tolerance: f64, of: impl Fn(&Agreement) -> f64) {
    let fixture = Fixture::open();
    let expected = fixture.fp64(name);
    let found = agreements(&fixture.codes(), &fixture.labels());
    let labels = found[0].len();
    for (feature, row) in found.iter().enumerate() {
        for (label, agreement) in row.iter().enumerate() {
            let found = of(agreement.as_ref().expect("both kinds of images"));
            let expected = expected[feature * labels + label];
            let apart = (found - expected).abs();
            assert!(
                apart <= tolerance,
                "{name} of {feature}, {label}: {found}, expected {expected}"
            );
        }
    }
    assert_eq!(found.len() * labels, expected.len());
}

#[test]
fn auroc_is_scikit_learns() {
    check("auroc", EXACT, |agreement| agreement.auroc);
}

#[test]
fn average_precision_is_scikit_learns() {
    check("average_precision", EXACT, |agreement| agreement.average_precision);
}

#[test]
fn rank_correlation_is_scipys() {
    check("spearman", EXACT, |agreement| agreement.spearman);
}

#[test]
fn correlation_is_numpys() {
    let fixture = Fixture::open();
    let expected = fixture.fp64("pearson");
    let found = Correlations::of(&fixture.codes(), &fixture.labels());
    for (found, expected) in found.r.iter().flatten().zip(&expected) {
        assert!((found - expected).abs() < EXACT, "{found}, expected {expected}");
    }
}

#[test]
fn monosemanticity_is_the_loop_over_all_pairs() {
    let fixture = Fixture::open();
    let embeddings = fixture.fp32("embeddings");
    let d = fixture.bytes("embeddings").1[1];
    let patients: Vec<u32> = (0..300).collect();
    let found = monosemanticity(&fixture.codes(), &embeddings, d, &patients);
    let expected = fixture.fp64("monosemanticity");
    for (feature, (score, expected)) in found.scores.iter().zip(&expected).enumerate() {
        match score.published {
            Some(found) => {
                assert!((found - expected).abs() < CLOSE, "{feature}: {found} {expected}")
            }
            None => assert!(expected.is_nan(), "{feature}: none, expected {expected}"),
        }
    }
}

#[test]
fn logistic_regression_is_scikit_learns() {
    let fixture = Fixture::open();
    let marks = fixture.labels().column(0);
    let d = fixture.bytes("embeddings").1[1];
    let embeddings = fixture.fp32("embeddings");
    let known: Vec<usize> = (0..marks.len()).filter(|i| marks[*i] != Mark::Unknown).collect();
    let rows: Vec<f64> =
        (known.iter()).flat_map(|row| &embeddings[row * d..][..d]).map(|x| f64::from(*x)).collect();
    let positive: Vec<bool> = known.iter().map(|i| marks[*i] == Mark::Positive).collect();
    let fitted = Logistic::fit(&rows, d, &positive, 1.0).expect("both kinds");
    for (row, expected) in rows.chunks_exact(d).zip(fixture.fp64("log_odds")) {
        let found = fitted.score(row);
        assert!((found - expected).abs() < NEAR, "{found}, expected {expected}");
    }
}
