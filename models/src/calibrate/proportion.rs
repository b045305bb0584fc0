//! Shares of few images, and how far they can be trusted.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF as _};

use crate::measure::whole;

/// So many of so many, with the interval of Clopper and Pearson (1934), which holds its level for
/// every share and every number of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Proportion {
    /// So many,
    pub hits: usize,
    /// of so many.
    pub of: usize,
    /// The share; no number of none.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Proportion {
    /// With an interval that holds the true share at least so often (`level`, within 0 and 1).
    ///
    /// It takes images for independent. Where a patient has several it is too narrow, and
    /// [`crate::evaluate::bootstrap`] is asked beside it.
    #[must_use]
    pub fn of(hits: usize, of: usize, level: f64) -> Self {
        let outside = (1.0 - level) / 2.0;
        let misses = of - hits;
        let low = if hits == 0 { 0.0 } else { quantile(hits, misses + 1, outside) };
        let high = if misses == 0 { 1.0 } else { quantile(hits + 1, misses, 1.0 - outside) };
        Self { hits, of, value: whole(hits) / whole(of), low, high }
    }
}

/// Of the beta distribution.
fn quantile(a: usize, b: usize, share: f64) -> f64 {
    Beta::new(whole(a), whole(b)).expect("both above 0").inverse_cdf(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_ends_are_those_of_the_binomial_tails() {
        // At the lower end 9 or more of 14 happen once in 40, at the upper end 9 or fewer.
        let found = Proportion::of(9, 14, 0.95);
        let chosen =
            |n: u64, k: u64| (0..k).fold(1.0, |c, i| c * whole_u64(n - i) / whole_u64(i + 1));
        let exactly = |p: f64, k: u64| {
            chosen(14, k) * p.powf(whole_u64(k)) * (1.0 - p).powf(whole_u64(14 - k))
        };
        let above: f64 = (9..=14).map(|k| exactly(found.low, k)).sum();
        let below: f64 = (0..=9).map(|k| exactly(found.high, k)).sum();
        assert!((above - 0.025).abs() < 1e-9, "{above}");
        assert!((below - 0.025).abs() < 1e-9, "{below}");
    }

    #[test]
    fn none_and_all_have_one_open_end() {
        let none = Proportion::of(0, 20, 0.95);
        assert!(near(none.low, 0.0));
        // 1 - 0.025^(1/20)
        assert!((none.high - 0.168_433_5).abs() < 1e-6, "{}", none.high);
        assert!(near(Proportion::of(20, 20, 0.95).high, 1.0));
        let nothing = Proportion::of(0, 0, 0.95);
        assert!(nothing.value.is_nan() && near(nothing.low, 0.0) && near(nothing.high, 1.0));
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[expect(clippy::cast_precision_loss, reason = "small")]
    fn whole_u64(n: u64) -> f64 {
        n as f64
    }
}
