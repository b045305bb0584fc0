//! Ribs, spine, collar bones, shoulder blades and upper arms.

use super::Projection;
use super::anatomy::{Anatomy, Side};
use super::canvas::{Canvas, Node, Section, Within};
use super::math::{Point, at, step};

/// Pairs of ribs that a chest radiograph shows.
const RIBS: u8 = 11;

/// Draws the skeleton.
pub(super) fn draw(canvas: &mut Canvas, anatomy: &Anatomy) {
    spine(canvas, anatomy);
    for side in Side::BOTH {
        for rib in 0..RIBS {
            ribs(canvas, anatomy, side, f32::from(rib));
        }
        clavicle(canvas, anatomy, side);
        shoulder(canvas, anatomy, side);
    }
}

/// A line of nodes along `t` in 0..=1.
pub(super) fn line(pieces: u8, node: impl Fn(f32) -> Node) -> Vec<Node> {
    (0..=pieces).map(|i| node(f32::from(i) / f32::from(pieces))).collect()
}

/// One rib: from the spine outwards and down, round the wall, and back towards the breast bone.
fn ribs(canvas: &mut Canvas, anatomy: &Anatomy, side: Side, rib: f32) {
    let pitch = anatomy.height / 10.6;
    let start = at(anatomy.spine.at(rib * pitch) + side.sign() * 20.0, -6.0 + rib * pitch);
    // The first rib is a tight hoop, the lower ones slope more.
    let fall = if rib < 1.0 { 26.0 } else { 34.0 + 4.6 * rib };
    let turn = start.y + fall;
    let wall = anatomy.wall.at(turn) + 2.0;
    let radius = 5.0 + 0.1 * rib.min(6.0);
    let back = line(20, |t| {
        let out = 1.0 - (1.0 - t) * (1.0 - t);
        let x = side.sign() * wall;
        let y = start.y - 9.0 * t * (1.0 - t) + fall * (0.42 * out + 0.58 * t * t * t);
        let weight = 1.0 - if rib > 7.5 { step(0.75, 1.0, t) } else { 0.25 * step(0.7, 1.0, t) };
        Node { p: at(start.x + (x - start.x) * out, y), radius, weight }
    });
    canvas.stroke(&back, Section::Bone(0.0165), Within::Body);
    // Ribs from the ninth on have no bony end in front that the picture shows.
    if rib > 7.5 {
        return;
    }
    let drop = 34.0 + 5.5 * rib;
    let end = 0.40 * anatomy.half_width + 2.5 * rib;
    let front = line(16, |t| {
        let x = wall - (wall - end) * t * (0.25 + 0.75 * t);
        let y = turn + drop * t * (1.45 - 0.45 * t);
        let weight = (1.0 - 0.35 * t) * (1.0 - 0.6 * step(0.85, 1.0, t));
        Node {
            p: at(side.sign() * x + 0.5 * anatomy.turn_mm * t, y),
            radius: radius + 1.2 * t,
            weight,
        }
    });
    canvas.stroke(&front, Section::Bone(0.0098), Within::Body);
}

/// Vertebral bodies with their discs, pedicles and spinous processes.
fn spine(canvas: &mut Canvas, anatomy: &Anatomy) {
    let top = -120.0;
    // Vertebrae grow downwards: pitch and half-width, mm.
    let mut y = top;
    while y < anatomy.height + 160.0 {
        let t = ((y - top) / 420.0).clamp(0.0, 1.0);
        let (pitch, half) = (16.0 + 15.0 * t, 12.5 + 9.5 * t);
        let middle = at(anatomy.spine.at(y), y);
        canvas.patch(middle, (half * 1.1, pitch * 0.47), Within::Body, |x, y| {
            // Waisted in the middle; the end plates are fine lines.
            let waist = step(1.0, 0.8, x.abs() * (1.09 - 0.09 * y * y));
            let plate = step(0.62, 0.8, y.abs()) * step(1.0, 0.86, y.abs());
            waist * step(1.0, 0.84, y.abs()) * (0.055 + 0.05 * plate + 0.02 * x * x)
        });
        for side in Side::BOTH {
            let pedicle = at(middle.x + side.sign() * 0.62 * half, y - 0.1 * pitch);
            canvas.ellipse(pedicle, (2.9, 4.6), Within::Body, |q, _| {
                0.05 * step(0.1, 0.6, q) * step(1.0, 0.8, q)
            });
        }
        let process = [
            Node {
                p: at(middle.x - 0.25 * anatomy.turn_mm, y + 0.25 * pitch),
                radius: 2.4,
                weight: 1.0,
            },
            Node {
                p: at(middle.x - 0.25 * anatomy.turn_mm, y + 0.5 * pitch),
                radius: 3.6,
                weight: 1.0,
            },
        ];
        canvas.stroke(&process, Section::Flat(0.05), Within::Body);
        y += pitch;
    }
    let column = line(24, |t| {
        let y = top + t * (anatomy.height + 160.0 - top);
        Node { p: at(anatomy.spine.at(y), y), radius: 13.0 + 9.0 * t, weight: 1.0 }
    });
    canvas.stroke(&column, Section::Rod(0.0028), Within::Body);
}

