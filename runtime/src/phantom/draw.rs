//! From anatomy to brightness: attenuation along each ray, then noise, then the display curve.

use super::anatomy::{Anatomy, Look};
use super::canvas::Canvas;
use super::math::{Source, Stream, exp, sin_cos, step};
use super::{Drawing, Phantom, bones, devices, fields, organs};

/// The field that a cassette of 35 x 43 cm shows in the patient's plane, mm: columns, rows.
const FIELD_MM: [f32; 2] = [350.0, 410.0];

/// Side of a pixel, mm: the whole field is always on the picture.
pub(super) fn spacing_mm(rows: usize, columns: usize) -> f32 {
    (FIELD_MM[0] / columns as f32).max(FIELD_MM[1] / rows as f32)
}

/// Draws a phantom.
pub(super) fn draw(phantom: &Phantom, rows: usize, columns: usize) -> Drawing {
    let anatomy = Anatomy::of(phantom);
    let zoom = anatomy.scale / spacing_mm(rows, columns);
    let mut canvas = Canvas::new([rows, columns], zoom, anatomy.centre, sin_cos(anatomy.tilt));
    fields::fill(&mut canvas, &anatomy, phantom.seed);
    organs::draw(&mut canvas, &anatomy, phantom.seed);
    bones::draw(&mut canvas, &anatomy);
    devices::draw(&mut canvas, &anatomy, phantom.seed);
    devices::side_marker(&mut canvas, phantom.seed);
    canvas.blur(anatomy.look.blur_mm * zoom);
    let values = expose(&canvas, &anatomy.look, phantom.seed);
    Drawing { rows, columns, values }
}

/// Noise, display curve and shutter.
fn expose(canvas: &Canvas, look: &Look, seed: u64) -> Vec<f32> {
    let source = &mut Source::new(seed, Stream::Noise);
    // Fewer photons per pixel, more noise: with the side of a pixel; the detector's own blur caps it.
    let noise = look.noise * (0.4 * canvas.zoom).min(2.0);
    let black = logistic(-look.centre / look.latitude);
    let mut values = Vec::with_capacity(canvas.density.len());
    for (i, &density) in canvas.density.iter().enumerate() {
        let density = density.max(0.0);
        // exp(density * 1.3) without the exponential: photons that are left, square root.
        let sigma = noise * (1.0 + density * (1.3 + 0.85 * density));
        let seen = density + sigma * source.normal();
        let shown = (logistic((seen - look.centre) / look.latitude) - black) / (1.0 - black);
        let (row, column) = (i / canvas.columns, i % canvas.columns);
        values.push((shown * shutter(canvas, look, row, column)).clamp(0.0, 1.0));
    }
    values
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// 1 in the exposed field, 0 behind the collimator's leaves.
fn shutter(canvas: &Canvas, look: &Look, row: usize, column: usize) -> f32 {
    let x = (column as f32 + 0.5) / canvas.columns as f32;
    let y = (row as f32 + 0.5) / canvas.rows as f32;
    let edges = [x, 1.0 - x, y, 1.0 - y];
    let mut open = 1.0;
    for (at, margin) in edges.into_iter().zip(look.shutter) {
        if margin > 0.0 {
            // The leaves' penumbra, 0.4 % of the field.
            open *= step(margin - 0.002, margin + 0.002, at);
        }
    }
    open
}
