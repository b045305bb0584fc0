//! Arithmetic whose bits do not depend on the machine: only operations that IEEE 754 fixes, never
//! the platform's mathematics library.

use rand::Rng;
use rand_pcg::Pcg64;

/// What a stream of numbers is for; what is drawn with one does not shift another, so that the
/// variants of one seed share their anatomy, vessels and noise.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    /// Body, lungs, bones.
    Anatomy = 1,
    /// Vessels of the lungs.
    Vessels = 2,
    /// What the variant adds.
    Finding = 3,
    /// Lung texture and slow gradients.
    Texture = 4,
    /// Quantum noise.
    Noise = 5,
}

/// A seeded source of numbers.
#[derive(Debug)]
pub(super) struct Source(Pcg64);

impl Source {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        // Neighbouring states of this generator start alike, so the seed is mixed first.
        let state = u128::from(mixed(seed)) << 64 | u128::from(mixed(!seed));
        Self(Pcg64::new(state, stream as u128))
    }

    /// Uniform in 0 ..1, in steps of 2^-24.
    pub(super) fn unit(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / 16_777_216.0
    }

    /// Uniform in `low..high`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True in a `share` of the calls.
    pub(super) fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// About normal with mean 0 and variance 1: the sum of four uniform 16-bit numbers, whose
    /// variance is 4 / 12.
    pub(super) fn normal(&mut self) -> f32 {
        let bits = self.0.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        (sum as f32 / 65_535.0 - 2.0) * 1.732_050_8
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): one bit of the seed changes half of the bits.
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A place in the patient's frontal plane, mm: `x` grows towards the patient's left (the right of
/// the picture) from the midline, `y` downwards from the apex of the lungs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
}

/// Shorthand for a [`Point`].
pub(super) fn at(x: f32, y: f32) -> Point {
    Point { x, y }
}

/// e^x, relative error below 1e-5; arguments are held within +-80.
pub(super) fn exp(x: f32) -> f32 {
    let power = x.clamp(-80.0, 80.0) * std::f32::consts::LOG2_E;
    let whole = power.floor();
    // 2^f = e^(f ln 2) on 0..1, Taylor to the sixth power.
    let f = (power - whole) * std::f32::consts::LN_2;
    let series = 1.0
        + f * (1.0
            + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole is within +-116, so the biased exponent is within 11..=243"
    )]
    let exponent = (whole as i32 + 127) as u32;
    series * f32::from_bits(exponent << 23)
}

/// Sine and cosine of an angle in degrees, error below 1e-4 within +-180.
pub(super) fn sin_cos(degrees: f32) -> (f32, f32) {
    // Half the angle by Taylor, then the double-angle formulas: the series stays short.
    let h = degrees.to_radians() / 2.0;
    let q = h * h;
    let sin = h * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0))));
    let cos = 1.0 - q / 2.0 * (1.0 - q / 12.0 * (1.0 - q / 30.0 * (1.0 - q / 56.0)));
    (2.0 * sin * cos, cos * cos - sin * sin)
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn step(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// How thick a round body is at `depth` inside its edge, as a share: 0 at the edge, 1 from
/// `radius` on, along a quarter of a circle.
pub(super) fn rounded(depth: f32, radius: f32) -> f32 {
    let t = 1.0 - (depth / radius).clamp(0.0, 1.0);
    (1.0 - t * t).sqrt()
}

/// A curve given at every mm of `first_mm..`, linear between and constant outside.
#[derive(Debug)]
pub(super) struct Curve {
    first_mm: f32,
    values: Vec<f32>,
}

impl Curve {
    /// Through knots (position, value) by rising position, smoothed over about `smooth_mm`.
    pub(super) fn through(knots: &[(f32, f32)], smooth_mm: usize) -> Self {
        let first_mm = knots[0].0;
        let length = index(knots[knots.len() - 1].0 - first_mm) + 1;
        let mut values: Vec<f32> =
            (0..length).map(|i| linear(knots, first_mm + i as f32)).collect();
        for _ in 0..2 {
            values = smoothed(&values, smooth_mm);
        }
        Self { first_mm, values }
    }

    /// Changes every value by its position, mm.
    pub(super) fn change(&mut self, to: impl Fn(f32, f32) -> f32) {
        for (i, value) in self.values.iter_mut().enumerate() {
            *value = to(self.first_mm + i as f32, *value);
        }
    }

    /// The value at a position, mm.
    pub(super) fn at(&self, position: f32) -> f32 {
        let place = (position - self.first_mm).clamp(0.0, (self.values.len() - 1) as f32);
        let i = index(place);
        let next = self.values[(i + 1).min(self.values.len() - 1)];
        self.values[i] + (next - self.values[i]) * (place - i as f32)
    }

    /// The largest value.
    pub(super) fn max(&self) -> f32 {
        self.values.iter().copied().fold(f32::MIN, f32::max)
    }
}

fn linear(knots: &[(f32, f32)], position: f32) -> f32 {
    let after = knots.iter().position(|knot| knot.0 >= position).unwrap_or(knots.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (knots[after - 1], knots[after]);
    y0 + (y1 - y0) * ((position - x0) / (x1 - x0)).clamp(0.0, 1.0)
}

/// Mean over +-`reach` neighbours.
fn smoothed(values: &[f32], reach: usize) -> Vec<f32> {
    (0..values.len())
        .map(|i| {
            let window = &values[i.saturating_sub(reach)..(i + reach + 1).min(values.len())];
            window.iter().sum::<f32>() / window.len() as f32
        })
        .collect()
}

/// A coordinate that is known not to be negative, as an index.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates: negative and NaN become 0, and pictures are far below 2^24 pixels wide"
)]
pub(super) fn index(x: f32) -> usize {
    x as usize
}

/// Smooth noise: random values on a square lattice, blended between; mean 0, within +-1.
#[derive(Debug)]
pub(super) struct Lattice {
    cell_mm: f32,
    side: usize,
    values: Vec<f32>,
}

/// Half the side of the square that lattices cover, mm: more than the largest field's diagonal.
const LATTICE_REACH_MM: f32 = 360.0;

impl Lattice {
    pub(super) fn new(source: &mut Source, cell_mm: f32) -> Self {
        let side = index(2.0 * LATTICE_REACH_MM / cell_mm) + 2;
        let values = (0..side * side).map(|_| source.between(-1.0, 1.0)).collect();
        Self { cell_mm, side, values }
    }

    pub(super) fn at(&self, p: Point) -> f32 {
        let place =
            |x: f32| ((x + LATTICE_REACH_MM) / self.cell_mm).clamp(0.0, (self.side - 2) as f32);
        let (x, y) = (place(p.x), place(p.y - 120.0));
        let (i, j) = (index(x).min(self.side - 2), index(y).min(self.side - 2));
        let (fx, fy) = (step(0.0, 1.0, x - i as f32), step(0.0, 1.0, y - j as f32));
        let row = &self.values[j * self.side + i..];
        let above = row[0] + (row[1] - row[0]) * fx;
        let below = row[self.side] + (row[self.side + 1] - row[self.side]) * fx;
        above + (below - above) * fy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_angles_agree_with_the_platform() {
        for i in -200..=200_i16 {
            let x = f32::from(i) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-4, "exp {x}");
            let degrees = f32::from(i) * 0.9;
            let (sin, cos) = sin_cos(degrees);
            let (s, c) = degrees.to_radians().sin_cos();
            assert!((sin - s).abs() < 2e-4 && (cos - c).abs() < 2e-4, "{degrees}");
        }
    }
}
