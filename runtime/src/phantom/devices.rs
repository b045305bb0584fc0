//! Hardware: pacemakers, tubes, lines, electrodes, and the side marker.

use super::anatomy::{Anatomy, Side};
use super::canvas::{Canvas, Node, Section, Within};
use super::finding::{Device, Finding};
use super::math::{Curve, Point, Source, Stream, at, step};

/// Draws the device, where the variant has one.
pub(super) fn draw(canvas: &mut Canvas, anatomy: &Anatomy, seed: u64) {
    let Finding::Device(device) = &anatomy.finding else { return };
    // The finding's own lots are drawn; a few more of the same stream vary the routes.
    let source = &mut Source::new(seed ^ 0x5eed, Stream::Finding);
    match *device {
        Device::Pacemaker { side, dual } => pacemaker(canvas, anatomy, source, side, dual),
        Device::Lines { tracheal, gastric, venous, electrodes } => {
            if tracheal {
                tracheal_tube(canvas, anatomy, source);
            }
            if gastric {
                gastric_tube(canvas, anatomy);
            }
            // Without any of the other three the picture would show nothing.
            venous_line(canvas, anatomy, venous);
            if electrodes {
                electrode_leads(canvas, anatomy, source);
            }
        }
    }
}

/// A smooth route through places, each `radius` wide.
fn route(places: &[Point], radius: f32) -> Vec<Node> {
    let mut knots: Vec<[(f32, f32); 2]> = Vec::new();
    let mut along = 0.0;
    for (i, p) in places.iter().enumerate() {
        if i > 0 {
            let (dx, dy) = (p.x - places[i - 1].x, p.y - places[i - 1].y);
            along += (dx * dx + dy * dy).sqrt().max(1.0);
        }
        knots.push([(along, p.x), (along, p.y)]);
    }
    let axis = |i: usize| Curve::through(&knots.iter().map(|k| k[i]).collect::<Vec<_>>(), 9);
    let (x, y) = (axis(0), axis(1));
    let mut nodes = Vec::new();
    let mut s = 0.0;
    while s < along {
        nodes.push(Node { p: at(x.at(s), y.at(s)), radius, weight: 1.0 });
        s += 4.0;
    }
    nodes
}

fn heart(anatomy: &Anatomy) -> (f32, f32) {
    (anatomy.turn_mm + anatomy.finding.push_mm(), anatomy.height / 262.0)
}

fn pacemaker(canvas: &mut Canvas, anatomy: &Anatomy, source: &mut Source, side: Side, dual: bool) {
    let (middle, stretch) = heart(anatomy);
    let s = side.sign();
    let can = at(s * anatomy.half_width * source.between(0.66, 0.84), source.between(38.0, 62.0));
    let node =
        |x: f32, y: f32, radius: f32| Node { p: at(can.x + s * x, can.y + y), radius, weight: 1.0 };
    canvas.stroke(
        &[node(-6.0, 0.0, 19.0), node(6.0, 3.0, 19.0)],
        Section::Flat(0.85),
        Within::Body,
    );
    canvas.stroke(&[node(-4.0, 6.0, 9.0), node(8.0, 7.0, 9.0)], Section::Flat(0.5), Within::Body);
    canvas.stroke(
        &[node(-15.0, -15.0, 5.5), node(-2.0, -19.0, 5.5)],
        Section::Flat(0.3),
        Within::Body,
    );
    let vein = at(middle + s * 42.0, 26.0);
    let cava = at(middle - 19.0, 70.0 * stretch);
    let out = at(can.x - s * 10.0, can.y - 18.0);
    let loop_mm = at(can.x - s * 34.0, can.y - 26.0);
    let ventricle =
        at(middle + anatomy.borders[1].max() * source.between(0.55, 0.8), 206.0 * stretch);
    let low = at(middle + 2.0, 196.0 * stretch);
    let mut leads = vec![vec![
        out,
        loop_mm,
        vein,
        at(middle - 10.0, 42.0),
        cava,
        at(middle - 24.0, 150.0 * stretch),
        low,
        ventricle,
    ]];
    if dual {
        let atrium = at(middle - 24.0, 152.0 * stretch);
        let hook = at(middle - 12.0, 176.0 * stretch);
        let start = at(out.x + s * 4.0, out.y - 3.0);
        let over = at(loop_mm.x, loop_mm.y - 5.0);
        leads.push(vec![
            start,
            over,
            at(vein.x, vein.y - 3.0),
            at(middle - 8.0, 46.0),
            cava,
            hook,
            atrium,
        ]);
    }
    for places in leads {
        let lead = route(&places, 0.95);
        canvas.stroke(&lead, Section::Flat(0.34), Within::Body);
        let tip: Vec<Node> =
            lead.iter().rev().take(3).map(|n| Node { radius: 1.5, ..*n }).collect();
        canvas.stroke(&tip, Section::Flat(0.4), Within::Body);
    }
}

