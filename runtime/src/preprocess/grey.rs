//! Stored samples to grey as displayed: modality LUT, VOI LUT, inversion; 8 bits.
//!
//! The whole chain is a function of one stored value, so it is tabulated once per frame
//! (at most 2^16 entries) and looked up.

use super::Picture;
use crate::decode::{Frame, Function, Grey, Lut, Modality, Voi, Window};

/// The frame as a display shows it.
#[must_use]
pub fn render(frame: &Frame) -> Picture {
    let (least, table) = table(&frame.grey);
    let last = table.len() - 1;
    let grey_of = |sample: i32| {
        let index = usize::try_from(sample - least).unwrap_or(0);
        table[index.min(last)]
    };
    Picture {
        rows: frame.rows,
        columns: frame.columns,
        pixels: frame.samples().map(grey_of).collect(),
    }
}

/// The least stored value, and the grey of each from there on.
fn table(grey: &Grey) -> (i32, Vec<u8>) {
    let (least, greatest) = range(grey);
    let (low, high) = full_range(&grey.modality, least, greatest);
    let grey_of = |stored| {
        let x = modality(&grey.modality, stored);
        let y = match &grey.voi {
            Voi::FullRange => between(x, low, high),
            Voi::Window(window) => windowed(x, *window),
            Voi::Lut(lut) => f64::from(entry(lut, x)) / greatest_entry(lut),
        };
        // Inversion comes last: MONOCHROME1 shows the least value white (PS3.3 C.7.6.3.1.2).
        let y = rounded(y * 255.0);
        if grey.inverted { u8::MAX - y } else { y }
    };
    (least, (least..=greatest).map(grey_of).collect())
}

/// Stored values that `bits_stored` bits can hold.
fn range(grey: &Grey) -> (i32, i32) {
    let bits = grey.bits_stored.clamp(1, 16);
    if grey.signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// A stored value in the modality's units. PS3.3 C.11.1.1.2: output units = m * SV + b; or the
/// table of PS3.3 C.11.1.1.
fn modality(modality: &Modality, stored: i32) -> f64 {
    match modality {
        Modality::Rescale { slope, intercept } => slope * f64::from(stored) + intercept,
        Modality::Lut(lut) => f64::from(entry(lut, f64::from(stored))),
    }
}

/// What the modality's units can hold: the stored values' range rescaled, or the table's bits.
fn full_range(of: &Modality, least: i32, greatest: i32) -> (f64, f64) {
    match of {
        Modality::Rescale { .. } => {
            let (a, b) = (modality(of, least), modality(of, greatest));
            (a.min(b), a.max(b))
        }
        Modality::Lut(lut) => (0.0, greatest_entry(lut)),
    }
}

/// PS3.3 C.11.1.1 and C.11.2.1.1: inputs below the first mapped value get the first entry, those
/// beyond the last the last. Tables answer whole numbers, so a rescaled input is rounded.
fn entry(lut: &Lut, x: f64) -> u16 {
    let last = lut.entries.len().saturating_sub(1);
    let at = (x.round() - f64::from(lut.first)).max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; casts saturate"
    )]
    let at = at as usize;
    lut.entries.get(at.min(last)).copied().unwrap_or(0)
}

/// An entry of n bits lies between 0 and 2^n - 1 (PS3.3 C.11.1.1, third value of the descriptor).
fn greatest_entry(lut: &Lut) -> f64 {
    f64::from((1_u32 << lut.bits) - 1)
}

/// The windows of PS3.3 C.11.2.1.2 and C.11.2.1.3, with `y_min` = 0 and `y_max` = 1.
fn windowed(x: f64, Window { center: c, width: w, function }: Window) -> f64 {
    match function {
        // C.11.2.1.2.1:
        //   if (x <= c - 0.5 - (w-1)/2), then y = y_min
        //   else if (x > c - 0.5 + (w-1)/2), then y = y_max
        //   else y = ((x - (c - 0.5)) / (w-1) + 0.5) * (y_max - y_min) + y_min
        Function::Linear => ramp(x, c - 0.5, w - 1.0),
        // C.11.2.1.3.2: the same with c and w themselves.
        Function::LinearExact => ramp(x, c, w),
        // C.11.2.1.3.1: y = (y_max - y_min) / (1 + exp(-4 * (x - c) / w)) + y_min
        Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (x - c) / w).exp()),
    }
}

/// 0 up to and including `c - w/2`, 1 above `c + w/2`, straight in between; `w` may be 0.
fn ramp(x: f64, c: f64, w: f64) -> f64 {
    if x <= c - w / 2.0 {
        0.0
    } else if x > c + w / 2.0 {
        1.0
    } else {
        (x - c) / w + 0.5
    }
}

