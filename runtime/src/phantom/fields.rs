//! What fills the picture: the body's depth, and the air in the lungs that is missing from it.

use super::Projection;
use super::anatomy::{Anatomy, Side};
use super::canvas::Canvas;
use super::finding::{Finding, Gap};
use super::math::{Lattice, Point, Source, Stream, exp, rounded, step};

/// Share of the chest's depth that aerated lung takes away from the attenuation.
const LUNG_SHARE: f32 = 0.66;

/// What a ray crosses of a lung.
#[derive(Debug, Clone, Copy, Default)]
struct Lung {
    /// Share of the depth that is air, 0..=1.
    air: f32,
    /// Share of it that has vessels and texture, 0..=1.
    aerated: f32,
    /// Attenuation of the pleura seen edge on.
    pleura: f32,
}

/// Fills the canvas with body and lungs.
pub(super) fn fill(canvas: &mut Canvas, anatomy: &Anatomy, seed: u64) {
    let texture = Texture::new(seed, anatomy.markings);
    for row in 0..canvas.rows {
        for column in 0..canvas.columns {
            let p = canvas.place(row, column);
            let depth = body(anatomy, p);
            let i = row * canvas.columns + column;
            let lung = if depth > 0.0 { lung(anatomy, p) } else { Lung::default() };
            let slow = texture.slow.at(p);
            canvas.aerated[i] = lung.aerated;
            canvas.density[i] = depth * (1.0 - LUNG_SHARE * lung.air) * (1.0 + 0.04 * slow)
                + lung.pleura
                + if lung.aerated > 0.0 { lung.aerated * texture.at(p) } else { 0.0 };
        }
    }
}

/// The depth of soft tissue, 0 outside the body.
fn body(anatomy: &Anatomy, p: Point) -> f32 {
    let half = anatomy.outline.at(p.y);
    let x = p.x / half;
    let square = (x * x).min(1.0);
    // A cross-section between an ellipse and a rectangle.
    anatomy.depth.at(p.y) * (1.0 - square * square).sqrt()
}

fn lung(anatomy: &Anatomy, p: Point) -> Lung {
    if p.y < 0.0 || p.y > anatomy.height + 30.0 {
        return Lung::default();
    }
    let side = Side::of(p.x);
    let inside = to_wall(anatomy, p, 0.0, 0.0);
    if inside <= 0.0 {
        return Lung::default();
    }
    let wall = rounded(inside, 26.0) * rounded(p.y, 12.0);
    let middle = anatomy.turn_mm + anatomy.finding.push_mm();
    let medial = medial(anatomy, p, side, (p.x - middle) * side.sign());
    let below = below_dome(anatomy, p, side);
    let fluid = fluid(anatomy, p, side);
    let air = wall * medial * below * (1.0 - 0.94 * fluid);
    let aerated = wall * medial * below * (1.0 - fluid);
    match &anatomy.finding {
        Finding::Pneumothorax(gap) if gap.side == side => collapsed(anatomy, p, gap, air, aerated),
        Finding::Pneumothorax(_)
        | Finding::None
        | Finding::Effusion(_)
        | Finding::Cardiomegaly(_)
        | Finding::Nodules(_)
        | Finding::Device(_) => Lung { air, aerated, pleura: 0.0 },
    }
}

/// How far inside the pleural outline a place lies, mm; the outline can be sunk and drawn in.
fn to_wall(anatomy: &Anatomy, p: Point, sunk: f32, drawn_in: f32) -> f32 {
    let y = p.y - sunk;
    let wall = anatomy.wall.at(y);
    // First-order distance to a curve that is given as a function of height.
    let slope = 0.25 * (anatomy.wall.at(y + 2.0) - anatomy.wall.at(y - 2.0));
    (wall - drawn_in - p.x.abs()) / (1.0 + slope * slope).sqrt()
}

/// Share of the lung's depth beside, behind and before mediastinum and heart.
fn medial(anatomy: &Anatomy, p: Point, side: Side, distance: f32) -> f32 {
    let outside = distance - anatomy.borders[side as usize].at(p.y);
    let stretch = anatomy.height / 262.0;
    if outside >= 0.0 {
        return 0.8 + 0.2 * rounded(outside, 30.0);
    }
    // The heart leaves lung behind it, the upper mediastinum none.
    let heart = step(110.0 * stretch, 150.0 * stretch, p.y);
    let vessels = rounded(-outside, 16.0);
    let muscle = 0.74 * rounded(-outside, 50.0);
    let spine = 1.0 - step(44.0, 14.0, (p.x - anatomy.spine.at(p.y)).abs());
    0.8 * (1.0 - vessels + heart * (vessels - muscle)) * spine.max(1.0 - heart)
}

/// 1 above the diaphragm; below it what the lung behind the dome still shows.
fn below_dome(anatomy: &Anatomy, p: Point, side: Side) -> f32 {
    let below = p.y - anatomy.dome(side, p.x.abs());
    let edge = step(-0.8, 0.8, below);
    if edge > 0.0 { 1.0 - edge * (1.0 - 0.3 * exp(-below.max(0.0) / 15.0)) } else { 1.0 }
}

/// Share of the depth that an effusion fills: a meniscus that climbs the chest wall.
fn fluid(anatomy: &Anatomy, p: Point, side: Side) -> f32 {
    let Finding::Effusion(levels) = &anatomy.finding else { return 0.0 };
    let level = levels[side as usize];
    if level <= 0.0 {
        return 0.0;
    }
    let lateral = ((p.x.abs() / anatomy.half_width - 0.3) / 0.7).clamp(0.0, 1.0);
    // Lying down, fluid spreads behind the lung: a veil without a clear upper edge.
    let (climb, soft) = match anatomy.projection {
        Projection::Pa => (0.5 * level, 15.0),
        Projection::Ap => (0.3 * level, 26.0),
    };
    let surface = anatomy.height - level - climb.min(48.0) * lateral * lateral * lateral;
    step(-soft, soft, p.y - surface)
}

/// A lung that left the wall: pure air outside, the pleura as a line, a little denser inside.
fn collapsed(anatomy: &Anatomy, p: Point, gap: &Gap, air: f32, aerated: f32) -> Lung {
    let down = (p.y / anatomy.height).clamp(0.0, 1.0);
    let inside = to_wall(
        anatomy,
        p,
        gap.apical_mm * (1.0 - 0.8 * down),
        gap.lateral_mm * (1.0 - 0.72 * down),
    );
    let lung = step(-0.6, 0.6, inside);
    let line = exp(-inside * inside / 0.9);
    Lung {
        air: air * (1.0 - 0.07 * lung) + 0.07 * air * (1.0 - lung),
        aerated: aerated * lung,
        pleura: 0.085 * line * air,
    }
}

/// Fine structure of the lung and slow unevenness of the field.
struct Texture {
    fine: [(f32, Lattice); 3],
    slow: Lattice,
}

impl Texture {
    fn new(seed: u64, markings: f32) -> Self {
        let source = &mut Source::new(seed, Stream::Texture);
        // Cell, mm, and amplitude, attenuation: picked by eye.
        let mut layer = |cell, amount: f32| (amount * markings, Lattice::new(source, cell));
        let fine = [layer(2.2, 0.016), layer(5.0, 0.018), layer(17.0, 0.022)];
        Self { fine, slow: Lattice::new(source, 120.0) }
    }

    fn at(&self, p: Point) -> f32 {
        self.fine.iter().map(|(amount, lattice)| amount * lattice.at(p)).sum()
    }
}
