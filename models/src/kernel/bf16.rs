//! Who may fire, found in bf16: the encoder's product and its comparison with a floor in one pass,
//! so that `[batch, latents]` is never written.
//!
//! Nothing here decides. Beside each product stands a bound of how far it may be from the one in
//! fp32, and every latent that may reach the floor is handed on, to be computed in fp32. With
//! `x = x^ + dx` and `w = w^ + dw`, where `^` is what bf16 holds, Cauchy and Schwarz give
//! `|x . w - x^ . w^| <= ||x|| ||dw|| + ||dx|| ||w^||`, and all four norms are known.
#![expect(unsafe_code, reason = "to call what only some CPUs can, after it was asked for")]

mod instructions;

use rayon::prelude::*;

use super::{Floor, Reached, Rows};
use instructions::{Bounds, LANES, Line, PANEL, ROWS, pack, tile};
pub use instructions::{fetch, runs_here};

/// Panels that are gone through together: 256 KiB at 512 values, a quarter of the second level of
/// cache, beside as much for the samples.
const BLOCK: usize = 8;

/// Norms are taken in fp32, and of `w` where the bound has `w^`, which is at most 2^-8 longer; what
/// they may be too small by is below this share.
const SAFE: f32 = 1.005;

/// What squares that leave the range of fp32 may hide of a length.
const HIDDEN: f32 = 1e-18;

/// Lengths up to which no product can leave the range of fp32.
const LONGEST: f32 = 1e15;

/// What is below the range of normal numbers counts as 0 in the CPU's bf16 arithmetic; far more
/// than all of that, and nothing beside any other number.
const TINY: f32 = 1e-30;

/// An encoder in bf16, in panels of [`PANEL`] latents: `[panel, pair of values, latent]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panels {
    d: usize,
    lines: Vec<Line>,
    /// Of each latent, in whole panels; below everything where there is no latent.
    bias: Vec<f32>,
    /// `||w||` of each.
    long: Vec<f32>,
    /// `||dw||` of each.
    off: Vec<f32>,
}

/// Samples in bf16, in panels of [`ROWS`]: `[panel, pair of values, sample]`.
#[derive(Debug, Default)]
struct Samples {
    pairs: Vec<u32>,
    /// `||x^||` of each.
    long: Vec<f32>,
    /// `||dx||` of each, and what sums in fp32 lose.
    off: Vec<f32>,
}

/// The state of one task's scan; kept by its thread, so that it is not asked for anew.
#[derive(Debug, Default)]
pub struct Scan {
    samples: Samples,
    /// Of each sample: how many are kept.
    counts: Vec<usize>,
    /// Of each sample.
    floors: Vec<f32>,
    /// `[sample, room]`: highest that the value may be.
    values: Vec<f32>,
    /// `[sample, room]`: whose.
    latents: Vec<u32>,
    /// Room of one sample.
    room: usize,
    lower: Vec<f32>,
}

impl Panels {
    /// Packs encoder rows, in the place of those before; false where the CPU cannot scan them, or
    /// numbers are too large to be bounded.
    #[must_use]
    pub fn pack(&mut self, rows: Rows<'_>, bias: &[f32]) -> bool {
        if !runs_here() {
            return false;
        }
        let (padded, pairs) = (rows.count.next_multiple_of(PANEL), rows.length.div_ceil(2));
        self.d = rows.length;
        self.lines.resize(padded * pairs / LANES, Line([0; LANES]));
        for (of, nobody) in
            [(&mut self.bias, f32::NEG_INFINITY), (&mut self.long, 0.0), (&mut self.off, 0.0)]
        {
            of.clear();
            of.resize(padded, nobody);
        }
        self.lines
            .par_chunks_mut(pairs * 2)
            .zip(self.bias.par_chunks_mut(PANEL))
            .zip(self.long.par_chunks_mut(PANEL).zip(self.off.par_chunks_mut(PANEL)))
            .zip(bias.par_chunks(PANEL))
            .enumerate()
            .for_each(|(panel, (((lines, to_bias), (long, off)), bias))| {
                let mut packed = vec![0; pairs.next_multiple_of(LANES)];
                for (at, bias) in bias.iter().enumerate() {
                    let row = &rows.values[(panel * PANEL + at) * rows.stride..][..rows.length];
                    // SAFETY: the CPU has the instructions.
                    let lengths = unsafe { pack(row, &mut packed) };
                    for (two, pair) in lines.as_chunks_mut::<2>().0.iter_mut().zip(&packed) {
                        two[at / LANES].0[at % LANES] = *pair;
                    }
                    to_bias[at] = bias + TINY;
                    (long[at], off[at]) = (SAFE * lengths.0 + HIDDEN, SAFE * lengths.1 + HIDDEN);
                }
            });
        self.long.iter().all(|long| *long < LONGEST)
    }

