//! Pixel Data to stored samples.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use super::DecodeError;
use super::dicom::Layout;
use super::elements::Elements;
use crate::ingest::syntax::{Pixels, TransferSyntax};

/// Stored samples `[rows, columns]`, masked and sign-extended.
pub(super) fn samples(
    elements: &Elements<'_>,
    syntax: TransferSyntax,
    layout: &Layout,
) -> Result<Vec<i32>, DecodeError> {
    let (bytes, big_endian) = if syntax.pixels != Pixels::Native {
        (Cow::Owned(decompressed(elements, syntax, layout)?), false)
    } else {
        (native(elements, layout)?, elements.big_endian())
    };
    let wanted = layout.rows * layout.columns * usize::from(layout.bits_allocated / 8);
    let Some(bytes) = bytes.get(..wanted) else {
        return Err(DecodeError::PixelsShort { expected: wanted, found: bytes.len() });
    };
    Ok(match layout.bits_allocated {
        8 => bytes.iter().map(|&b| stored(u16::from(b), layout)).collect(),
        _ => {
            let pairs = bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
            let word =
                |pair| if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
            pairs.map(|pair| stored(word(pair), layout)).collect()
        }
    })
}

/// PS3.5 8.1.1: a sample's bits end at High Bit; those around it may hold overlays or rubbish.
fn stored(cell: u16, layout: &Layout) -> i32 {
    let bits = i32::from(layout.bits_stored);
    let value = (i32::from(cell) >> (i32::from(layout.high_bit) + 1 - bits)) & ((1 << bits) - 1);
    if layout.signed && value >> (bits - 1) == 1 { value - (1 << bits) } else { value }
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

/// Compressed Pixel Data, by a codec of the registry on an object that holds nothing but pixels.
fn decompressed(
    elements: &Elements<'_>,
    syntax: TransferSyntax,
    layout: &Layout,
) -> Result<Vec<u8>, DecodeError> {
    let corrupt = |text: String| DecodeError::Corrupt { what: "compressed Pixel Data", text };
    let fragments = elements.fragments();
    if fragments.is_empty() {
        return Err(DecodeError::PixelsMissing);
    }
    if syntax.pixels == Pixels::Rle {
        let expected = u32::from(layout.bits_allocated / 8);
        let found = fragments.first().and_then(|f| rle_segments(f));
        if found != Some(expected) {
            return Err(corrupt(format!("expected {expected} RLE segments, found {found:?}")));
        }
    } else {
        let expected = (layout.rows, layout.columns);
        let size = if syntax.pixels == Pixels::Jpeg2000 { jpeg_2000_size } else { jpeg_size };
        let found = fragments.first().and_then(|f| size(f));
        if found != Some(expected) {
            return Err(corrupt(format!(
                "expected a JPEG of {expected:?} rows and columns, found {found:?}"
            )));
        }
    }
    let object = object(&fragments, layout)
        .with_meta(
            FileMetaTableBuilder::new()
                .transfer_syntax(syntax.uid)
                .media_storage_sop_class_uid("")
                .media_storage_sop_instance_uid(""),
        )
        .map_err(|_| corrupt("expected a file meta table, found none".into()))?;
    // Codecs are other people's code on untrusted bytes: some panic on a short segment.
    let decoded =
        catch_unwind(AssertUnwindSafe(|| object.decode_pixel_data().map(|p| p.data().to_vec())));
    match decoded {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            Err(corrupt("expected a stream that its codec decodes, found another".into()))
        }
        Err(_) => Err(corrupt(
            "expected a stream that its codec decodes, found one that it breaks on".into(),
        )),
    }
}

fn object(fragments: &[&[u8]], layout: &Layout) -> InMemDicomObject {
    let short = |tag, number: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(number));
    let text = |tag, vr, text: &str| DataElement::new(tag, vr, PrimitiveValue::from(text));
    let size = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let fragments: Vec<Vec<u8>> = fragments.iter().map(|f| f.to_vec()).collect();
    let pixels: Value<InMemDicomObject, Vec<u8>> =
        PixelFragmentSequence::new(Vec::<u32>::new(), fragments).into();
    InMemDicomObject::from_element_iter([
        short(tags::SAMPLES_PER_PIXEL, 1),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        text(tags::NUMBER_OF_FRAMES, VR::IS, "1"),
        short(tags::ROWS, size(layout.rows)),
        short(tags::COLUMNS, size(layout.columns)),
        short(tags::BITS_ALLOCATED, layout.bits_allocated),
        short(tags::BITS_STORED, layout.bits_stored),
        short(tags::HIGH_BIT, layout.high_bit),
        short(tags::PIXEL_REPRESENTATION, u16::from(layout.signed)),
        DataElement::new(tags::PIXEL_DATA, VR::OB, pixels),
    ])
}

/// Segments of a frame by its RLE header of 64 bytes (PS3.5 G.5), of grey one for each byte of a
/// sample (G.2); found before the codec reserves memory for as many.
fn rle_segments(frame: &[u8]) -> Option<u32> {
    let header: &[u8; 64] = frame.first_chunk()?;
    Some(u32::from_le_bytes(*header.first_chunk()?))
}

/// Rows and columns of a JPEG's or JPEG-LS' frame header (ISO/IEC 10918-1 B.2.2), found before a codec
/// reserves memory for them.
fn jpeg_size(stream: &[u8]) -> Option<(usize, usize)> {
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
            return Some((
                u16::from_be_bytes([y0, y1]).into(),
                u16::from_be_bytes([x0, x1]).into(),
            ));
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
