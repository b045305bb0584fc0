//! The scan in bf16 selects what fp32 selects, whatever the numbers are.

use super::*;

/// Samples: no multiple of a panel, and more than one task of them.
const COUNT: usize = SAMPLES + 39;

/// Numbers of a shape, by sample or latent and by value.
type Shape = fn(usize, usize, f32) -> f32;

/// A dictionary and samples; `x` and `w` shape numbers between -1 and 1.
fn made(latents: usize, d: usize, x: Shape, w: Shape) -> (Weights, Vec<f32>) {
    let mut state = 5_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32_768.0 - 1.0
    };
    let mut weights = Weights::zeros(latents, d);
    let layout = weights.layout();
    for latent in 0..latents {
        for at in 0..d {
            weights.record_mut(latent)[layout.w_enc()][at] = w(latent, at, next());
        }
        // Some that never fire, most that are level, some that are lifted.
        let bias = [0.0, 0.0, -1e3, 0.01][latent % 4];
        weights.record_mut(latent)[layout.b_enc()] = bias * w(latent, 0, 1.0).abs();
    }
    let samples = (0..COUNT * d).map(|at| x(at / d, at % d, next())).collect();
    (weights, samples)
}

/// Everything above 0, one product after the other: sample, latent, value.
fn all(weights: &Weights, samples: &[f32]) -> Vec<(usize, u32, f32)> {
    let layout = weights.layout();
    let mut found = Vec::new();
    for (sample, x) in samples.chunks_exact(weights.d).enumerate() {
        for (latent, record) in (0..).zip(weights.records.chunks_exact(layout.stride())) {
            let value = dot(x, &record[layout.w_enc()]) + record[layout.b_enc()];
            if value > 0.0 {
                found.push((sample, latent, value));
            }
        }
    }
    found
}

/// The largest of these, of those alike the first ones, in their old order.
fn largest_of(mut found: Vec<(usize, u32, f32)>, wanted: usize) -> Vec<(usize, u32, f32)> {
    found.sort_by(|a, b| b.2.total_cmp(&a.2));
    found.truncate(wanted);
    found.sort_by_key(|(sample, latent, _)| (*sample, *latent));
    found
}

fn told(parts: &[Part]) -> Vec<(usize, u32, f32)> {
    let samples = parts.iter().flat_map(Part::samples).enumerate();
    samples.flat_map(|(at, firings)| firings.iter().map(move |f| (at, f.latent, f.value))).collect()
}

/// Both kinds, bit for bit; gives on how many samples bf16 could not tell, of each.
fn check(name: &str, (latents, d, k): (usize, usize, usize), x: Shape, w: Shape) -> [usize; 2] {
    let (weights, samples) = made(latents, d, x, w);
    let everything = all(&weights, &samples);
    let mut panels = Panels::default();
    assert!(panels.pack(weights.encoder(), &weights.column(weights.layout().b_enc())), "{name}");
    let mut run = |kind: &Kind| select(&weights, &samples, kind, k, Some(&mut panels));
    let (parts, top) = run(&Kind::TopK { k });
    let mut expected = Vec::new();
    for of_sample in everything.chunk_by(|a, b| a.0 == b.0) {
        expected.append(&mut largest_of(of_sample.to_vec(), k));
    }
    assert!(told(&parts) == expected, "{name}: the largest of a sample");
    let (parts, batch) = run(&Kind::BatchTopK { k });
    let expected = largest_of(everything, k * COUNT);
    assert!(told(&parts) == expected, "{name}: the largest of a batch");
    [top, batch]
}

#[test]
fn bf16_selects_what_fp32_selects_of_random_numbers_and_can_tell_all_of_them() {
    if !crate::kernel::bf16::runs_here() {
        return;
    }
    for size in [(1000, 64, 8), (256, 37, 3), (2048, 512, 32)] {
        assert_eq!(check("random", size, |_, _, r| r, |_, _, r| r), [0, 0], "{size:?}");
    }
}

#[test]
fn bf16_selects_what_fp32_selects_where_numbers_are_made_to_mislead_it() {
    if !crate::kernel::bf16::runs_here() {
        return;
    }
    let size = (1000, 64, 8);
    check(
        "ties",
        size,
        |_, _, r| r,
        |latent, at, _| ((latent / 9 * 31 + at * 17) % 13) as f32 - 6.0,
    );
    check("near ties", size, |_, _, r| r, |_, at, r| (at % 7) as f32 - 3.0 + 1e-4 * r);
    check("all alike", size, |_, _, _| 1.0, |_, _, _| 1.0);
    check(
        "zeros",
        size,
        |sample, _, r| if sample % 2 == 0 { 0.0 } else { r },
        |latent, _, r| {
            if latent % 3 == 0 { 0.0 } else { r }
        },
    );
    check("tiny", size, |_, _, r| 1e-20 * r, |_, _, r| 1e-19 * r);
    check("below the normal range", size, |_, _, r| 1e-30 * r, |_, _, r| 1e-12 * r);
    check("huge", size, |_, _, r| 1e12 * r, |_, _, r| 1e12 * r);
    check("one long row", size, |_, _, r| r, |latent, _, r| if latent == 7 { 1e6 * r } else { r });
    // Just below and above the middle between two numbers of bf16, so that errors add up.
    check(
        "rounded one way",
        size,
        |_, _, _| 1.0,
        |latent, _, r| {
            let side = if latent % 2 == 0 { 1e-6 } else { -1e-6 };
            1.0 + 1.0 / 256.0 + side + 1e-7 * r
        },
    );
}

#[test]
fn rows_too_long_to_be_bounded_are_left_to_fp32() {
    let (weights, samples) = made(64, 8, |_, _, r| r, |_, _, r| 1e16 * r);
    let mut panels = Panels::default();
    assert!(!panels.pack(weights.encoder(), &weights.column(weights.layout().b_enc())));
    let kind = Kind::TopK { k: 2 };
    let (parts, untold) = select(&weights, &samples, &kind, 2, Some(&mut panels));
    assert_eq!(untold, 0);
    assert!(parts == select(&weights, &samples, &kind, 2, None).0);
}
