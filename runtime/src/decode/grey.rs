//! How stored samples become grey: what the header says of it, read and checked.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::dicom::Layout;
use super::elements::Elements;

/// How stored samples become grey, in the order in which it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grey {
    /// Bits Stored (0028,0101), 1 to 16.
    pub bits_stored: u16,
    /// Pixel Representation (0028,0103) is two's complement.
    pub signed: bool,
    /// From stored values to the modality's units.
    pub modality: Modality,
    /// From the modality's units to what a display shows.
    pub voi: Voi,
    /// Photometric Interpretation (0028,0004) is MONOCHROME1: the least value is white.
    pub inverted: bool,
}

impl Grey {
    /// Samples shown as they are stored, the least value black.
    #[must_use]
    pub fn plain(bits_stored: u16) -> Self {
        Self {
            bits_stored,
            signed: false,
            modality: Modality::IDENTITY,
            voi: Voi::FullRange,
            inverted: false,
        }
    }
}

/// The modality transformation (PS3.3 C.11.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Modality {
    /// Rescale Slope (0028,1053), not 0, and Rescale Intercept (0028,1052).
    Rescale {
        /// m of m * SV + b.
        slope: f64,
        /// b of m * SV + b.
        intercept: f64,
    },
    /// Modality LUT Sequence (0028,3000).
    Lut(Lut),
}

impl Modality {
    /// Modality units are stored values.
    pub const IDENTITY: Self = Self::Rescale { slope: 1.0, intercept: 0.0 };
}

/// The values of interest (PS3.3 C.11.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Voi {
    /// Neither window nor table: everything that the modality's units can hold.
    FullRange,
    /// The first window.
    Window(Window),
    /// The first item of VOI LUT Sequence (0028,3010).
    Lut(Lut),
}

/// A VOI window: (0028,1050), (0028,1051) and (0028,1056).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Window Center, in the modality's units.
    pub center: f64,
    /// Window Width: at least 1 for LINEAR, else more than 0.
    pub width: f64,
    /// What the two mean.
    pub function: Function,
}

/// VOI LUT Function (0028,1056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Function {
    /// PS3.3 C.11.2.1.2.1; also where the header does not tell.
    Linear,
    /// PS3.3 C.11.2.1.3.2.
    LinearExact,
    /// PS3.3 C.11.2.1.3.1.
    Sigmoid,
}

/// A lookup table: LUT Descriptor (0028,3002) and LUT Data (0028,3006).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lut {
    /// The input that the first entry answers; smaller ones get the same answer.
    pub first: i32,
    /// Bits of an entry, 8 to 16: the output's range is 0 to 2^bits - 1.
    pub bits: u16,
    /// At least one, at most 65,536; inputs beyond the last get the last.
    pub entries: Vec<u16>,
}

/// Reads everything that grey values depend on.
pub(super) fn grey(elements: &Elements<'_>, layout: &Layout) -> Result<Grey, DecodeError> {
    warn_of_a_contradicting_shape(elements, layout);
    let modality = modality(elements, layout.signed)?;
    // The VOI table's input is a stored value where nothing changed its sign before.
    let signed = match &modality {
        Modality::Rescale { intercept, .. } => layout.signed || *intercept < 0.0,
        Modality::Lut(_) => false,
    };
    Ok(Grey {
        bits_stored: layout.bits_stored,
        signed: layout.signed,
        modality,
        voi: voi(elements, signed)?,
        inverted: layout.inverted,
    })
}

/// PS3.3 C.11.1: a table and a rescale exclude each other; where both stand, the table is the more
/// precise.
fn modality(elements: &Elements<'_>, signed: bool) -> Result<Modality, DecodeError> {
    if let Some(lut) = lut(elements, tags::MODALITY_LUT_SEQUENCE, "Modality LUT", signed)? {
        return Ok(Modality::Lut(lut));
    }
    let slope = elements.decimal(tags::RESCALE_SLOPE, "Rescale Slope")?.unwrap_or(1.0);
    if slope.abs() < f64::MIN_POSITIVE {
        return Err(attribute("Rescale Slope", "another number than 0", "0".into()));
    }
    let intercept = elements.decimal(tags::RESCALE_INTERCEPT, "Rescale Intercept")?.unwrap_or(0.0);
    Ok(Modality::Rescale { slope, intercept })
}

/// PS3.3 C.11.2.1: table and window are alternatives. The table is taken: it is what the device
/// computed for this exposure, the window often only comes near it.
fn voi(elements: &Elements<'_>, signed: bool) -> Result<Voi, DecodeError> {
    if let Some(lut) = lut(elements, tags::VOILUT_SEQUENCE, "VOI LUT", signed)? {
        return Ok(Voi::Lut(lut));
    }
    Ok(window(elements)?.map_or(Voi::FullRange, Voi::Window))
}