fn clavicle(canvas: &mut Canvas, anatomy: &Anatomy, side: Side) {
    // AP beams come from higher up: the collar bones climb above the apices' foot.
    let base = match anatomy.projection {
        Projection::Pa => 54.0,
        Projection::Ap => 40.0,
    };
    let reach = anatomy.half_width * 1.06;
    let lift = 36.0;
    let bone = line(24, |t| {
        let x = side.sign() * (15.0 + reach * t) + anatomy.turn_mm * (1.0 - t);
        // A flat S: down first, then up to the shoulder.
        let y = base - lift * t - 9.0 * t * (1.0 - t) * (1.0 - 2.0 * t);
        let ends = (2.0 * t - 1.0) * (2.0 * t - 1.0);
        Node { p: at(x, y), radius: 5.0 + 2.6 * ends, weight: 1.0 }
    });
    canvas.stroke(&bone, Section::Bone(0.0165), Within::Body);
}

fn shoulder(canvas: &mut Canvas, anatomy: &Anatomy, side: Side) {
    // PA: the shoulders roll forward and carry the blades off the lungs; AP: they lie over them.
    let medial = match anatomy.projection {
        Projection::Pa => 0.97,
        Projection::Ap => 0.78,
    } * anatomy.half_width;
    let place = |x: f32, y: f32| at(side.sign() * x, y);
    let joint = anatomy.half_width + 26.0;
    let node = |p: Point, radius: f32| Node { p, radius, weight: 1.0 };
    let blade = [
        node(place(medial + 16.0, 38.0), 20.0),
        node(place(medial + 19.0, 90.0), 18.0),
        node(place(medial + 20.0, 140.0), 8.0),
    ];
    canvas.stroke(&blade, Section::Flat(0.05), Within::Body);
    let border = [
        node(place(medial + 6.0, 22.0), 1.4),
        node(place(medial - 1.0, 60.0), 1.8),
        node(place(medial + 8.0, 115.0), 1.9),
        node(place(medial + 20.0, 148.0), 2.4),
        node(place(medial + 30.0, 110.0), 3.2),
        node(place(joint - 6.0, 62.0), 4.2),
    ];
    canvas.stroke(&border, Section::Flat(0.085), Within::Body);
    let ridge = [
        node(place(medial + 2.0, 44.0), 2.2),
        node(place(joint - 4.0, 18.0), 4.5),
        node(place(joint + 12.0, 10.0), 7.0),
    ];
    canvas.stroke(&ridge, Section::Bone(0.013), Within::Body);
    let coracoid = [node(place(joint - 20.0, 32.0), 6.0), node(place(joint - 12.0, 30.0), 6.5)];
    canvas.stroke(&coracoid, Section::Bone(0.012), Within::Body);
    let arm = match anatomy.projection {
        Projection::Pa => 62.0,
        Projection::Ap => 44.0,
    };
    let humerus = [
        node(place(joint + 14.0, 40.0), 21.0),
        node(place(joint + 24.0, 62.0), 15.0),
        node(place(joint + 34.0, 100.0), 11.0),
        node(place(joint + arm, 330.0), 11.0),
    ];
    canvas.stroke(&humerus, Section::Bone(0.008), Within::Body);
    let flesh = [
        node(place(joint + 2.0, 52.0), 46.0),
        node(place(joint + 34.0, 120.0), 38.0 * (0.5 + 0.5 * anatomy.girth)),
        node(place(joint + arm, 330.0), 34.0 * (0.5 + 0.5 * anatomy.girth)),
    ];
    canvas.stroke(&flesh, Section::Rod(0.0034), Within::Body);
}
