//! Thresholds with a promise, where there are enough positive images for one.
//!
//! Conformal risk control (Angelopoulos et al., arXiv 2208.02814) with the share of missed
//! positives as the loss: if images to come are exchangeable with these, a positive one is missed
//! with a chance of at most `alpha`.

/// The highest threshold that keeps the promise: the `floor(alpha * (n1 + 1))`-th smallest
/// probability among the positives. None where that is the zeroth, so where no threshold does.
#[must_use]
pub fn threshold(positives: &[f64], alpha: f64) -> Option<f64> {
    let mut sorted = positives.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = place(sorted.len(), alpha);
    place.checked_sub(1).map(|at| sorted[at])
}

/// How many positives may lie below a threshold and the one at it, at most all.
fn place(positives: usize, alpha: f64) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 images")]
    let exact = alpha * (positives + 1) as f64;
    // 0.05 * 20 is 1, and a little less in binary.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0")]
    let place = (exact + 1e-9).floor() as usize;
    place.min(positives)
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;
    use crate::start::{Stream, numbers};

    #[test]
    fn fourteen_positives_promise_nothing_at_five_per_cent() {
        assert_eq!(threshold(&[0.5; 14], 0.05), None);
        assert_eq!(threshold(&[0.5; 18], 0.05), None);
        assert_eq!(threshold(&[0.5; 19], 0.05), Some(0.5));
        let rising: Vec<f64> = (1..=39).rev().map(f64::from).collect();
        assert_eq!(threshold(&rising, 0.05), Some(2.0));
    }

    #[test]
    fn the_promise_is_kept_on_the_next_image_and_not_by_much_more() {
        // 4000 sets of 30 and one more: it lies below the threshold in 3 of 31 at most.
        let mut random = numbers(5, Stream::Control);
        let missed = (0..4000).filter(|_| {
            let mut drawn: Vec<f64> = (0..31).map(|_| random.random_range(0.0..1.0)).collect();
            let next = drawn.pop().expect("31");
            next < threshold(&drawn, 0.1).expect("enough")
        });
        let share = f64::from(u32::try_from(missed.count()).expect("few")) / 4000.0;
        assert!((share - 3.0 / 31.0).abs() < 0.015, "{share}");
    }
}
