//! What is drawn on: attenuation per pixel, and the two ways to add a local structure.

use super::math::{Point, index, step};

/// The picture while it is drawn.
#[derive(Debug)]
pub(super) struct Canvas {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Attenuation along the ray, 1 for a mean chest of soft tissue; `[rows, columns]`.
    pub(super) density: Vec<f32>,
    /// How much aerated lung the ray crosses, 0..=1; `[rows, columns]`.
    pub(super) aerated: Vec<f32>,
    /// Pixels per mm in the patient's plane.
    pub(super) zoom: f32,
    centre: Point,
    sin: f32,
    cos: f32,
}

/// A place on a stroke's middle line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Where.
    pub(super) p: Point,
    /// Half the stroke's width, mm.
    pub(super) radius: f32,
    /// Strength, a factor.
    pub(super) weight: f32,
}

/// How a stroke attenuates across its width.
#[derive(Debug, Clone, Copy)]
pub(super) enum Section {
    /// A full cylinder: attenuation per mm of chord.
    Rod(f32),
    /// A bone: dense shell, loose core; attenuation per mm of chord.
    Bone(f32),
    /// The same everywhere, with sharp edges: attenuation.
    Flat(f32),
}

/// Whether a structure shows only where the lung holds air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// Everywhere.
    Body,
    /// Only in aerated lung.
    Lung,
}

impl Canvas {
    pub(super) fn new(
        [rows, columns]: [usize; 2],
        zoom: f32,
        centre: Point,
        (sin, cos): (f32, f32),
    ) -> Self {
        let blank = vec![0.0; rows * columns];
        Self { rows, columns, density: blank.clone(), aerated: blank, zoom, centre, sin, cos }
    }

    /// The place in the patient's plane that a pixel's middle shows.
    pub(super) fn place(&self, row: usize, column: usize) -> Point {
        let x = (column as f32 + 0.5 - 0.5 * self.columns as f32) / self.zoom;
        let y = (row as f32 + 0.5 - 0.5 * self.rows as f32) / self.zoom;
        Point {
            x: self.centre.x + self.cos * x + self.sin * y,
            y: self.centre.y - self.sin * x + self.cos * y,
        }
    }

    /// Column and row of a place, in pixels; a pixel's middle is a whole number.
    fn pixel(&self, p: Point) -> Point {
        let (x, y) = (p.x - self.centre.x, p.y - self.centre.y);
        Point {
            x: (self.cos * x - self.sin * y) * self.zoom + 0.5 * self.columns as f32 - 0.5,
            y: (self.sin * x + self.cos * y) * self.zoom + 0.5 * self.rows as f32 - 0.5,
        }
    }

    /// Columns and rows that hold everything within `reach` pixels of the given pixels.
    fn window(&self, places: &[Point], reach: f32) -> [std::ops::Range<usize>; 2] {
        let bounds = |of: fn(&Point) -> f32, end: usize| {
            let low = places.iter().map(of).fold(f32::MAX, f32::min) - reach;
            let high = places.iter().map(of).fold(f32::MIN, f32::max) + reach + 2.0;
            index(low).min(end)..index(high).min(end)
        };
        [bounds(|p| p.x, self.columns), bounds(|p| p.y, self.rows)]
    }

    /// Adds a stroke along a line of nodes. Where it meets itself it counts once.
    pub(super) fn stroke(&mut self, nodes: &[Node], section: Section, within: Within) {
        let line: Vec<(Point, f32, f32)> = nodes
            .iter()
            .map(|node| {
                // Thinner than a pixel becomes a pixel wide and fainter instead.
                let wide = (node.radius * self.zoom).max(0.7);
                (self.pixel(node.p), wide, node.weight * node.radius * self.zoom / wide)
            })
            .collect();
        let places: Vec<Point> = line.iter().map(|node| node.0).collect();
        let reach = line.iter().map(|node| node.1).fold(0.0, f32::max);
        let [columns, rows] = self.window(&places, reach);
        let width = columns.len();
        // Per pixel: (distance / radius)^2 to the nearest piece, its radius in pixels, its weight.
        let mut nearest = vec![(1.0_f32, 0.0_f32, 0.0_f32); width * rows.len()];
        for pair in line.windows(2) {
            let [near_columns, near_rows] =
                self.window(&[pair[0].0, pair[1].0], pair[0].1.max(pair[1].1));
            for row in near_rows {
                let start = (row - rows.start) * width;
                for column in near_columns.clone() {
                    let hit = distance(pair, column as f32, row as f32);
                    let best = &mut nearest[start + column - columns.start];
                    if hit.0 < best.0 {
                        *best = hit;
                    }
                }
            }
        }
        for row in rows.clone() {
            for column in columns.clone() {
                let (q, radius, weight) =
                    nearest[(row - rows.start) * width + column - columns.start];
                if q < 1.0 {
                    self.add(row, column, weight * chord(section, q, radius / self.zoom), within);
                }
            }
        }
    }

