//! Pixel Data to stored samples.

use std::borrow::Cow;

use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::codecs::{self, Cells};
use super::dicom::Layout;
use super::elements::Elements;
use super::{DecodeError, lossless, rle};
use crate::ingest::syntax::{Pixels, TransferSyntax};

/// Stored samples `[rows, columns]`, masked and sign-extended to 16 bits.
pub(super) fn samples(
    elements: &Elements<'_>,
    syntax: TransferSyntax,
    layout: &Layout,
) -> Result<Vec<u16>, DecodeError> {
    if syntax.pixels == Pixels::Native {
        return plain(elements, layout);
    }
    let fragments = elements.fragments();
    let Some(first) = fragments.first() else { return Err(DecodeError::PixelsMissing) };
    // PS3.5 A.4: a frame may be cut into several fragments.
    let stream =
        if fragments.len() > 1 { Cow::Owned(fragments.concat()) } else { Cow::Borrowed(*first) };
    let samples = match syntax.pixels {
        Pixels::Rle => planes(&stream, layout),
        Pixels::Native | Pixels::Jpeg | Pixels::JpegLs | Pixels::Jpeg2000 => {
            cells(&stream, syntax, layout)
        }
    };
    samples.map_err(|text| DecodeError::Corrupt { what: "compressed Pixel Data", text })
}

/// How a cell becomes a sample: PS3.5 8.1.1, its bits end at High Bit; those around it may hold
/// overlays or rubbish.
fn stored(layout: &Layout) -> impl Fn(u16) -> u16 + use<> {
    let shift = layout.high_bit + 1 - layout.bits_stored;
    let mask = u16::MAX >> (16 - layout.bits_stored);
    let sign = if layout.signed { 1 << (layout.bits_stored - 1) } else { 0 };
    move |cell| (((cell >> shift) & mask) ^ sign).wrapping_sub(sign)
}

/// Uncompressed Pixel Data.
fn plain(elements: &Elements<'_>, layout: &Layout) -> Result<Vec<u16>, DecodeError> {
    let bytes = native(elements, layout)?;
    let wanted = layout.rows * layout.columns * usize::from(layout.bits_allocated / 8);
    let Some(bytes) = bytes.get(..wanted) else {
        return Err(DecodeError::PixelsShort { expected: wanted, found: bytes.len() });
    };
    let stored = stored(layout);
    let pairs = bytes.as_chunks().0.iter();
    Ok(match (layout.bits_allocated, elements.big_endian()) {
        (8, _) => bytes.iter().map(|&byte| stored(byte.into())).collect(),
        (_, true) => pairs.map(|pair| stored(u16::from_be_bytes(*pair))).collect(),
        (_, false) => pairs.map(|pair| stored(u16::from_le_bytes(*pair))).collect(),
    })
}

/// Uncompressed Pixel Data where it stands.
fn native<'a>(elements: &Elements<'a>, layout: &Layout) -> Result<Cow<'a, [u8]>, DecodeError> {
    let (vr, bytes) = elements.value(None, tags::PIXEL_DATA).ok_or(DecodeError::PixelsMissing)?;
    if elements.big_endian() && vr == VR::OW && layout.bits_allocated == 8 {
        // PS3.5 8.2: OW is a stream of 16-bit words, so two 8-bit samples stand swapped.
        return Ok(bytes.chunks(2).flat_map(|pair| pair.iter().rev().copied()).collect());
    }
    Ok(Cow::Borrowed(bytes))
}

/// RLE.
fn planes(stream: &[u8], layout: &Layout) -> Result<Vec<u16>, String> {
    let count = usize::from(layout.bits_allocated / 8);
    let planes = rle::planes(stream, count, layout.rows * layout.columns)?;
    let stored = stored(layout);
    Ok(match planes.as_slice() {
        [high, low] => {
            let pairs = high.iter().zip(low);
            pairs.map(|(&high, &low)| stored(u16::from_be_bytes([high, low]))).collect()
        }
        planes => planes.iter().flatten().map(|&byte| stored(byte.into())).collect(),
    })
}

/// The JPEG family: the size is believed only after the stream's own header was compared with it.
fn cells(stream: &[u8], syntax: TransferSyntax, layout: &Layout) -> Result<Vec<u16>, String> {
    let expected = (layout.rows, layout.columns);
    let header = if syntax.pixels == Pixels::Jpeg2000 {
        jpeg_2000_size(stream).map(|size| (SIZ, size))
    } else {
        jpeg_header(stream)
    };
    let process = match header {
        Some((process, size)) if size == expected => process,
        found => {
            let found = found.map(|(_, size)| size);
            return Err(format!(
                "expected a JPEG of {expected:?} rows and columns, found {found:?}"
            ));
        }
    };
    let cells = match (syntax.pixels, process) {
        (Pixels::Jpeg2000, _) => codecs::jpeg_2000(stream)?,
        (Pixels::JpegLs, _) => codecs::jpeg_ls(stream)?,
        (_, SOF_LOSSLESS) => Cells::Words(lossless::decode(stream, expected)?),
        _ => codecs::jpeg(stream)?,
    };
    let wanted = layout.rows * layout.columns;
    if cells.len() != wanted {
        return Err(format!("expected {wanted} samples, found {}", cells.len()));
    }
    let stored = stored(layout);
    Ok(match cells {
        Cells::Bytes(cells) => cells.into_iter().map(|cell| stored(cell.into())).collect(),
        Cells::Words(mut cells) => {
            cells.iter_mut().for_each(|cell| *cell = stored(*cell));
            cells
        }
    })
}

/// Marker of a lossless frame (ISO/IEC 10918-1 table B.1, SOF3).
const SOF_LOSSLESS: u8 = 0xc3;

/// Marker of a JPEG 2000 image's size (ISO/IEC 15444-1 table A.2).
const SIZ: u8 = 0x51;

/// A JPEG's or JPEG-LS' frame header (ISO/IEC 10918-1 B.2.2): marker, and rows and columns, found
/// before a codec reserves memory for them.
fn jpeg_header(stream: &[u8]) -> Option<(u8, (usize, usize))> {
    let mut rest = stream.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, marker, l0, l1, ..] = *rest else { return None };
        if marker == 0xff {
            rest = &rest[1..];
            continue;
        }
        // SOF0 to SOF15 but for DHT, JPG and DAC, which stand between them; and SOF55, JPEG-LS.
        if matches!(marker, 0xc0..=0xcf | 0xf7) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [y0, y1, x0, x1] = *rest.get(5..9)? else { return None };
            let side = |bytes| usize::from(u16::from_be_bytes(bytes));
            return Some((marker, (side([y0, y1]), side([x0, x1]))));
        }
        rest = rest.get(2 + usize::from(u16::from_be_bytes([l0, l1]))..)?;
    }
}

/// Rows and columns of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1: SIZ follows SOC at once, and
/// the image area ends at Xsiz, Ysiz and begins at XOsiz, YOsiz).
fn jpeg_2000_size(stream: &[u8]) -> Option<(usize, usize)> {
    let siz = stream.strip_prefix(&[0xff, 0x4f, 0xff, 0x51])?;
    let number = |at: usize| {
        let bytes = siz.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    // Lsiz and Rsiz stand before.
    let (x, y, x0, y0) = (number(4)?, number(8)?, number(12)?, number(16)?);
    Some((y.checked_sub(y0)?, x.checked_sub(x0)?))
}