    /// Finds who may reach the floor on each of the samples `[n, d]`, and tells it one by one.
    ///
    /// Gives on how many it could not be told.
    pub fn scan(
        &self,
        samples: &[f32],
        floor: Floor,
        scan: &mut Scan,
        mut each: impl FnMut(usize, Reached<'_>),
    ) -> usize {
        let count = samples.len() / self.d;
        scan.begin(samples, self.d, floor);
        // SAFETY: panels are only packed where the CPU has the instructions.
        unsafe { self.tiles(count, floor, scan) };
        let mut lost = 0;
        for sample in 0..count {
            if let Floor::Highest(k) = floor {
                // SAFETY: as above.
                unsafe { scan.raise(self, sample, k) };
            }
            if scan.floors[sample] < f32::INFINITY && scan.samples.long[sample] < LONGEST {
                each(sample, Reached::Some(scan.kept(sample)));
            } else {
                lost += 1;
                each(sample, Reached::Any);
            }
        }
        lost
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn tiles(&self, count: usize, floor: Floor, scan: &mut Scan) {
        let pairs = self.d.div_ceil(2);
        let [bias, long, off] =
            [&self.bias, &self.long, &self.off].map(|of| of.as_chunks::<PANEL>().0);
        for block in (0..bias.len()).step_by(BLOCK) {
            for first in (0..count).step_by(ROWS) {
                for panel in block..(block + BLOCK).min(bias.len()) {
                    let lines = &self.lines[panel * pairs * 2..][..pairs * 2];
                    let sums = tile(&scan.samples.pairs[first * pairs..][..ROWS * pairs], lines);
                    let bounds = Bounds::of(&bias[panel], &long[panel], &off[panel]);
                    let latent = u32::try_from(panel * PANEL).unwrap_or(u32::MAX);
                    for (sample, sums) in (first..count).zip(&sums) {
                        let limits = scan.limits(sample);
                        let found = bounds.above(sums, limits, latent, scan.free(sample));
                        scan.counts[sample] += found;
                        if scan.counts[sample] + PANEL > scan.room {
                            scan.make_room(self, sample, floor);
                        }
                    }
                }
            }
        }
    }
}

impl Scan {
    fn begin(&mut self, samples: &[f32], d: usize, floor: Floor) {
        let count = samples.len() / d;
        let padded = count.next_multiple_of(ROWS);
        let room = match floor {
            // Cut down three or four times in a sample of thousands of latents.
            Floor::Highest(k) => 4 * k + 2 * PANEL,
            Floor::Fixed(_, room) => room + 2 * PANEL,
        };
        self.room = room.next_multiple_of(LANES);
        let floor = match floor {
            Floor::Highest(_) => 0.0,
            Floor::Fixed(floor, _) => under(floor),
        };
        self.counts.clear();
        self.counts.resize(count, 0);
        self.floors.clear();
        self.floors.resize(count, floor);
        self.values.resize((count * self.room).max(self.values.len()), 0.0);
        self.latents.resize((count * self.room).max(self.latents.len()), 0);
        let pairs = d.div_ceil(2);
        self.samples.pairs.clear();
        self.samples.pairs.resize(padded * pairs, 0);
        self.samples.long.clear();
        self.samples.off.clear();
        let mut packed = vec![0; pairs.next_multiple_of(LANES)];
        // A chain of d sums in bf16, and one of d in fp32, at half a unit of the last place each.
        #[expect(clippy::cast_precision_loss, reason = "dimensions of less than 2^23")]
        let sums = (2 * d + 8 * LANES) as f32 * (0.5 * f32::EPSILON);
        for (sample, row) in samples.chunks_exact(d).enumerate() {
            // SAFETY: only packed panels scan, which are only packed where the CPU can.
            let (long, off) = unsafe { pack(row, &mut packed) };
            let panel = &mut self.samples.pairs[sample / ROWS * ROWS * pairs..][..ROWS * pairs];
            for (rows, pair) in panel.chunks_exact_mut(ROWS).zip(&packed) {
                rows[sample % ROWS] = *pair;
            }
            self.samples.long.push(SAFE * long + HIDDEN);
            self.samples.off.push(SAFE * (off + sums * long) + HIDDEN);
        }
    }

    /// Length, loss and floor of a sample.
    #[inline]
    fn limits(&self, sample: usize) -> (f32, f32, f32) {
        (self.samples.long[sample], self.samples.off[sample], self.floors[sample])
    }

    /// Where the next of a sample's latents go: a panel always fits.
    #[inline]
    fn free(&mut self, sample: usize) -> (&mut [f32; PANEL], &mut [u32; PANEL]) {
        let at = sample * self.room + self.counts[sample];
        let (values, latents) = (&mut self.values[at..], &mut self.latents[at..]);
        (&mut values.as_chunks_mut().0[0], &mut latents.as_chunks_mut().0[0])
    }

    fn kept(&self, sample: usize) -> &[u32] {
        &self.latents[sample * self.room..][..self.counts[sample]]
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn make_room(&mut self, panels: &Panels, sample: usize, floor: Floor) {
        if let Floor::Highest(k) = floor {
            self.raise(panels, sample, k);
        }
        if self.counts[sample] + 2 * PANEL > self.room {
            self.floors[sample] = f32::INFINITY;
            self.counts[sample] = 0;
        }
    }

    /// Raises the floor to what `k` of the kept reach for certain, and drops who cannot.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn raise(&mut self, panels: &Panels, sample: usize, k: usize) {
        let (begin, count) = (sample * self.room, self.counts[sample]);
        if count <= k {
            return;
        }
        let (x_long, x_off) = (self.samples.long[sample], self.samples.off[sample]);
        let values = &mut self.values[begin..begin + count];
        let latents = &mut self.latents[begin..begin + count];
        self.lower.clear();
        self.lower.resize(count, 0.0);
        for ((lower, value), latent) in self.lower.iter_mut().zip(&*values).zip(&*latents) {
            let at = *latent as usize;
            *lower = value - 2.0 * x_off.mul_add(panels.long[at], x_long * panels.off[at]);
        }
        let old = self.floors[sample];
        let floor = old.max(under(reached_by(&self.lower, k, old)));
        self.floors[sample] = floor;
        let mut kept = 0;
        for at in 0..count {
            (values[kept], latents[kept]) = (values[at], latents[at]);
            kept += usize::from(values[at] > floor);
        }
        self.counts[sample] = kept;
    }
}

/// A value above `low` that at least `k` of these reach, and not many more; `low` if there is none.
#[target_feature(enable = "avx512f")]
fn reached_by(values: &[f32], k: usize, mut low: f32) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut highest = [low; LANES];
    for values in whole {
        for (highest, value) in highest.iter_mut().zip(values) {
            *highest = if *value > *highest { *value } else { *highest };
        }
    }
    let mut high = highest.iter().chain(rest).fold(low, |high, value| high.max(*value));
    // Halving ten times leaves a thousandth of the range; what is left only costs time.
    for _ in 0..10 {
        let middle = low.midpoint(high);
        let mut reach = 0_u32;
        for value in values {
            reach += u32::from(*value >= middle);
        }
        let reach = reach as usize;
        if reach >= k {
            low = middle;
            if reach <= k + 2 {
                break;
            }
        } else {
            high = middle;
        }
    }
    low
}

/// A floor with room for the rounding of what is compared with it.
fn under(floor: f32) -> f32 {
    floor - floor.abs() * (8.0 * f32::EPSILON)
}