    /// Adds an ellipse: `amount` gets the squared distance from the centre, 1 at the edge, and the
    /// height within it, -1 (top) ..=1.
    pub(super) fn ellipse(
        &mut self,
        centre: Point,
        radii: (f32, f32),
        within: Within,
        amount: impl Fn(f32, f32) -> f32,
    ) {
        self.patch(centre, radii, within, |x, y| {
            let q = x * x + y * y;
            if q < 1.0 { amount(q, y) } else { 0.0 }
        });
    }

    /// Adds a patch: `amount` gets the place in it, -1 (right of the patient, top) ..=1.
    pub(super) fn patch(
        &mut self,
        centre: Point,
        radii: (f32, f32),
        within: Within,
        amount: impl Fn(f32, f32) -> f32,
    ) {
        // Half as much again: the patch may be turned, and its corners stick out.
        let reach = 1.5 * radii.0.max(radii.1) * self.zoom;
        let [columns, rows] = self.window(&[self.pixel(centre)], reach);
        for row in rows {
            for column in columns.clone() {
                let p = self.place(row, column);
                let (x, y) = ((p.x - centre.x) / radii.0, (p.y - centre.y) / radii.1);
                if x.abs() < 1.0 && y.abs() < 1.0 {
                    self.add(row, column, amount(x, y), within);
                }
            }
        }
    }

    fn add(&mut self, row: usize, column: usize, amount: f32, within: Within) {
        let i = row * self.columns + column;
        let share = match within {
            Within::Body => 1.0,
            Within::Lung => self.aerated[i],
        };
        self.density[i] += amount * share;
    }

    /// Blurs by two box filters whose width makes about the given sigma, pixels.
    pub(super) fn blur(&mut self, sigma: f32) {
        // Two boxes of width 2 r + 1 have variance 2 ((2 r + 1)^2 - 1) / 12.
        let reach = index(((6.0 * sigma * sigma + 1.0).sqrt() - 1.0) / 2.0 + 0.5);
        if reach == 0 {
            return;
        }
        for _ in 0..2 {
            let mut line = vec![0.0; self.columns];
            for row in self.density.chunks_exact_mut(self.columns) {
                box_mean(row, &mut line, reach);
            }
            blur_columns(&mut self.density, [self.rows, self.columns], reach);
        }
    }
}

/// Squared distance over squared radius, radius and weight at the nearest point of a piece.
fn distance(pair: &[(Point, f32, f32)], x: f32, y: f32) -> (f32, f32, f32) {
    let ((a, radius_a, weight_a), (b, radius_b, weight_b)) = (pair[0], pair[1]);
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    let t = (((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy).max(1e-6)).clamp(0.0, 1.0);
    let (ex, ey) = (x - a.x - t * dx, y - a.y - t * dy);
    let radius = radius_a + (radius_b - radius_a) * t;
    ((ex * ex + ey * ey) / (radius * radius), radius, weight_a + (weight_b - weight_a) * t)
}

/// Attenuation of a stroke at squared distance `q` (of its radius, mm).
fn chord(section: Section, q: f32, radius: f32) -> f32 {
    match section {
        Section::Rod(per_mm) => per_mm * 2.0 * radius * (1.0 - q).sqrt(),
        Section::Bone(per_mm) => {
            // The core, 0.84 of the radius, holds 0.65 less than the shell.
            let core = 0.65 * (0.7056 - q).max(0.0).sqrt();
            per_mm * 2.0 * radius * ((1.0 - q).sqrt() - core)
        }
        Section::Flat(amount) => amount * step(1.0, 0.8, q),
    }
}

fn box_mean(row: &mut [f32], before: &mut [f32], reach: usize) {
    before.copy_from_slice(row);
    let last = before.len() - 1;
    let width = (2 * reach + 1) as f32;
    for (i, value) in row.iter_mut().enumerate() {
        let mut sum = 0.0;
        for k in 0..=2 * reach {
            sum += before[(i + k).saturating_sub(reach).min(last)];
        }
        *value = sum / width;
    }
}

fn blur_columns(values: &mut [f32], [rows, columns]: [usize; 2], reach: usize) {
    let before = values.to_vec();
    let share = 1.0 / (2 * reach + 1) as f32;
    for (row, out) in values.chunks_exact_mut(columns).enumerate() {
        out.fill(0.0);
        for k in 0..=2 * reach {
            let from = (row + k).saturating_sub(reach).min(rows - 1) * columns;
            for (value, add) in out.iter_mut().zip(&before[from..from + columns]) {
                *value += add * share;
            }
        }
    }
}
