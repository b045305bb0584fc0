//! The instructions for vectors of bf16: everything that only the CPU's own functions do.
#![expect(unsafe_code, reason = "vectors of bf16 are only reached by the CPU's own instructions")]

use std::arch::x86_64::{
    __m256bh, __m512, __m512bh, __m512i, _CMP_GT_OQ, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi32,
    _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtne2ps_pbh, _mm512_cvtpbh_ps, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_compress_epi32, _mm512_maskz_compress_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_storeu_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};
use std::mem::transmute;

/// Values of a vector.
pub(super) const LANES: usize = 16;

/// The same between two latents' indices.
const STEP: u32 = 16;

/// Latents of a panel: two vectors.
pub(super) const PANEL: usize = 2 * LANES;

/// Samples of a tile. 24 of the 32 registers then hold sums; of 8, 12 and 14 the fastest on Zen 4.
pub(super) const ROWS: usize = 12;

/// One vector in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; LANES]);

/// Does this CPU have what is needed?
#[must_use]
pub fn runs_here() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Asks for values before they are needed.
#[inline]
pub fn fetch(values: &[f32]) {
    for line in values.chunks(LANES) {
        // SAFETY: to ask changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Products of a panel of samples with one of latents.
pub(super) type Sums = [[__m512; 2]; ROWS];

/// What a panel's latents add to their products: bias, `||w||`, `||dw||`.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    bias: [__m512; 2],
    long: [__m512; 2],
    off: [__m512; 2],
}

impl Bounds {
    /// Of [`PANEL`] latents each.
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(bias: &[f32; PANEL], long: &[f32; PANEL], off: &[f32; PANEL]) -> Self {
        Self { bias: two(bias), long: two(long), off: two(off) }
    }

    /// Writes who may be above the floor on a sample, and the most that each may come to; gives
    /// how many. Behind them the room may hold anything.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    pub(super) fn above(
        &self,
        sums: &[__m512; 2],
        (x_long, x_off, floor): (f32, f32, f32),
        first: u32,
        (values, latents): (&mut [f32; PANEL], &mut [u32; PANEL]),
    ) -> usize {
        let (x_long, x_off) = (_mm512_set1_ps(x_long), _mm512_set1_ps(x_off));
        let floor = _mm512_set1_ps(floor);
        let most = |half: usize| {
            let bound = _mm512_fmadd_ps(x_long, self.off[half], self.bias[half]);
            _mm512_add_ps(sums[half], _mm512_fmadd_ps(x_off, self.long[half], bound))
        };
        let most = [most(0), most(1)];
        let above = most.map(|most| _mm512_cmp_ps_mask::<_CMP_GT_OQ>(most, floor));
        if above[0] | above[1] == 0 {
            return 0;
        }
        let halves = [lanes(first), lanes(first + STEP)];
        let mut count = 0;
        for half in 0..2 {
            let value = _mm512_maskz_compress_ps(above[half], most[half]);
            let latent = _mm512_maskz_compress_epi32(above[half], halves[half]);
            // SAFETY: the first half is at most as long as a vector, so the second one fits behind
            // it. To compress into memory would be slow.
            unsafe {
                _mm512_storeu_ps(values.as_mut_ptr().add(count), value);
                _mm512_storeu_epi32(latents.as_mut_ptr().add(count).cast(), latent);
            }
            count += above[half].count_ones() as usize;
        }
        count
    }
}

#[target_feature(enable = "avx512f")]
fn two(of: &[f32; PANEL]) -> [__m512; 2] {
    // SAFETY: there are two vectors.
    unsafe { [_mm512_loadu_ps(of.as_ptr()), _mm512_loadu_ps(of.as_ptr().add(LANES))] }
}

#[target_feature(enable = "avx512f")]
fn lanes(first: u32) -> __m512i {
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_add_epi32(lanes, _mm512_set1_epi32(first.cast_signed()))
}

/// The products of a panel of samples with a panel of latents.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
pub(super) fn tile(samples: &[u32], lines: &[Line]) -> Sums {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (rows, lines) in samples.as_chunks::<ROWS>().0.iter().zip(lines.as_chunks::<2>().0) {
        // SAFETY: 64 bytes of any kind are a vector of bf16.
        let w: [__m512bh; 2] = unsafe { transmute(*lines) };
        for (sums, pair) in sums.iter_mut().zip(rows) {
            // SAFETY: as above.
            let x: __m512bh = unsafe { transmute(_mm512_set1_epi32(pair.cast_signed())) };
            sums[0] = _mm512_dpbf16_ps(sums[0], x, w[0]);
            sums[1] = _mm512_dpbf16_ps(sums[1], x, w[1]);
        }
    }
    sums
}

/// One row as pairs of bf16; gives the length of what they hold, and of what they lost.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn pack(row: &[f32], packed: &mut [u32]) -> (f32, f32) {
    let (mut long, mut off) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for (values, packed) in row.chunks(PANEL).zip(packed.as_chunks_mut::<LANES>().0) {
        let mut whole = [0.0; PANEL];
        whole[..values.len()].copy_from_slice(values);
        let halves = two(&whole);
        let pairs = _mm512_cvtne2ps_pbh(halves[1], halves[0]);
        // SAFETY: a vector is 16 pairs.
        *packed = unsafe { transmute::<__m512bh, [u32; LANES]>(pairs) };
        // SAFETY: a vector is two of half the width.
        let held = unsafe { transmute::<__m512bh, [__m256bh; 2]>(pairs) };
        let lost = [0, 1].map(|half| _mm512_sub_ps(halves[half], _mm512_cvtpbh_ps(held[half])));
        for half in 0..2 {
            long = _mm512_fmadd_ps(halves[half], halves[half], long);
            off = _mm512_fmadd_ps(lost[half], lost[half], off);
        }
    }
    let root = |squares: __m512| {
        // SAFETY: a vector is 16 values.
        let squares: [f32; LANES] = unsafe { transmute(squares) };
        squares.iter().sum::<f32>().sqrt()
    };
    (root(long), root(off))
}
