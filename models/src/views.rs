//! Label-free views of a picture: what the same patient could have looked like on another day.
//!
//! A view is drawn on the fitted 8-bit picture and follows from (seed, picture's path, number)
//! alone, so any part of a collection can be made anywhere, in any order. No mathematics library
//! is called: the same view has the same bytes on every machine. View 0 is the picture itself.

use clearfilm::id::Digest;
use clearfilm::preprocess::Picture;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

/// Tangent of half of the largest turn: 10 degrees to either side, twice the standard deviation of
/// the demo student's views.
const HALF_TURN: f32 = 0.0875;

/// Largest zoom, in or out, over 1. These and the next ranges are about two standard deviations of
/// the demo student's views (`models/train/views.py`).
const ZOOM: f32 = 0.15;

/// Largest shift, share of the picture's height and width.
const SHIFT: f32 = 0.08;

/// Grey 0.5 becomes between this and 1 minus this: gamma 1.5 to 0.6.
const MIDDLE: f32 = 0.35;

/// Largest gain of contrast, or loss, over 1.
const CONTRAST: f32 = 0.3;

/// Largest change of brightness, share of the full range.
const BRIGHTNESS: f32 = 0.1;

/// Share of views that are blurred, and of those with noise.
const BLURRED: f32 = 0.3;
const NOISY: f32 = 0.5;

/// Largest weight of each neighbour in a blur: 1/4 is the binomial kernel.
const NEIGHBOUR: f32 = 0.25;

/// Largest standard deviation of noise, share of the full range.
const NOISE: f32 = 0.04;

/// What is done to a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    /// Tangent of half of the angle.
    half_turn: f32,
    zoom: f32,
    /// Down and to the right.
    shift: [f32; 2],
    flip: bool,
    middle: f32,
    contrast: f32,
    brightness: f32,
    neighbour: f32,
    noise: f32,
}

/// Draws one view of a fitted picture; with `flip` every other one is mirrored left to right.
#[must_use]
pub fn draw(picture: &Picture, [seed, view]: [u64; 2], image: &str, flip: bool) -> Picture {
    if view == 0 {
        return picture.clone();
    }
    let digest = Digest::of(format!("{seed}\n{view}\n{image}").as_bytes());
    let mut random = Pcg64::from_seed(*digest.as_bytes());
    let change = Change::draw(&mut random, flip);
    let mut values = moved(picture, &change);
    for value in &mut values {
        *value = change.exposed(*value);
    }
    if change.neighbour > 0.0 {
        values = blurred(&values, [picture.rows, picture.columns], change.neighbour);
    }
    if change.noise > 0.0 {
        for value in &mut values {
            *value += change.noise * normal(&mut random);
        }
    }
    let pixels = values.into_iter().map(grey).collect();
    Picture { rows: picture.rows, columns: picture.columns, pixels }
}

impl Change {
    /// Every number is drawn, used or not, so that none depends on another.
    fn draw(random: &mut Pcg64, flip: bool) -> Self {
        let mut within = |range: f32| random.random_range(-range..=range);
        let half_turn = within(HALF_TURN);
        let zoom = factor(within(ZOOM));
        let shift = [within(SHIFT), within(SHIFT)];
        let middle = 0.5 + within(0.5 - MIDDLE);
        let contrast = factor(within(CONTRAST));
        let brightness = within(BRIGHTNESS);
        let mut share = || random.random_range(0.0..1.0_f32);
        let (mirrored, blurred, noisy) = (share() < 0.5, share() < BLURRED, share() < NOISY);
        let (neighbour, noise) = (NEIGHBOUR * share(), NOISE * share());
        Self {
            half_turn,
            zoom,
            shift,
            flip: flip && mirrored,
            middle,
            contrast,
            brightness,
            neighbour: if blurred { neighbour } else { 0.0 },
            noise: if noisy { noise } else { 0.0 },
        }
    }

    /// Gamma, contrast and brightness of a grey in 0..=1.
    fn exposed(&self, grey: f32) -> f32 {
        // Schlick's form of gamma ("Fast alternatives to Perlin's bias and gain functions", 1994):
        // 0 and 1 stay, 1/2 becomes `middle`.
        let bent = grey / ((1.0 / self.middle - 2.0) * (1.0 - grey) + 1.0);
        0.5 + (bent - 0.5) * self.contrast + self.brightness
    }
}

/// As likely a factor as its reciprocal.
fn factor(by: f32) -> f32 {
    if by < 0.0 { 1.0 / (1.0 - by) } else { 1.0 + by }
}

/// Turned, zoomed, shifted and mirrored about the middle, bilinear; black comes in from outside.
/// Greys 0..=1.
fn moved(picture: &Picture, change: &Change) -> Vec<f32> {
    let (rows, columns) = (picture.rows, picture.columns);
    let t = change.half_turn;
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let (height, width) = (small(rows), small(columns));
    let (middle_y, middle_x) = ((height - 1.0) / 2.0, (width - 1.0) / 2.0);
    let mut values = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        let down = (small(row) - middle_y - change.shift[0] * height) / change.zoom;
        for column in 0..columns {
            let right = (small(column) - middle_x - change.shift[1] * width) / change.zoom;
            let right = if change.flip { -right } else { right };
            let y = middle_y + cos * down + sin * right;
            let x = middle_x - sin * down + cos * right;
            values.push(bilinear(picture, y, x) / 255.0);
        }
    }
    values
}

