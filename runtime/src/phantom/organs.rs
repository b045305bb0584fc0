//! Airways, hila and their vessels, aorta, stomach, breasts, nodules.

use super::Projection;
use super::anatomy::{Anatomy, Side};
use super::bones::line;
use super::canvas::{Canvas, Node, Section, Within};
use super::finding::Finding;
use super::math::{Point, Source, Stream, at, exp, rounded, sin_cos, step};

/// Draws what lies in and around the lungs.
pub(super) fn draw(canvas: &mut Canvas, anatomy: &Anatomy, seed: u64) {
    airways(canvas, anatomy);
    aorta(canvas, anatomy);
    let source = &mut Source::new(seed, Stream::Vessels);
    for side in Side::BOTH {
        hilum(canvas, anatomy, side, source);
    }
    stomach(canvas, anatomy, source);
    breasts(canvas, anatomy);
    if let Finding::Nodules(nodules) = &anatomy.finding {
        for nodule in nodules {
            let edge = nodule.radius * 1.12;
            canvas.ellipse(nodule.centre, (edge, edge * 0.94), Within::Body, |q, _| {
                nodule.amount * (1.0 - q).sqrt() * step(1.0, 0.7, q)
            });
        }
    }
}

fn stretch(anatomy: &Anatomy) -> f32 {
    anatomy.height / 262.0
}

/// Windpipe down to the carina, and the two main bronchi.
fn airways(canvas: &mut Canvas, anatomy: &Anatomy) {
    let middle = 0.6 * anatomy.turn_mm + anatomy.finding.push_mm();
    let carina = at(middle - 2.0, 93.0 * stretch(anatomy));
    let node = |p: Point, radius: f32, weight: f32| Node { p, radius, weight };
    let pipe = line(12, |t| {
        let y = -130.0 + t * (carina.y + 130.0);
        node(
            at(anatomy.spine.at(y) * 0.5 + (middle - 3.0) * t, y),
            7.8,
            1.0 - 0.6 * step(0.75, 1.0, t),
        )
    });
    canvas.stroke(&pipe, Section::Rod(-0.0145), Within::Body);
    for (side, down, out) in [(Side::Right, 34.0, 26.0), (Side::Left, 28.0, 38.0)] {
        let bronchus = line(6, |t| {
            node(
                at(carina.x + side.sign() * out * t, carina.y + down * t),
                6.6 - 1.6 * t,
                step(0.0, 0.5, t) * (1.0 - 0.6 * t),
            )
        });
        canvas.stroke(&bronchus, Section::Rod(-0.011), Within::Body);
    }
}

/// The descending aorta's edge beside the spine, seen through the heart.
fn aorta(canvas: &mut Canvas, anatomy: &Anatomy) {
    let middle = anatomy.turn_mm + anatomy.finding.push_mm();
    let vessel = line(10, |t| {
        let y = 72.0 + t * (anatomy.height - 60.0);
        Node { p: at(middle + 17.0 - 9.0 * t, y), radius: 12.5, weight: step(1.0, 0.6, t) }
    });
    canvas.stroke(&vessel, Section::Rod(0.0035), Within::Body);
}

/// A hilum: soft shadow, and the vessels that leave it like a fan.
fn hilum(canvas: &mut Canvas, anatomy: &Anatomy, side: Side, source: &mut Source) {
    let middle = anatomy.turn_mm + anatomy.finding.push_mm();
    // The left hilum stands a finger higher than the right one.
    let y = stretch(anatomy) * if side == Side::Left { 108.0 } else { 119.0 };
    let root = at(middle + side.sign() * 31.0, y);
    let shade = 0.09 * anatomy.markings;
    canvas.ellipse(at(root.x, y + 18.0), (78.0, 96.0), Within::Lung, |q, _| {
        0.6 * shade * (exp(-2.0 * q) - exp(-2.0))
    });
    canvas.ellipse(at(root.x + side.sign() * 6.0, y), (17.0, 27.0), Within::Lung, |q, _| {
        shade * (exp(-2.5 * q) - exp(-2.5))
    });
    // Angle from the horizontal, down positive, degrees; radius at the root, mm. Lower lobes get
    // more blood while standing.
    let lower = match anatomy.projection {
        Projection::Pa => 1.0,
        Projection::Ap => 0.85,
    };
    let fan = [
        (-78.0, 3.0),
        (-58.0, 3.2),
        (-32.0, 2.6),
        (-8.0, 2.3),
        (16.0, 2.8),
        (38.0, 3.7 * lower),
        (58.0, 4.3 * lower),
        (74.0, 5.6 * lower),
    ];
    for (angle, radius) in fan {
        let angle = angle + source.between(-9.0, 9.0);
        let start = at(
            root.x + side.sign() * source.between(-3.0, 4.0),
            y + source.between(-7.0, 9.0) + angle / 4.5,
        );
        let radius = radius * source.between(0.8, 1.15);
        vessel(canvas, anatomy, source, &Vessel { side, start, angle, radius });
    }
}

