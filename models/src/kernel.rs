//! Dense arithmetic of the trainer, and the one door to the crates that do it.
//!
//! Everything here works on rows of fp32 in row-major order. What a function gives depends on its
//! arguments and on the vector width of the CPU, never on how many threads are at work.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Partial sums that a dot product keeps: four registers of the widest vectors (AVX-512), so that
/// additions do not wait for each other.
const LANES: usize = 64;

/// Runs work with the widest vectors that this CPU has.
///
/// The arithmetic inside must be reached by inlined calls: what is not inlined is compiled for the
/// oldest CPU of the architecture.
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// `a . b`; both as long.
#[inline(always)]
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + rest
}

/// `y += factor * x`; both as long.
#[inline(always)]
pub fn add(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x.mul_add(factor, *y);
    }
}

/// The Euclidean norm.
#[inline(always)]
#[must_use]
pub fn norm(x: &[f32]) -> f32 {
    dot(x, x).sqrt()
}

/// Rows of fp32 that may stand further apart than they are long.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The first row begins at the first value.
    pub values: &'a [f32],
    /// How many.
    pub count: usize,
    /// Values of a row.
    pub length: usize,
    /// From the beginning of a row to that of the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows without a gap.
    #[must_use]
    pub fn dense(values: &'a [f32], length: usize) -> Self {
        Self { values, count: values.len() / length, length, stride: length }
    }

    fn matrix(self) -> MatRef<'a, f32> {
        MatRef::from_row_major_slice_with_stride(self.values, self.count, self.length, self.stride)
    }
}

/// `out[i, j] = x[i] . w[j]` on one thread; `out` is `[x.count, w.count]`.
pub fn product(out: &mut [f32], x: Rows<'_>, w: Rows<'_>) {
    let out = MatMut::from_row_major_slice_mut(out, x.count, w.count);
    matmul(out, Accum::Replace, x.matrix(), w.matrix().transpose(), 1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32_768.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_product_is_the_dot_products_of_rows_with_gaps() {
        let (x, w) = (numbers(7 * 19, 1), numbers(5 * 24, 2));
        let mut out = vec![0.0; 7 * 5];
        let apart = Rows { values: &w, count: 5, length: 19, stride: 24 };
        product(&mut out, Rows::dense(&x, 19), apart);
        for i in 0..7 {
            for j in 0..5 {
                let expected = wide(|| dot(&x[i * 19..][..19], &w[j * 24..][..19]));
                assert!((out[i * 5 + j] - expected).abs() < 1e-5, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_dot_product_takes_every_value() {
        for length in [1, 63, 64, 65, 512, 700] {
            let (a, b) = (numbers(length, 3), numbers(length, 4));
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(wide(|| dot(&a, &b))) - exact).abs() < 1e-4, "{length}");
        }
    }
}