fn tracheal_tube(canvas: &mut Canvas, anatomy: &Anatomy, source: &mut Source) {
    let (middle, stretch) = heart(anatomy);
    let tip = 93.0 * stretch - source.between(28.0, 58.0);
    let tube = route(&[at(6.0, -140.0), at(0.3 * middle, -60.0), at(0.5 * middle - 2.0, tip)], 4.6);
    canvas.stroke(&tube, Section::Bone(0.016), Within::Body);
    let stripe: Vec<Node> =
        tube.iter().map(|n| Node { p: at(n.p.x + 3.4, n.p.y), radius: 0.9, ..*n }).collect();
    canvas.stroke(&stripe, Section::Flat(0.4), Within::Body);
}

fn gastric_tube(canvas: &mut Canvas, anatomy: &Anatomy) {
    let (middle, _) = heart(anatomy);
    let dome = anatomy.domes[1];
    let places = [
        at(-7.0, -140.0),
        at(5.0, 10.0),
        at(middle + 4.0, 110.0),
        at(middle + 8.0, dome),
        at(42.0, dome + 30.0),
        at(66.0, dome + 62.0),
    ];
    let tube = route(&places, 2.3);
    canvas.stroke(&tube, Section::Bone(0.03), Within::Body);
    canvas.stroke(&route(&places, 0.7), Section::Flat(0.25), Within::Body);
}

fn venous_line(canvas: &mut Canvas, anatomy: &Anatomy, side: Side) {
    let (middle, stretch) = heart(anatomy);
    let s = side.sign();
    let cava = [at(middle - 20.0, 62.0 * stretch), at(middle - 24.0, 108.0 * stretch)];
    let mut places = vec![
        at(s * 62.0, -88.0),
        at(s * 44.0, -52.0),
        at(s * 34.0, -20.0),
        at(middle + s * 25.0, 24.0),
    ];
    if side == Side::Left {
        places.push(at(middle, 44.0));
    }
    places.extend(cava);
    canvas.stroke(&route(&places, 1.35), Section::Flat(0.27), Within::Body);
}

/// Discs on the skin with wires that leave the picture.
fn electrode_leads(canvas: &mut Canvas, anatomy: &Anatomy, source: &mut Source) {
    let w = anatomy.half_width;
    for (x, y, out) in
        [(-0.72, 34.0, -1.0), (0.74, 40.0, 1.0), (0.86, 215.0, 1.0), (-0.84, 225.0, -1.0)]
    {
        let p = at(x * w + source.between(-12.0, 12.0), y + source.between(-14.0, 14.0));
        canvas.ellipse(p, (5.2, 5.2), Within::Body, |q, _| {
            0.3 * step(1.0, 0.8, q) + 0.3 * step(0.4, 0.2, q)
        });
        let sag = source.between(20.0, 70.0);
        let places = [
            p,
            at(p.x + out * 26.0, p.y + 0.7 * sag),
            at(p.x + out * 10.0, p.y + sag + 40.0),
            at(out * 1.7 * w, p.y + sag + source.between(20.0, 120.0)),
        ];
        canvas.stroke(&route(&places, 1.0), Section::Flat(0.2), Within::Body);
    }
}

/// The lead letter that tells the sides apart: an L in the corner on the patient's left.
pub(super) fn side_marker(canvas: &mut Canvas, seed: u64) {
    let source = &mut Source::new(seed ^ 0x1e77e5, Stream::Anatomy);
    let place = |share: f32, of: usize| super::math::index(share * of as f32);
    let row = place(source.between(0.05, 0.1), canvas.rows);
    let column = place(source.between(0.87, 0.93), canvas.columns);
    let corner = canvas.place(row, column);
    let lean = source.between(-0.25, 0.25);
    let node = |x: f32, y: f32| Node {
        p: at(corner.x + x - lean * y, corner.y + y + lean * x),
        radius: 1.7,
        weight: 1.0,
    };
    canvas.stroke(
        &[node(0.0, 0.0), node(0.0, 15.0), node(9.0, 15.0)],
        Section::Flat(1.6),
        Within::Body,
    );
}
