//! PNG and JPEG files: grey as displayed, for the workshop and the command line.

use std::io::{self, Cursor};
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{DecodeError, Facts, Frame, Grey, Source, within};
use crate::config;

/// Bytes of a decoded pixel at most: four channels of 16 bits, and as much again for the decoder's
/// own buffers.
const BYTES_PER_PIXEL: u64 = 16;

/// The format by the first bytes: the PNG signature (PNG 5.2) or JPEG's SOI and the next marker.
pub(super) fn format(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some(ImageFormat::Jpeg)
    } else {
        None
    }
}

/// Decodes a picture file, its dimensions checked before any pixel is.
pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    limits: &config::Decode,
) -> Result<Frame, DecodeError> {
    let corrupt =
        |e: image::ImageError| DecodeError::Corrupt { what: "a picture file", text: e.to_string() };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(limits.pixels.saturating_mul(BYTES_PER_PIXEL));
    reader.limits(bounds);
    let decoder = reader.into_decoder().map_err(corrupt)?;
    let (width, height) = decoder.dimensions();
    within(height.into(), width.into(), limits)?;
    let image = DynamicImage::from_decoder(decoder).map_err(corrupt)?;
    let (words, bits_stored) = grey(image);
    Ok(Frame {
        rows: height as usize,
        columns: width as usize,
        words,
        grey: Grey::plain(bits_stored),
        facts: Facts { source: Source::Picture, ..Facts::default() },
    })
}

/// Samples and their bits: grey files as they are, colour as luma; alpha is ignored.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not grey is colour")]
fn grey(image: DynamicImage) -> (Vec<u16>, u16) {
    match image {
        DynamicImage::ImageLuma8(grey) => (grey.iter().map(|&v| v.into()).collect(), 8),
        DynamicImage::ImageLumaA8(grey) => (grey.pixels().map(|p| p.0[0].into()).collect(), 8),
        DynamicImage::ImageLuma16(grey) => (grey.into_raw(), 16),
        DynamicImage::ImageLumaA16(grey) => (grey.pixels().map(|p| p.0[0]).collect(), 16),
        colour => (colour.to_rgb8().pixels().map(|p| luma(p.0)).collect(), 8),
    }
}

/// Luma as Pillow's mode `L` has it (ITU-R 601-2 in 16-bit fixed point, `Convert.c`).
fn luma([r, g, b]: [u8; 3]) -> u16 {
    let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
    let [.., high, low] = ((sum + 0x8000) >> 16).to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Grey values of a picture to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shades {
    /// 8 bits each.
    Eight(Vec<u8>),
    /// 16 bits each.
    Sixteen(Vec<u16>),
}

/// Writes a grey picture as PNG.
///
/// # Errors
/// There are not as many values as rows and columns, or the file cannot be written.
pub fn write_png(path: &Path, rows: usize, columns: usize, shades: Shades) -> io::Result<()> {
    let side = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let (width, height) = (side(columns)?, side(rows)?);
    let image = match shades {
        Shades::Eight(values) => {
            GrayImage::from_raw(width, height, values).map(DynamicImage::ImageLuma8)
        }
        Shades::Sixteen(values) => {
            ImageBuffer::from_raw(width, height, values).map(DynamicImage::ImageLuma16)
        }
    };
    let image = image.ok_or_else(|| io::Error::other("expected as many values as pixels"))?;
    image.save_with_format(path, ImageFormat::Png).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(image: &DynamicImage, words: &[u16], bits: u16) {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).expect("encodes");
        let frame = crate::decode::decode(
            bytes.get_ref(),
            &config::Decode::default(),
            &config::DicomLimits::default(),
        )
        .expect("decodes");
        assert_eq!((frame.words.as_slice(), frame.grey.bits_stored), (words, bits));
        assert!(frame.facts.source == Source::Picture);
    }

    #[test]
    fn grey_colour_and_sixteen_bit_files_are_read() {
        let grey = image::GrayImage::from_raw(3, 1, vec![0, 7, 255]).expect("fits");
        check(&DynamicImage::ImageLuma8(grey), &[0, 7, 255], 8);
        let deep = image::ImageBuffer::from_raw(2, 1, vec![0_u16, 65_535]).expect("fits");
        check(&DynamicImage::ImageLuma16(deep), &[0, 65_535], 16);
        // Checked with Pillow: Image.new("RGB", (1, 1), (200, 30, 90)).convert("L")
        let colour = image::RgbImage::from_raw(1, 1, vec![200, 30, 90]).expect("fits");
        check(&DynamicImage::ImageRgb8(colour), &[88], 8);
    }

    #[test]
    fn a_picture_larger_than_the_limit_is_refused_before_its_pixels_are_decoded() {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_luma8(100, 100).write_to(&mut bytes, ImageFormat::Png).expect("encodes");
        let limits = config::Decode { pixels: 9_999, ..config::Decode::default() };
        let error =
            crate::decode::decode(bytes.get_ref(), &limits, &config::DicomLimits::default())
                .expect_err("refused");
        assert_eq!(error.code(), "decode-too-large");
    }

    #[test]
    fn half_a_picture_is_refused() {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_luma8(100, 100).write_to(&mut bytes, ImageFormat::Png).expect("encodes");
        let half = &bytes.get_ref()[..bytes.get_ref().len() / 2];
        let error = crate::decode::decode(
            half,
            &config::Decode::default(),
            &config::DicomLimits::default(),
        )
        .expect_err("refused");
        assert_eq!(error.code(), "decode-corrupt");
    }
}
