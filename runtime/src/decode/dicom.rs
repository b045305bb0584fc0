//! A DICOM file (PS3.10) to a frame.

use std::borrow::Cow;

use dicom_dictionary_std::tags;

use super::elements::Elements;
use super::{DecodeError, Frame, facts, grey, pixels, within};
use crate::config::{self, DicomLimits};
use crate::id::Uid;
use crate::ingest::meta::{self, Meta};
use crate::ingest::{structure, syntax};

/// Decodes file meta group and data set.
pub(super) fn decode(
    file: &[u8],
    limits: &config::Decode,
    structure: &DicomLimits,
) -> Result<Frame, DecodeError> {
    let corrupt =
        |text: &str| DecodeError::Corrupt { what: "the file meta group", text: text.into() };
    let Meta { transfer_syntax: uid, data_set, .. } = meta::split(file).map_err(corrupt)?;
    let syntax = syntax::of(uid).ok_or_else(|| unsupported(uid))?;
    let data_set = if syntax.deflated {
        Cow::Owned(structure::inflate(data_set, limits.inflated.as_u64())?)
    } else {
        Cow::Borrowed(data_set)
    };
    let elements = Elements::find(&data_set, syntax.uid, structure)?;
    if !elements.has_pixels() {
        return Err(DecodeError::PixelsMissing);
    }
    let layout = layout(&elements, limits)?;
    let words = pixels::samples(&elements, syntax, &layout)?;
    Ok(Frame {
        rows: layout.rows,
        columns: layout.columns,
        words,
        grey: grey::grey(&elements, &layout)?,
        facts: facts::facts(&elements),
    })
}

/// How samples are stored: PS3.3 C.7.6.3, PS3.5 8.1.
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// 8 or 16.
    pub(super) bits_allocated: u16,
    pub(super) bits_stored: u16,
    pub(super) high_bit: u16,
    pub(super) signed: bool,
    /// MONOCHROME1.
    pub(super) inverted: bool,
}

/// A transfer syntax that is not decoded; named only where it has the form of a UID.
fn unsupported(syntax: &str) -> DecodeError {
    let found = syntax.parse::<Uid>().map_or("text that is no UID", |_| syntax);
    DecodeError::Syntax { found: found.into() }
}

/// Checks everything that the pixels are believed by, before any of them is touched.
fn layout(elements: &Elements<'_>, limits: &config::Decode) -> Result<Layout, DecodeError> {
    let wrong = |name, expected: &str, found: u16| {
        Err(DecodeError::Attribute { name, expected: expected.into(), found: found.to_string() })
    };
    let samples = elements.short(tags::SAMPLES_PER_PIXEL, "Samples per Pixel")?.unwrap_or(1);
    let inverted = match elements.text(tags::PHOTOMETRIC_INTERPRETATION) {
        Some("MONOCHROME1") => true,
        Some("MONOCHROME2") => false,
        Some(_) => return Err(DecodeError::Colour { samples }),
        None => {
            let (expected, found) = ("MONOCHROME1 or MONOCHROME2".into(), "none".into());
            return Err(DecodeError::Attribute {
                name: "Photometric Interpretation",
                expected,
                found,
            });
        }
    };
    if samples != 1 {
        return Err(DecodeError::Colour { samples });
    }
    let frames = elements.decimal(tags::NUMBER_OF_FRAMES, "Number of Frames")?.unwrap_or(1.0);
    if (frames - 1.0).abs() > f64::EPSILON {
        return Err(DecodeError::MultiFrame { found: frames });
    }
    let rows = elements.required_short(tags::ROWS, "Rows")?;
    let columns = elements.required_short(tags::COLUMNS, "Columns")?;
    if rows == 0 || columns == 0 {
        return wrong("Rows and Columns", "at least 1", 0);
    }
    within(rows.into(), columns.into(), limits)?;
    let bits_allocated = elements.required_short(tags::BITS_ALLOCATED, "Bits Allocated")?;
    if bits_allocated != 8 && bits_allocated != 16 {
        return wrong("Bits Allocated", "8 or 16", bits_allocated);
    }
    let bits_stored = elements.required_short(tags::BITS_STORED, "Bits Stored")?;
    if !(1..=bits_allocated).contains(&bits_stored) {
        return wrong("Bits Stored", "1 to Bits Allocated", bits_stored);
    }
    let high_bit = elements.short(tags::HIGH_BIT, "High Bit")?.unwrap_or(bits_stored - 1);
    if !(bits_stored - 1..bits_allocated).contains(&high_bit) {
        return wrong("High Bit", "Bits Stored - 1 to Bits Allocated - 1", high_bit);
    }
    let signed =
        match elements.short(tags::PIXEL_REPRESENTATION, "Pixel Representation")?.unwrap_or(0) {
            0 => false,
            1 => true,
            found => return wrong("Pixel Representation", "0 or 1", found),
        };
    let (rows, columns) = (rows.into(), columns.into());
    Ok(Layout { rows, columns, bits_allocated, bits_stored, high_bit, signed, inverted })
}
