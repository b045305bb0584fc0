//! The patient who never was: sizes, outlines and looks, drawn by lot from the seed.
//!
//! Lengths are adult and rounded; they were picked by eye until the pictures looked right, with
//! textbook values as the start (thorax 25 to 30 cm wide, cardiothoracic ratio below 0.5).

use super::finding::Finding;
use super::math::{Curve, Point, Source, Stream, step};
use super::{Phantom, Projection};

/// A side of the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The patient's right, the left of the picture.
    Right,
    /// The patient's left.
    Left,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Right, Self::Left];

    /// The sign of `x` on this side.
    pub(super) fn sign(self) -> f32 {
        match self {
            Self::Right => -1.0,
            Self::Left => 1.0,
        }
    }

    /// The side that a place lies on.
    pub(super) fn of(x: f32) -> Self {
        if x < 0.0 { Self::Right } else { Self::Left }
    }

    /// The side by lot.
    pub(super) fn drawn(source: &mut Source) -> Self {
        if source.chance(0.5) { Self::Right } else { Self::Left }
    }
}

/// How the exposure came out.
#[derive(Debug)]
pub(super) struct Look {
    /// Attenuation that is shown as mid-grey.
    pub(super) centre: f32,
    /// Attenuation per unit of the display curve's argument: larger is flatter.
    pub(super) latitude: f32,
    /// Quantum noise in air, attenuation units at 0.4 mm pixels.
    pub(super) noise: f32,
    /// Blur of focus, motion and detector, mm.
    pub(super) blur_mm: f32,
    /// Unexposed margins, share of the field: left, right, top, bottom.
    pub(super) shutter: [f32; 4],
}

/// Breast shadows.
#[derive(Debug)]
pub(super) struct Breasts {
    /// Centre of the left one; the right one mirrors it.
    pub(super) centre: Point,
    /// Half the width and half the height, mm.
    pub(super) radii: (f32, f32),
    /// Attenuation at the thickest place.
    pub(super) amount: f32,
}

/// Everything that is drawn, before it is drawn.
#[derive(Debug)]
pub(super) struct Anatomy {
    pub(super) projection: Projection,
    /// Size of the patient in the picture, 1 for the mean.
    pub(super) scale: f32,
    /// Turn in the picture's plane, degrees.
    pub(super) tilt: f32,
    /// Place of the picture's centre in the patient's plane.
    pub(super) centre: Point,
    /// Half the inner width of the thorax, mm.
    pub(super) half_width: f32,
    /// From the apex of the lungs to the costophrenic angles, mm.
    pub(super) height: f32,
    /// How thick patient and chest wall are, 1 for the mean.
    pub(super) girth: f32,
    /// Turn about the long axis: how far the front moved against the spine, mm.
    pub(super) turn_mm: f32,
    /// Tops of the diaphragm's domes, right and left, mm.
    pub(super) domes: [f32; 2],
    /// Half-width of the pleural outline by height.
    pub(super) wall: Curve,
    /// The mediastinum's borders by height, right and left, distance from the midline.
    pub(super) borders: [Curve; 2],
    /// Half-width of neck, shoulders and trunk by height.
    pub(super) outline: Curve,
    /// Attenuation of the full depth of soft tissue by height.
    pub(super) depth: Curve,
    /// The spine's midline by height.
    pub(super) spine: Curve,
    pub(super) breasts: Option<Breasts>,
    /// Strength of the lungs' vessels and texture, 1 for the mean.
    pub(super) markings: f32,
    pub(super) look: Look,
    pub(super) finding: Finding,
    /// Width of the heart over the inner width of the thorax.
    pub(super) cardiothoracic_ratio: f32,
}

impl Anatomy {
    pub(super) fn of(phantom: &Phantom) -> Self {
        let source = &mut Source::new(phantom.seed, Stream::Anatomy);
        let supine = phantom.projection == Projection::Ap;
        let half_width = source.between(126.0, 147.0);
        // AP pictures are mostly taken in bed: shallow breath, magnified heart.
        let breath = source.between(0.0, 1.0) * if supine { 0.6 } else { 1.0 };
        let height = 236.0 + 34.0 * breath + if supine { -8.0 } else { 6.0 };
        let girth = source.between(0.82, 1.25);
        let right_dome = height - source.between(44.0, 56.0);
        let domes = [right_dome, right_dome + source.between(7.0, 19.0)];
        let turn_mm = source.between(-7.0, 7.0);
        let ratio = source.between(0.40, 0.46) * if supine { 1.06 } else { 1.0 };
        let stretch = height / 262.0;
        let finding = Finding::of(phantom, half_width, height);
        let ratio = finding.cardiothoracic_ratio().unwrap_or(ratio);
        let borders = borders(source, ratio * 2.0 * half_width, stretch);
        let cardiothoracic_ratio = (borders[0].max() + borders[1].max()) / (2.0 * half_width);
        Self {
            projection: phantom.projection,
            scale: source.between(0.97, 1.1),
            tilt: source.between(-2.2, 2.2),
            centre: Point {
                x: source.between(-9.0, 9.0),
                y: 0.5 * height - source.between(4.0, 22.0),
            },
            half_width,
            height,
            girth,
            turn_mm,
            domes,
            wall: wall(half_width, height),
            borders,
            outline: outline(source, half_width, girth),
            depth: depth(source, girth),
            spine: spine(source),
            breasts: breasts(source, half_width, height, supine),
            markings: source.between(0.75, 1.3),
            look: look(source, supine),
            finding,
            cardiothoracic_ratio,
        }
    }