fn bilinear(picture: &Picture, y: f32, x: f32) -> f32 {
    let (top, left) = (y.floor(), x.floor());
    let (below, beside) = (y - top, x - left);
    let at = |y: f32, x: f32| {
        if y < 0.0 || x < 0.0 {
            return 0.0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and not below 0"
        )]
        let (row, column) = (y as usize, x as usize);
        if row < picture.rows && column < picture.columns {
            f32::from(picture.pixels[row * picture.columns + column])
        } else {
            0.0
        }
    };
    let upper = at(top, left) * (1.0 - beside) + at(top, left + 1.0) * beside;
    let lower = at(top + 1.0, left) * (1.0 - beside) + at(top + 1.0, left + 1.0) * beside;
    upper * (1.0 - below) + lower * below
}

/// Each value with its neighbours, along rows and then along columns; the border repeats.
fn blurred(values: &[f32], [rows, columns]: [usize; 2], neighbour: f32) -> Vec<f32> {
    let mix = |a: f32, b: f32, c: f32| neighbour * (a + c) + (1.0 - 2.0 * neighbour) * b;
    let mut across = Vec::with_capacity(values.len());
    for row in values.chunks_exact(columns) {
        for at in 0..columns {
            let (left, right) = (at.saturating_sub(1), (at + 1).min(columns - 1));
            across.push(mix(row[left], row[at], row[right]));
        }
    }
    let mut down = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (above, below) = (row.saturating_sub(1), (row + 1).min(rows - 1));
        for at in 0..columns {
            let value = |row: usize| across[row * columns + at];
            down.push(mix(value(above), value(row), value(below)));
        }
    }
    down
}

/// Nearly a standard normal number: four uniform ones of 16 bits, summed. Its tails end at 3.46.
fn normal(random: &mut Pcg64) -> f32 {
    let bits = random.next_u64();
    let sum: u16 = 4;
    let parts = [bits, bits >> 16, bits >> 32, bits >> 48].map(|part| {
        let [low, high, ..] = part.to_le_bytes();
        f32::from(u16::from_le_bytes([low, high])) / 65_535.0 - 0.5
    });
    // A uniform number of width 1 has variance 1/12.
    parts.iter().sum::<f32>() * (12.0 / f32::from(sum)).sqrt()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a byte"
)]
fn grey(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}

#[expect(clippy::cast_precision_loss, reason = "pictures have far fewer than 2^24 rows")]
fn small(number: usize) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use clearfilm::phantom::{Phantom, Projection, Variant};
    use clearfilm::preprocess;

    use super::*;

    fn phantom() -> Picture {
        let phantom = Phantom { seed: 7, projection: Projection::Pa, variant: Variant::Normal };
        let png = phantom.draw(120, 100).to_png().expect("drawn");
        let frame = clearfilm::decode::decode(
            &png,
            &clearfilm::config::Decode::default(),
            &clearfilm::config::DicomLimits::default(),
        );
        let picture = preprocess::render(&frame.expect("decoded"));
        preprocess::fit(&picture, clearfilm::bundle::Fit::Pad, [112, 112])
    }

    fn distance(a: &Picture, b: &Picture) -> f64 {
        let pairs = a.pixels.iter().zip(&b.pixels);
        let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / f64::from(u32::try_from(a.pixels.len()).expect("small"))
    }

    #[test]
    fn view_0_is_the_picture_itself() {
        let picture = phantom();
        assert_eq!(draw(&picture, [1, 0], "a.png", true), picture);
    }

    #[test]
    fn a_view_follows_from_seed_picture_and_number_alone() {
        let picture = phantom();
        let one = draw(&picture, [1, 5], "a.png", false);
        assert_eq!(draw(&picture, [1, 5], "a.png", false), one);
        for (numbers, image) in [([2, 5], "a.png"), ([1, 6], "a.png"), ([1, 5], "b.png")] {
            assert_ne!(draw(&picture, numbers, image, false), one);
        }
    }

    #[test]
    fn views_differ_from_the_picture_and_from_each_other_but_remain_the_same_chest() {
        let picture = phantom();
        let views: Vec<Picture> =
            (1..=128).map(|view| draw(&picture, [0, view], "a.png", false)).collect();
        let distances: Vec<f64> = views.iter().map(|view| distance(view, &picture)).collect();
        assert!(distances.iter().all(|d| (1.0..90.0).contains(d)), "{distances:?}");
        for (at, view) in views.iter().enumerate() {
            assert!(!views[..at].contains(view), "view {} twice", at + 1);
        }
    }

    #[test]
    fn a_change_of_nothing_changes_nothing() {
        let picture = phantom();
        let change = Change {
            half_turn: 0.0,
            zoom: 1.0,
            shift: [0.0; 2],
            flip: false,
            middle: 0.5,
            contrast: 1.0,
            brightness: 0.0,
            neighbour: 0.0,
            noise: 0.0,
        };
        let same: Vec<u8> =
            moved(&picture, &change).into_iter().map(|v| grey(change.exposed(v))).collect();
        assert_eq!(same, picture.pixels);
        let mirrored = moved(&picture, &Change { flip: true, ..change });
        let row: Vec<u8> = mirrored[..112].iter().rev().map(|v| grey(*v)).collect();
        assert_eq!(row, picture.pixels[..112]);
    }

    #[test]
    fn mirrored_views_come_only_where_they_are_asked_for() {
        let flips = |flip| {
            (0..64).filter(|seed| Change::draw(&mut Pcg64::seed_from_u64(*seed), flip).flip).count()
        };
        assert_eq!(flips(false), 0);
        assert!((16..48).contains(&flips(true)));
    }
}