/// Without a window the full range of values is shown, not the range that occurs: a picture's grey
/// must not depend on its brightest marker.
fn between(x: f64, low: f64, high: f64) -> f64 {
    if high > low { (x - low) / (high - low) } else { 0.0 }
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

    /// 12 bits, unsigned.
    fn plain() -> Grey {
        Grey::plain(12)
    }

    fn rescale(slope: f64, intercept: f64) -> Modality {
        Modality::Rescale { slope, intercept }
    }

    fn window(center: f64, width: f64) -> Voi {
        Voi::Window(Window { center, width, function: Function::Linear })
    }

    fn check(grey: Grey, samples: &[i32], expected: &[u8]) {
        let frame = Frame {
            rows: 1,
            columns: samples.len(),
            words: samples.iter().map(|s| (s & 0xffff).try_into().expect("16 bits")).collect(),
            grey,
            facts: Facts::default(),
        };
        assert_eq!(render(&frame).pixels, expected);
    }

    #[test]
    fn the_linear_window_is_that_of_the_standard() {
        // PS3.3 C.11.2.1.2.1's own examples: c=2048, w=4096 is x/4095 of the range; c=0, w=100 shows
        // -50 as least and 49 as greatest; w=1 is a threshold, x <= c - 0.5.
        check(Grey { voi: window(2048.0, 4096.0), ..plain() }, &[0, 2048, 4095], &[0, 128, 255]);
        let hundred = Grey { voi: window(0.0, 100.0), signed: true, ..plain() };
        check(hundred, &[-51, -50, -49, 0, 48, 49, 50], &[0, 0, 3, 129, 252, 255, 255]);
        check(Grey { voi: window(2048.0, 1.0), ..plain() }, &[2047, 2048], &[0, 255]);
    }

    #[test]
    fn the_window_is_in_rescaled_units() {
        let voi = window(1047.5, 4095.0);
        // 2047 is 1047 = c - 0.5: the middle, 127.5, is rounded up.
        check(
            Grey { modality: rescale(1.0, -1000.0), voi, ..plain() },
            &[0, 2047, 4095],
            &[0, 128, 255],
        );
    }

    #[test]
    fn without_a_window_the_full_range_is_shown_not_that_which_occurs() {
        check(plain(), &[1000, 2000], &[62, 125]);
        check(Grey { signed: true, ..plain() }, &[-2048, 0, 2047], &[0, 128, 255]);
        check(Grey { bits_stored: 8, ..plain() }, &[0, 1, 128, 255], &[0, 1, 128, 255]);
        check(Grey { bits_stored: 16, ..plain() }, &[0, 65_535], &[0, 255]);
    }

    #[test]
    fn inversion_comes_last() {
        // 1 of 2 rounds up to 128 before it is inverted.
        check(Grey { inverted: true, bits_stored: 2, ..plain() }, &[0, 1, 3], &[255, 170, 0]);
        check(Grey { inverted: true, voi: window(1.0, 3.0), ..plain() }, &[0, 1, 2], &[191, 64, 0]);
    }

    #[test]
    fn a_falling_slope_turns_the_picture_over() {
        check(Grey { modality: rescale(-1.0, 0.0), ..plain() }, &[0, 4095], &[255, 0]);
    }

    #[test]
    fn the_exact_and_the_sigmoid_window_are_those_of_the_standard() {
        let of = |function| Voi::Window(Window { center: 100.0, width: 50.0, function });
        // C.11.2.1.3.2 by hand: 75 is the least, 125 the greatest, (90 - 100) / 50 + 0.5 = 0.3.
        let exact = Grey { voi: of(Function::LinearExact), ..plain() };
        check(exact, &[74, 75, 90, 100, 125, 126], &[0, 0, 77, 128, 255, 255]);
        // C.11.2.1.3.1 by hand: 1 / (1 + e^-4(x - 100)/50): 0.5 at the centre, 0.8808 at 125.
        let sigmoid = Grey { voi: of(Function::Sigmoid), ..plain() };
        check(sigmoid, &[0, 75, 100, 125, 4095], &[0, 30, 128, 225, 255]);
    }

    #[test]
    fn tables_answer_inputs_outside_with_their_ends_and_span_their_bits() {
        let lut = |first, bits| Lut { first, bits, entries: vec![10, 300, 1023] };
        // VOI: 1023 of 10 bits is white; 300 / 1023 * 255 = 74.8.
        let voi = Grey { voi: Voi::Lut(lut(5, 10)), ..plain() };
        check(voi, &[0, 5, 6, 7, 4095], &[2, 2, 75, 255, 255]);
        // Inputs may be negative.
        let signed = Grey { voi: Voi::Lut(lut(-1, 10)), signed: true, ..plain() };
        check(signed, &[-2048, -1, 0, 1], &[2, 2, 75, 255]);
        // Modality: its output, not the stored values, is what a window and the full range are of.
        let modality = Grey { modality: Modality::Lut(lut(0, 10)), ..plain() };
        check(modality.clone(), &[0, 1, 2, 9], &[2, 75, 255, 255]);
        check(Grey { voi: window(300.5, 1.0), ..modality }, &[0, 1, 2], &[0, 0, 255]);
    }
}