    /// Height of the diaphragm at a distance from the midline.
    ///
    /// The dome falls gently towards the heart and steeply into the costophrenic angle.
    pub(super) fn dome(&self, side: Side, distance: f32) -> f32 {
        let top = self.domes[side as usize];
        let middle = 0.5 * self.half_width;
        if distance < middle {
            let s = (middle - distance) / middle;
            top + 15.0 * s * s
        } else {
            let s = (distance - middle) / (self.half_width - middle);
            top + (self.height - top) * s * s * (0.55 + 0.45 * s * s)
        }
    }
}

/// The pleural outline: a tall arch, almost straight from mid-height on.
fn wall(half_width: f32, height: f32) -> Curve {
    let mut wall = Curve::through(&[(0.0, 0.0), (height + 40.0, 0.0)], 0);
    wall.change(|y, _| {
        let rest = 1.0 - (y / (0.84 * height)).min(1.0);
        let arch = (1.0 - rest * rest).max(0.0).sqrt();
        let tuck = 0.02 * step(0.85 * height, 1.1 * height, y);
        half_width * (0.25 + 0.75 * arch - tuck)
    });
    wall
}

/// Right: vena cava, right atrium. Left: aortic knob, pulmonary trunk, left ventricle.
fn borders(source: &mut Source, heart_width: f32, stretch: f32) -> [Curve; 2] {
    let right = heart_width * source.between(0.30, 0.35);
    let left = heart_width - right;
    let knob = source.between(32.0, 43.0);
    let trunk = source.between(29.0, 36.0).max(0.42 * left);
    let top = source.between(21.0, 27.0);
    let y = |y: f32| y * stretch;
    let mut right_border = Curve::through(
        &[
            (-10.0, top),
            (y(40.0), top + 2.0),
            (y(95.0), top + 5.0),
            (y(125.0), top + 8.0),
            (y(150.0), 0.86 * right),
            (y(178.0), right),
            (y(196.0), right),
            (y(225.0), 0.8 * right),
            (y(300.0), 0.6 * right),
        ],
        6,
    );
    let mut left_border = Curve::through(
        &[
            (-10.0, top),
            (y(58.0), top + 3.0),
            (y(66.0), knob),
            (y(84.0), knob),
            (y(93.0), 26.0),
            (y(108.0), trunk),
            (y(122.0), trunk + 3.0),
            (y(150.0), 0.72 * left),
            (y(180.0), 0.93 * left),
            (y(202.0), left),
            (y(212.0), left),
            (y(232.0), 0.88 * left),
            (y(300.0), 0.45 * left),
        ],
        4,
    );
    // Smoothing shaves the bulges; the heart's width is the promise, so put it back.
    for (border, width) in [(&mut right_border, right), (&mut left_border, left)] {
        let factor = width / border.max();
        border.change(|p, x| x * (1.0 + (factor - 1.0) * step(y(120.0), y(170.0), p)));
    }
    [right_border, left_border]
}

/// Neck, the slope of the trapezius, shoulders, trunk.
fn outline(source: &mut Source, half_width: f32, girth: f32) -> Curve {
    let neck = 52.0 * (0.6 + 0.4 * girth);
    let trunk = half_width + 27.0 * girth;
    let slope = source.between(-10.0, 12.0);
    let hip = source.between(-8.0, 10.0);
    Curve::through(
        &[
            (-140.0, neck + 6.0),
            (-70.0, neck),
            (-40.0, neck + 4.0),
            (-22.0 + slope, neck + 32.0),
            (-6.0 + slope, half_width - 8.0),
            (10.0 + slope, half_width + 36.0),
            (40.0, half_width + 52.0),
            (90.0, trunk + 14.0),
            (130.0, trunk),
            (230.0, trunk),
            (400.0, trunk + hip),
        ],
        7,
    )
}

fn depth(source: &mut Source, girth: f32) -> Curve {
    let belly = source.between(1.12, 1.28);
    let t = 0.35 + 0.65 * girth;
    let knots = [
        (-140.0, 0.66),
        (-40.0, 0.66),
        (0.0, 0.8),
        (60.0, 0.98),
        (180.0, 1.0),
        (260.0, belly),
        (400.0, belly),
    ];
    Curve::through(&knots.map(|(y, d)| (y, d * t)), 15)
}

/// A spine is never quite straight.
fn spine(source: &mut Source) -> Curve {
    let bend = |source: &mut Source| source.between(-4.0, 4.0);
    Curve::through(
        &[
            (-140.0, 0.0),
            (-20.0, bend(source)),
            (110.0, bend(source)),
            (220.0, bend(source)),
            (400.0, 0.0),
        ],
        30,
    )
}

fn breasts(source: &mut Source, half_width: f32, height: f32, supine: bool) -> Option<Breasts> {
    let present = source.chance(0.45);
    let lying = if supine { 12.0 } else { 0.0 };
    let centre = Point { x: 0.53 * half_width + lying, y: height - source.between(58.0, 88.0) };
    let radii = (source.between(50.0, 64.0) + lying, source.between(52.0, 72.0));
    let amount = source.between(0.07, 0.2);
    present.then_some(Breasts { centre, radii, amount })
}

fn look(source: &mut Source, supine: bool) -> Look {
    let shuttered = source.chance(0.35);
    let mut margin = || {
        let wide = source.between(-0.03, 0.05);
        if shuttered { wide.max(0.0) } else { 0.0 }
    };
    let shutter = [margin(), margin(), margin(), margin()];
    Look {
        centre: source.between(0.60, 0.76),
        latitude: source.between(0.18, 0.25) * if supine { 1.15 } else { 1.0 },
        noise: source.between(0.004, 0.008) * if supine { 1.5 } else { 1.0 },
        blur_mm: if supine { source.between(0.7, 1.0) } else { source.between(0.3, 0.5) },
        shutter,
    }
}