/// A vessel of the tree: a stem that tapers to nothing, with branches.
struct Vessel {
    side: Side,
    start: Point,
    /// From the horizontal away from the midline, down positive, degrees.
    angle: f32,
    radius: f32,
}

/// Vessels below this radius are texture, mm.
const THINNEST_MM: f32 = 0.36;

/// Between two nodes of a vessel, mm.
const NODE_MM: f32 = 5.0;

/// Draws a vessel and those that leave it; the radius shrinks with every step, so it ends.
fn vessel(canvas: &mut Canvas, anatomy: &Anatomy, source: &mut Source, from: &Vessel) {
    let (mut p, mut angle, mut radius) = (from.start, from.angle, from.radius);
    let mut nodes = Vec::new();
    let mut bend = source.between(-4.5, 4.5);
    let mut until_fork = source.between(1.0, 3.0);
    while radius >= THINNEST_MM {
        // Wide vessels count less than their width, for they overlap the hilum; the first node is
        // hidden in the vessel that it leaves.
        let weight =
            if nodes.is_empty() { 0.0 } else { anatomy.markings * (1.5 / radius).sqrt().min(1.35) };
        nodes.push(Node { p, radius, weight });
        let inside = anatomy.wall.at(p.y) - p.x.abs();
        if inside < 4.0 || p.y < 3.0 || p.y > anatomy.height {
            break;
        }
        until_fork -= 1.0;
        if until_fork <= 0.0 {
            until_fork = source.between(1.2, 3.4);
            let turn = source.between(24.0, 58.0) * if source.chance(0.5) { 1.0 } else { -1.0 };
            let branch = Vessel {
                side: from.side,
                start: p,
                angle: (angle + turn).clamp(-140.0, 140.0),
                radius: radius * source.between(0.5, 0.82),
            };
            vessel(canvas, anatomy, source, &branch);
            // The stem gives way.
            angle -= 0.2 * turn;
            radius *= 0.93;
            bend = source.between(-4.5, 4.5);
        }
        let (sin, cos) = sin_cos(angle.clamp(-170.0, 170.0));
        p = at(p.x + from.side.sign() * cos * NODE_MM, p.y + sin * NODE_MM);
        angle += bend;
        radius *= 0.94;
    }
    canvas.stroke(&nodes, Section::Rod(0.022), Within::Lung);
}

/// Gas under the left dome, flat below where the patient stands.
fn stomach(canvas: &mut Canvas, anatomy: &Anatomy, source: &mut Source) {
    let x = source.between(0.36, 0.62) * anatomy.half_width;
    let radii = (source.between(16.0, 34.0), source.between(10.0, 20.0));
    let amount = source.between(0.12, 0.34);
    let level = match anatomy.projection {
        Projection::Pa => source.between(0.1, 0.5),
        Projection::Ap => 1.0,
    };
    let centre = at(x, anatomy.dome(Side::Left, x) + radii.1 + source.between(6.0, 11.0));
    if source.chance(0.8) {
        canvas.ellipse(centre, radii, Within::Body, |q, y| {
            -amount * rounded(1.0 - q, 0.7) * step(level + 0.06, level, y)
        });
    }
    // Gas in the bowel, a few blurred pockets.
    for _ in 0..3 {
        let pocket = at(source.between(-20.0, 110.0), anatomy.height + source.between(25.0, 80.0));
        let size = (source.between(9.0, 22.0), source.between(6.0, 14.0));
        let dark = source.between(0.03, 0.16);
        canvas.ellipse(pocket, size, Within::Body, |q, _| -dark * (1.0 - q).sqrt());
    }
}

fn breasts(canvas: &mut Canvas, anatomy: &Anatomy) {
    let Some(breasts) = &anatomy.breasts else { return };
    for side in Side::BOTH {
        let centre = at(side.sign() * breasts.centre.x + 0.8 * anatomy.turn_mm, breasts.centre.y);
        canvas.ellipse(centre, breasts.radii, Within::Body, |q, y| {
            // Fades upwards into the chest wall, ends in a crescent below.
            breasts.amount * (1.0 - q).sqrt() * (0.15 + 0.85 * step(-0.9, 0.5, y))
        });
    }
}
