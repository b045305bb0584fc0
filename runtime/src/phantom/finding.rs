//! What a variant adds to the normal anatomy: where, on which side and how much, by lot.

use super::anatomy::Side;
use super::math::{Point, Source, Stream, at};
use super::{Phantom, Projection, Variant};

/// What is wrong with the patient, in the terms that the drawing needs.
#[derive(Debug)]
pub(super) enum Finding {
    /// Nothing.
    None,
    /// Fluid up to so many mm above the costophrenic angle, right and left; 0 is dry.
    Effusion([f32; 2]),
    /// A wide heart: its width over the inner width of the thorax.
    Cardiomegaly(f32),
    /// Air between lung and chest wall.
    Pneumothorax(Gap),
    /// Round opacities.
    Nodules(Vec<Nodule>),
    /// Something that was put into the patient or onto him.
    Device(Device),
}

/// The air-filled space of a pneumothorax.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) side: Side,
    /// Between chest wall and lung at the height of the apex, mm; narrows downwards.
    pub(super) lateral_mm: f32,
    /// How far the apex of the lung sank, mm.
    pub(super) apical_mm: f32,
}

/// A round opacity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nodule {
    pub(super) centre: Point,
    /// Half the diameter, mm.
    pub(super) radius: f32,
    /// Attenuation in the middle.
    pub(super) amount: f32,
}

/// Hardware.
#[derive(Debug, Clone, Copy)]
pub(super) enum Device {
    /// A pacemaker under the skin of one side, with one or two leads.
    Pacemaker {
        /// Side of the can.
        side: Side,
        /// Two leads (right atrium and right ventricle) instead of one.
        dual: bool,
    },
    /// Tubes and lines of intensive care.
    Lines {
        /// Breathing tube.
        tracheal: bool,
        /// Feeding tube.
        gastric: bool,
        /// Side of the central venous line.
        venous: Side,
        /// Electrodes on the skin, with leads.
        electrodes: bool,
    },
}

impl Finding {
    pub(super) fn of(phantom: &Phantom, half_width: f32, height: f32) -> Self {
        let source = &mut Source::new(phantom.seed, Stream::Finding);
        match phantom.variant {
            Variant::Normal => Self::None,
            Variant::Effusion => Self::Effusion(effusion(source)),
            // Normals end below 0.49; a reader calls more than 0.55 enlarged in either projection.
            Variant::Cardiomegaly => Self::Cardiomegaly(source.between(0.57, 0.69)),
            Variant::Pneumothorax => Self::Pneumothorax(Gap {
                side: Side::drawn(source),
                lateral_mm: source.between(16.0, 52.0),
                apical_mm: source.between(18.0, 55.0),
            }),
            Variant::Nodule => Self::Nodules(nodules(source, half_width, height)),
            Variant::Device => Self::Device(device(source, phantom.projection)),
        }
    }

    /// The width of the heart, where the finding sets it.
    pub(super) fn cardiothoracic_ratio(&self) -> Option<f32> {
        if let Self::Cardiomegaly(ratio) = self { Some(*ratio) } else { None }
    }

    /// How far the mediastinum is pushed towards the patient's left, mm.
    pub(super) fn push_mm(&self) -> f32 {
        match self {
            // An eighth of the gap, a twelfth of the difference in fluid: picked by eye.
            Self::Pneumothorax(gap) => -gap.side.sign() * gap.lateral_mm / 8.0,
            Self::Effusion([right, left]) => (right - left) / 12.0,
            Self::None | Self::Cardiomegaly(_) | Self::Nodules(_) | Self::Device(_) => 0.0,
        }
    }
}

fn effusion(source: &mut Source) -> [f32; 2] {
    let mut level = || source.between(46.0, 120.0);
    let (right, left) = (level(), level());
    match source.unit() {
        u if u < 0.38 => [right, 0.0],
        u if u < 0.76 => [0.0, left],
        // Both sides: mostly smaller ones.
        _ => [0.75 * right, 0.75 * left],
    }
}

fn nodules(source: &mut Source, half_width: f32, height: f32) -> Vec<Nodule> {
    // One in three out of five pictures.
    let count = match source.unit() {
        u if u < 0.6 => 1,
        u if u < 0.85 => 2,
        _ => 3,
    };
    let mut nodules: Vec<Nodule> = Vec::new();
    // Overlapping ones are drawn again; the limit only guards against bad luck.
    for _ in 0..50 {
        if nodules.len() == count {
            break;
        }
        let side = Side::drawn(source);
        let down = source.between(0.2, 0.7);
        // Clear of the heart, which reaches far to the left in the lower half.
        let medial = if side == Side::Left && down > 0.45 { 0.68 } else { 0.42 };
        let x = side.sign() * half_width * source.between(medial, 0.82);
        let radius = source.between(4.0, 15.0);
        let nodule = Nodule {
            centre: at(x, down * height),
            radius,
            amount: source.between(0.17, 0.25) + 0.005 * radius,
        };
        let apart = |other: &Nodule| {
            let (dx, dy) = (other.centre.x - x, other.centre.y - nodule.centre.y);
            dx * dx + dy * dy > 40.0 * 40.0
        };
        if nodules.iter().all(apart) {
            nodules.push(nodule);
        }
    }
    nodules
}

fn device(source: &mut Source, projection: Projection) -> Device {
    // Pacemakers walk to the stand, tubes are seen at the bedside.
    let pacemaker = source.chance(match projection {
        Projection::Pa => 0.7,
        Projection::Ap => 0.35,
    });
    let side = if source.chance(0.85) { Side::Left } else { Side::Right };
    if pacemaker {
        return Device::Pacemaker { side, dual: source.chance(0.6) };
    }
    Device::Lines {
        tracheal: source.chance(0.75),
        gastric: source.chance(0.5),
        venous: if source.chance(0.75) { Side::Right } else { Side::Left },
        electrodes: source.chance(0.85),
    }
}
