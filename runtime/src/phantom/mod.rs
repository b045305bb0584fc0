//! Phantoms: chest radiographs that no patient ever had, drawn from a seed.
//!
//! The demo, the self-test, the tests and the demo bundle's training use the same ones. A phantom
//! looks like a chest radiograph at arm's length; it is no model of disease, and what reads it
//! well is shown to read phantoms, nothing else.
//!
//! A drawing is a map of attenuation in mm of the patient's plane (`anatomy` by lot, `fields`,
//! `organs`, `bones`, `devices` on a `canvas`) that is exposed and displayed (`draw`).
//! The same arguments give the same bytes on every machine: no mathematics library is called.

mod anatomy;
mod bones;
mod canvas;
mod devices;
mod dicom;
mod draw;
mod fields;
mod finding;
mod math;
mod organs;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Cursor;
use std::str::FromStr;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Phantom {
    /// Decides everything that is drawn by lot; the variants of one seed share their anatomy.
    pub seed: u64,
    /// How the patient stands to the tube.
    pub projection: Projection,
    /// What is to be seen.
    pub variant: Variant,
}

/// How the ray goes through the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projection {
    /// From back to front, standing.
    Pa,
    /// From front to back, mostly at the bedside: larger heart, higher diaphragm, less sharp.
    Ap,
}

impl Projection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pa, Self::Ap];

    /// As DICOM's View Position says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pa => "PA",
            Self::Ap => "AP",
        }
    }
}

/// What is to be seen on a phantom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Nothing but the chest.
    Normal,
    /// Fluid at the base of one lung or both.
    Effusion,
    /// A heart wider than 0.55 of the thorax.
    Cardiomegaly,
    /// Air between one lung and the chest wall.
    Pneumothorax,
    /// One to three round opacities of 8 to 30 mm.
    Nodule,
    /// Pacemaker, or tubes, lines and electrodes.
    Device,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Normal,
        Self::Effusion,
        Self::Cardiomegaly,
        Self::Pneumothorax,
        Self::Nodule,
        Self::Device,
    ];

    /// Name, lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Effusion => "effusion",
            Self::Cardiomegaly => "cardiomegaly",
            Self::Pneumothorax => "pneumothorax",
            Self::Nodule => "nodule",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = PhantomError;

    fn from_str(text: &str) -> Result<Self, PhantomError> {
        let found = || PhantomError::UnknownVariant { found: text.into() };
        Self::ALL.into_iter().find(|variant| variant.name() == text).ok_or_else(found)
    }
}

/// How a phantom is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// Height, pixels.
    pub rows: usize,
    /// Width, pixels.
    pub columns: usize,
    /// Bits of a stored sample, 8..=16.
    pub bits_stored: u16,
    /// Whether large samples are bright or dark.
    pub photometric: Photometric,
}

impl Default for Encoding {
    /// A 35 x 43 cm detector at 0.34 mm, 12 bit, as most makers store it.
    fn default() -> Self {
        Self { rows: 1_250, columns: 1_024, bits_stored: 12, photometric: Photometric::Monochrome2 }
    }
}

/// What the smallest sample looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Photometric {
    /// White.
    Monochrome1,
    /// Black.
    Monochrome2,
}

impl Photometric {
    /// As DICOM's Photometric Interpretation says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Monochrome1 => "MONOCHROME1",
            Self::Monochrome2 => "MONOCHROME2",
        }
    }
}

/// A drawn phantom.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// Height, pixels.
    pub rows: usize,
    /// Width, pixels.
    pub columns: usize,
    /// Displayed brightness, 0 (black) ..=1 (white), `[rows, columns]`.
    pub values: Vec<f32>,
}

/// Why a phantom could not be drawn or stored.
#[derive(Debug, thiserror::Error)]
pub enum PhantomError {
    /// No variant has this name.
    #[error(
        "expected a phantom's variant (normal, effusion, cardiomegaly, pneumothorax, nodule or device), found {found:?}"
    )]
    UnknownVariant {
        /// What was given.
        found: String,
    },
    /// DICOM stores samples of other depths, or none at all.
    #[error("storing a phantom: expected 8 to 16 bits stored, found {found}")]
    BitsStored {
        /// What was asked for.
        found: u16,
    },
    /// Too small to draw, or more than Rows and Columns (US) can say.
    #[error("storing a phantom: expected 16 to 65535 rows and columns, found {rows} x {columns}")]
    Size {
        /// Height that was asked for.
        rows: usize,
        /// Width that was asked for.
        columns: usize,
    },
    /// A picture could not be encoded.
    #[error("encoding a phantom as PNG: {0}")]
    Png(image::ImageError),
    /// A data set could not be written.
    #[error("encoding a phantom as DICOM: {0}")]
    Dicom(Box<dyn std::error::Error + Send + Sync>),
}

impl Phantom {
    /// Draws the phantom; the whole chest is on the picture at any size.
    #[must_use]
    pub fn draw(&self, rows: usize, columns: usize) -> Drawing {
        draw::draw(self, rows, columns)
    }

    /// Width of the heart over the inner width of the thorax, as drawn.
    #[must_use]
    pub fn cardiothoracic_ratio(&self) -> f32 {
        anatomy::Anatomy::of(self).cardiothoracic_ratio
    }
}

impl Drawing {
    /// The samples that an encoding stores, `[rows, columns]`, 0..=2^bits - 1.
    fn samples(&self, bits_stored: u16, photometric: Photometric) -> Vec<u16> {
        let largest = u16::MAX >> (16 - bits_stored);
        let sample = |value: f32| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "value is within 0..=1, so the product is within 0..=largest"
            )]
            let sample = (value.clamp(0.0, 1.0) * f32::from(largest) + 0.5) as u16;
            match photometric {
                Photometric::Monochrome1 => largest - sample.min(largest),
                Photometric::Monochrome2 => sample.min(largest),
            }
        };
        self.values.iter().map(|&value| sample(value)).collect()
    }

    /// The drawing as an 8-bit grey PNG.
    ///
    /// # Errors
    /// The drawing is larger than a PNG can be.
    pub fn to_png(&self) -> Result<Vec<u8>, PhantomError> {
        let size = PhantomError::Size { rows: self.rows, columns: self.columns };
        let (Ok(width), Ok(height)) = (u32::try_from(self.columns), u32::try_from(self.rows))
        else {
            return Err(size);
        };
        let grey = self
            .samples(8, Photometric::Monochrome2)
            .into_iter()
            .map(|s| s.to_le_bytes()[0])
            .collect();
        let picture = image::GrayImage::from_raw(width, height, grey).ok_or(size)?;
        let mut png = Vec::new();
        picture
            .write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png)
            .map_err(PhantomError::Png)?;
        Ok(png)
    }
}