/// The first window; one whose width its function does not allow counts as none.
fn window(elements: &Elements<'_>) -> Result<Option<Window>, DecodeError> {
    let function = match elements.text(tags::VOILUT_FUNCTION) {
        Some("SIGMOID") => Function::Sigmoid,
        Some("LINEAR_EXACT") => Function::LinearExact,
        Some("LINEAR") | None => Function::Linear,
        Some(_) => {
            return Err(attribute(
                "VOI LUT Function",
                "LINEAR, LINEAR_EXACT or SIGMOID",
                "another text".into(),
            ));
        }
    };
    let center = elements.decimal(tags::WINDOW_CENTER, "Window Center")?;
    let width = elements.decimal(tags::WINDOW_WIDTH, "Window Width")?;
    let allowed = |width: f64| match function {
        Function::Linear => width >= 1.0,
        Function::LinearExact | Function::Sigmoid => width > 0.0,
    };
    let pair = center.zip(width);
    if pair.is_some_and(|(_, width)| !allowed(width)) {
        tracing::warn!("Window Width (0028,1051) is smaller than its function allows: not applied");
    }
    Ok(pair.filter(|(_, width)| allowed(*width)).map(|(center, width)| Window {
        center,
        width,
        function,
    }))
}

/// The table in the first item of a sequence; `signed`: its inputs may be negative.
fn lut(
    elements: &Elements<'_>,
    sequence: Tag,
    name: &'static str,
    signed: bool,
) -> Result<Option<Lut>, DecodeError> {
    if !elements.has_sequence(sequence) {
        return Ok(None);
    }
    let value = |tag| elements.value(Some(sequence), tag).map(|(_, bytes)| bytes);
    let found = |what: &str| what.to_owned();
    let descriptor = elements.words(value(tags::LUT_DESCRIPTOR).unwrap_or_default());
    let &[count, first, bits] = descriptor.as_slice() else {
        let number = format!("{} numbers", descriptor.len());
        return Err(attribute(name, "a LUT Descriptor of 3 numbers", number));
    };
    if !(8..=16).contains(&bits) {
        return Err(attribute(name, "8 to 16 bits an entry", bits.to_string()));
    }
    // PS3.3 C.11.1.1: 2^16 entries do not fit the number and are written as 0.
    let count = if count == 0 { 1 << 16 } else { usize::from(count) };
    let data = value(tags::LUT_DATA).ok_or(attribute(name, "LUT Data", found("none")))?;
    let entries = entries(elements, data, count, bits)
        .ok_or_else(|| attribute(name, "as many entries as its descriptor says", found("fewer")))?;
    // PS3.3 C.11.1.1: US or SS, as the input is.
    let first = if signed { i32::from(first.cast_signed()) } else { i32::from(first) };
    Ok(Some(Lut { first, bits, entries }))
}

/// Entries of one byte stand packed where the data are too short for two (PS3.3 C.11.1.1: some
/// write entries of 8 bits as 16, seen by the length).
fn entries(elements: &Elements<'_>, data: &[u8], count: usize, bits: u16) -> Option<Vec<u16>> {
    let most = u16::MAX >> (16 - bits);
    let words = elements.words(data);
    let entries: Vec<u16> = if words.len() >= count {
        words
    } else if bits == 8 {
        words.into_iter().flat_map(|word| word.to_le_bytes().map(u16::from)).collect()
    } else {
        return None;
    };
    Some(entries.get(..count)?.iter().map(|&entry| entry & most).collect())
}

fn attribute(name: &'static str, expected: &str, found: String) -> DecodeError {
    DecodeError::Attribute { name, expected: expected.into(), found }
}

/// Photometric Interpretation decides over a contradicting Presentation LUT Shape, because some
/// makers write a wrong one.
fn warn_of_a_contradicting_shape(elements: &Elements<'_>, layout: &Layout) {
    match (elements.text(tags::PRESENTATION_LUT_SHAPE), layout.inverted) {
        (Some("INVERSE"), false) => {
            tracing::warn!(
                "Presentation LUT Shape (2050,0020) INVERSE contradicts MONOCHROME2 and is ignored"
            );
        }
        (Some("IDENTITY"), true) => {
            tracing::warn!(
                "Presentation LUT Shape (2050,0020) IDENTITY contradicts MONOCHROME1 and is ignored"
            );
        }
        (Some(_) | None, _) => {}
    }
}
