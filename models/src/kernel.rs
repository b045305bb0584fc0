//! Dense arithmetic of the trainer, and its one door to the crates that do it. (The evaluation's
//! regressions and components are a few lines of faer's own matrices, where they stand.)
//!
//! Everything here works on rows of fp32 in row-major order. Functions on rows are compiled once
//! for each width of vectors and give the same bits on all of them; a matrix product's bits depend
//! on the CPU. Nothing depends on how many threads are at work.

#[cfg_attr(not(target_arch = "x86_64"), path = "kernel/elsewhere.rs")]
pub mod bf16;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

/// The arithmetic that finds who may fire; what fires with which value is fp32 in both.
///
/// Both select alike, but the products' last bits differ, and so do those of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// A product in fp32, on every CPU.
    Fp32,
    /// A scan in bf16 (see [`bf16`]), where the kind of dictionary has a `k`.
    Bf16,
}

impl Kernel {
    /// The fastest one that this CPU has.
    #[must_use]
    pub fn fastest() -> Self {
        if bf16::runs_here() { Self::Bf16 } else { Self::Fp32 }
    }

    /// Does this CPU have it?
    #[must_use]
    pub fn runs_here(self) -> bool {
        self == Self::Fp32 || bf16::runs_here()
    }
}

/// What may reach its floor on one sample.
#[derive(Debug)]
pub enum Reached<'a> {
    /// These, by no order.
    Some(&'a [u32]),
    /// Too many to be told apart in bf16: any of them.
    Any,
}

/// How a floor comes about.
#[derive(Debug, Clone, Copy)]
pub enum Floor {
    /// What the `k` highest of a sample have in common, and 0.
    Highest(usize),
    /// The same for all samples; as many places are kept free for a sample's latents.
    Fixed(f32, usize),
}

/// Partial sums that a dot product keeps: four registers of the widest vectors (AVX-512), so that
/// additions do not wait for each other.
const LANES: usize = 64;

/// `a . b`; both as long.
#[must_use]
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
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
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub fn add(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x.mul_add(factor, *y);
    }
}

/// Rows that are asked for before they are needed.
pub const AHEAD: usize = 2;

/// A row, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Which of some rows.
    pub row: u32,
    /// Times so much.
    pub factor: f32,
}

/// Values of a sum that are held in registers while rows go by: 16 of the widest vectors.
const HELD: usize = 256;

/// `y += factor * row` for every term, each value in their order; `y` as long as a row.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub fn add_rows(y: &mut [f32], rows: Rows<'_>, terms: &[Term]) {
    let mut first = 0;
    let (blocks, rest) = y.as_chunks_mut::<HELD>();
    for block in blocks {
        let mut held = *block;
        for (at, term) in terms.iter().enumerate() {
            if let Some(next) = terms.get(at + AHEAD) {
                bf16::fetch(&rows.values[next.row as usize * rows.stride + first..][..HELD]);
            }
            let row = &rows.values[term.row as usize * rows.stride + first..][..HELD];
            for (held, x) in held.iter_mut().zip(row) {
                *held = x.mul_add(term.factor, *held);
            }
        }
        *block = held;
        first += HELD;
    }
    for Term { row, factor } in terms {
        let row = &rows.values[*row as usize * rows.stride + first..][..rest.len()];
        for (y, x) in rest.iter_mut().zip(row) {
            *y = x.mul_add(*factor, *y);
        }
    }
}

/// Does `z + bias` stand above the floor anywhere?
#[must_use]
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub fn any_above(z: &[f32], bias: &[f32], floor: f32) -> bool {
    z.iter().zip(bias).fold(0_u32, |any, (z, bias)| any | u32::from(z + bias > floor)) != 0
}

/// What a step of Adam multiplies by.
#[derive(Debug, Clone, Copy)]
pub struct Factors {
    /// Of the gradient: 1, or less where it is clipped.
    pub clip: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Rate over the first moment's bias.
    pub rate: f32,
    /// One over the root of the second moment's bias.
    pub unroot: f32,
    /// Added to the root.
    pub epsilon: f32,
}

/// One step of Adam (Kingma and Ba 2015, algorithm 1); all as long.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub fn adam(
    weights: &mut [f32],
    mean: &mut [f32],
    square: &mut [f32],
    gradient: &[f32],
    factors: Factors,
) {
    let Factors { clip, beta1, beta2, rate, unroot, epsilon } = factors;
    let moments = mean.iter_mut().zip(square.iter_mut());
    for ((w, (m, v)), g) in weights.iter_mut().zip(moments).zip(gradient) {
        let g = g * clip;
        *m = beta1.mul_add(*m, (1.0 - beta1) * g);
        *v = beta2.mul_add(*v, (1.0 - beta2) * g * g);
        *w -= rate * *m / (v.sqrt().mul_add(unroot, epsilon));
    }
}

/// The Euclidean norm.
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
    multiply(
        MatMut::from_row_major_slice_mut(out, x.count, w.count),
        x.matrix(),
        w.matrix().transpose(),
    );
}

/// `out[i] = sum_j x[i, j] w[j]` on one thread; `out` is `[x.count, w.length]`.
pub fn product_of_rows(out: &mut [f32], x: Rows<'_>, w: Rows<'_>) {
    multiply(MatMut::from_row_major_slice_mut(out, x.count, w.length), x.matrix(), w.matrix());
}

/// `out[j] = sum_i x[i, first + j] y[i]` on one thread; `out` is `[x.length, y.length]`.
pub fn product_of_columns(out: &mut [f32], x: Rows<'_>, first: usize, y: Rows<'_>) {
    let x = Rows { values: &x.values[first..], ..x };
    multiply(
        MatMut::from_row_major_slice_mut(out, x.length, y.length),
        x.matrix().transpose(),
        y.matrix(),
    );
}

fn multiply(out: MatMut<'_, f32>, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(out, Accum::Replace, a, b, 1.0, Par::Seq);
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
                let expected = dot(&x[i * 19..][..19], &w[j * 24..][..19]);
                assert!((out[i * 5 + j] - expected).abs() < 1e-5, "{i} {j}");
            }
        }
    }

    #[test]
    fn products_of_rows_and_columns_are_sums_of_rows() {
        let (x, y) = (numbers(7 * 5, 5), numbers(7 * 9, 6));
        let mut out = vec![0.0; 3 * 9];
        product_of_columns(
            &mut out,
            Rows { length: 3, ..Rows::dense(&x, 5) },
            2,
            Rows::dense(&y, 9),
        );
        let mut again = vec![0.0; 3 * 9];
        let turned: Vec<f32> = (0..3)
            .flat_map(|j| (0..7).map(move |i| (i, j)))
            .map(|(i, j)| x[i * 5 + 2 + j])
            .collect();
        product_of_rows(&mut again, Rows::dense(&turned, 7), Rows::dense(&y, 9));
        for j in 0..3 {
            let mut sum = vec![0.0; 9];
            let terms: Vec<Term> =
                (0..7).map(|i| Term { row: i, factor: turned[j * 7 + i as usize] }).collect();
            add_rows(&mut sum, Rows::dense(&y, 9), &terms);
            for (at, sum) in sum.iter().enumerate() {
                assert!((out[j * 9 + at] - sum).abs() < 1e-5, "{j} {at}");
                assert!((again[j * 9 + at] - sum).abs() < 1e-5, "{j} {at}");
            }
        }
    }

    #[test]
    fn a_dot_product_takes_every_value() {
        for length in [1, 63, 64, 65, 512, 700] {
            let (a, b) = (numbers(length, 3), numbers(length, 4));
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-4, "{length}");
        }
    }
}
