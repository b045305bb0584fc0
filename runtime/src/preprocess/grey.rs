//! Stored samples to grey as displayed: modality LUT, VOI LUT, inversion; 8 bits.
//!
//! The whole chain is a function of one stored value, so it is tabulated once per frame
//! (at most 2^16 entries) and looked up.

use super::Picture;
use crate::decode::{Frame, Grey, Window};

/// The frame as a display shows it.
#[must_use]
pub fn render(frame: &Frame) -> Picture {
    let (least, table) = table(&frame.grey);
    let last = table.len() - 1;
    let grey_of = |&sample: &i32| {
        let index = usize::try_from(i64::from(sample) - i64::from(least)).unwrap_or(0);
        table[index.min(last)]
    };
    Picture {
        rows: frame.rows,
        columns: frame.columns,
        pixels: frame.samples.iter().map(grey_of).collect(),
    }
}

/// The least stored value, and the grey of each from there on.
fn table(grey: &Grey) -> (i32, Vec<u8>) {
    let (least, greatest) = range(grey);
    let [low, high] = [least, greatest].map(|stored| rescaled(grey, stored));
    let grey_of = |stored| {
        let x = rescaled(grey, stored);
        let y = match grey.window {
            Some(window) => linear(x, window),
            None => full_range(x, low.min(high), low.max(high)),
        };
        // Inversion comes last: MONOCHROME1 shows the least value white (PS3.3 C.7.6.3.1.2).
        let y = rounded(y);
        if grey.inverted { u8::MAX - y } else { y }
    };
    (least, (least..=greatest).map(grey_of).collect())
}

/// Stored values that `bits_stored` bits can hold.
fn range(grey: &Grey) -> (i32, i32) {
    let bits = grey.bits_stored.clamp(1, 16);
    if grey.signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// PS3.3 C.11.1.1.2: output units = m * SV + b.
fn rescaled(grey: &Grey, stored: i32) -> f64 {
    grey.slope * f64::from(stored) + grey.intercept
}

/// PS3.3 C.11.2.1.2.1, LINEAR, with `y_min` = 0 and `y_max` = 255:
///
/// ```text
/// if (x <= c - 0.5 - (w-1)/2), then y = y_min
/// else if (x > c - 0.5 + (w-1)/2), then y = y_max
/// else y = ((x - (c - 0.5)) / (w-1) + 0.5) * (y_max - y_min) + y_min
/// ```
fn linear(x: f64, Window { center: c, width: w }: Window) -> f64 {
    if x <= c - 0.5 - (w - 1.0) / 2.0 {
        0.0
    } else if x > c - 0.5 + (w - 1.0) / 2.0 {
        255.0
    } else {
        ((x - (c - 0.5)) / (w - 1.0) + 0.5) * 255.0
    }
}

/// Without a window the full range of stored values is shown, not the range that occurs: a
/// picture's grey must not depend on its brightest marker.
fn full_range(x: f64, low: f64, high: f64) -> f64 {
    if high > low { (x - low) / (high - low) * 255.0 } else { 0.0 }
}

/// Half up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=255")]
fn rounded(y: f64) -> u8 {
    (y + 0.5).floor().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Facts;

    const PLAIN: Grey = Grey {
        bits_stored: 12,
        signed: false,
        inverted: false,
        slope: 1.0,
        intercept: 0.0,
        window: None,
    };

    fn check(grey: Grey, samples: &[i32], expected: &[u8]) {
        let frame = Frame {
            rows: 1,
            columns: samples.len(),
            samples: samples.to_vec(),
            grey,
            facts: Facts::default(),
        };
        assert_eq!(render(&frame).pixels, expected);
    }

    #[test]
    fn the_linear_window_is_that_of_the_standard() {
        // PS3.3 C.11.2.1.2.1's own examples: c=2048, w=4096 is x/4095 of the range; c=0, w=100 shows
        // -50 as least and 49 as greatest; w=1 is a threshold, x <= c - 0.5.
        let window = |center, width| Some(Window { center, width });
        check(Grey { window: window(2048.0, 4096.0), ..PLAIN }, &[0, 2048, 4095], &[0, 128, 255]);
        let hundred = Grey { window: window(0.0, 100.0), signed: true, ..PLAIN };
        check(hundred, &[-51, -50, -49, 0, 48, 49, 50], &[0, 0, 3, 129, 252, 255, 255]);
        check(Grey { window: window(2048.0, 1.0), ..PLAIN }, &[2047, 2048], &[0, 255]);
    }

    #[test]
    fn the_window_is_in_rescaled_units() {
        let window = Some(Window { center: 1047.5, width: 4095.0 });
        // 2047 is 1047 = c - 0.5: the middle, 127.5, is rounded up.
        check(Grey { intercept: -1000.0, window, ..PLAIN }, &[0, 2047, 4095], &[0, 128, 255]);
    }

    #[test]
    fn without_a_window_the_full_range_is_shown_not_that_which_occurs() {
        check(PLAIN, &[1000, 2000], &[62, 125]);
        check(Grey { signed: true, ..PLAIN }, &[-2048, 0, 2047], &[0, 128, 255]);
        check(Grey { bits_stored: 8, ..PLAIN }, &[0, 1, 128, 255], &[0, 1, 128, 255]);
        check(Grey { bits_stored: 16, ..PLAIN }, &[0, 65_535], &[0, 255]);
    }

    #[test]
    fn inversion_comes_last() {
        // 1 of 2 rounds up to 128 before it is inverted.
        check(Grey { inverted: true, bits_stored: 2, ..PLAIN }, &[0, 1, 3], &[255, 170, 0]);
        let window = Some(Window { center: 1.0, width: 3.0 });
        check(Grey { inverted: true, window, ..PLAIN }, &[0, 1, 2], &[191, 64, 0]);
    }

    #[test]
    fn a_falling_slope_turns_the_picture_over() {
        check(Grey { slope: -1.0, ..PLAIN }, &[0, 4095], &[255, 0]);
    }
}
