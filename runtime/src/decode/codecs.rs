//! The doors to the codecs of other people: JPEG baseline, JPEG-LS and JPEG 2000, of one component.
//!
//! Each takes a stream whose size was checked and gives stored cells, or says in our words what it
//! would have needed.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Cells of a picture as a codec gives them.
pub(super) enum Cells {
    /// 8 bits each.
    Bytes(Vec<u8>),
    /// 16 bits each.
    Words(Vec<u16>),
}

impl Cells {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(cells) => cells.len(),
            Self::Words(cells) => cells.len(),
        }
    }
}

/// Codecs are other people's code on untrusted bytes: some panic on a short segment.
fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err("expected a stream that its codec decodes, found one that it breaks on".into())
    })
}

fn refused<E>(_: E) -> String {
    // The codec's own text may quote the stream.
    "expected a stream that its codec decodes, found another".into()
}

/// JPEG baseline (ISO/IEC 10918-1 process 1).
pub(super) fn jpeg(stream: &[u8]) -> Result<Cells, String> {
    guarded(|| {
        let mut decoder = jpeg_decoder::Decoder::new(stream);
        decoder.read_info().map_err(refused)?;
        match decoder.info().map(|info| info.pixel_format) {
            Some(jpeg_decoder::PixelFormat::L8) => {
                decoder.decode().map(Cells::Bytes).map_err(refused)
            }
            found => Err(format!("expected one component of 8 bits, found {found:?}")),
        }
    })
}

/// JPEG-LS (ISO/IEC 14495-1).
#[cfg(feature = "jpeg-ls")]
pub(super) fn jpeg_ls(stream: &[u8]) -> Result<Cells, String> {
    guarded(|| {
        let mut codec = charls::CharLS::default();
        let info = codec.get_frame_info(stream).map_err(refused)?;
        if info.component_count != 1 {
            return Err(format!("expected one component, found {}", info.component_count));
        }
        let bytes = charls::CharLS::default().decode(stream).map_err(refused)?;
        if info.bits_per_sample <= 8 {
            return Ok(Cells::Bytes(bytes));
        }
        Ok(Cells::Words(bytes.as_chunks().0.iter().map(|pair| u16::from_ne_bytes(*pair)).collect()))
    })
}

/// JPEG-LS is not compiled in, and not among the transfer syntaxes that are read.
#[cfg(not(feature = "jpeg-ls"))]
pub(super) fn jpeg_ls(_: &[u8]) -> Result<Cells, String> {
    Err("expected a build with JPEG-LS (feature `jpeg-ls`), found one without".into())
}

/// JPEG 2000 (ISO/IEC 15444-1).
pub(super) fn jpeg_2000(stream: &[u8]) -> Result<Cells, String> {
    guarded(|| {
        let image = jpeg2k::Image::from_bytes(stream).map_err(refused)?;
        let [component] = image.components() else {
            return Err(format!("expected one component, found {}", image.components().len()));
        };
        // Two's complement where the component is signed: masked and extended later.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sample of DICOM has 16 bits at most"
        )]
        let words = component.data().iter().map(|&sample| sample as u16).collect();
        Ok(Cells::Words(words))
    })
}
