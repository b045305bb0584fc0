//! Pictures as a model is shown them: what the encoder saw, as PNG.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clearfilm::decode::Program;
use image::ImageEncoder as _;
use image::codecs::png::PngEncoder;

use super::NameError;
use crate::embed::{Pictures, Plan};

/// Where pictures come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The collection's root.
    pub root: PathBuf,
    /// The plan that their embeddings were made by: how they are fitted, and limits.
    pub plan: Plan,
    /// Rows and columns of the shown picture; none: those of the encoder's input.
    pub size: Option<usize>,
    /// What decodes.
    pub program: Program,
}

/// Bytes of pictures that are kept, because a picture is judged by several names in turn: some
/// thousand of an encoder's size.
const KEPT_MAX: usize = 128 << 20;

/// Pictures that were shown already.
#[derive(Default)]
pub(super) struct Shown {
    files: HashMap<String, Vec<u8>>,
    bytes: usize,
}

/// Shows pictures, one after the other.
pub(super) struct Shower<'a> {
    source: &'a Source,
    shown: &'a Mutex<Shown>,
    pictures: Pictures,
}

impl<'a> Shower<'a> {
    pub(super) fn new(source: &'a Source, shown: &'a Mutex<Shown>) -> Self {
        let pictures = Pictures::new(&source.root, &source.plan, source.program.clone());
        Self { source, shown, pictures }
    }

    /// A picture's PNG: 8-bit grey, the same bytes each time.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub(super) fn png(&mut self, image: &str) -> Result<Vec<u8>, NameError> {
        let shown = || self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(png) = shown().files.get(image) {
            return Ok(png.clone());
        }
        let png = self.drawn(image)?;
        let mut kept = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + png.len() > KEPT_MAX {
            *kept = Shown::default();
        }
        kept.bytes += png.len();
        kept.files.insert(image.to_owned(), png.clone());
        Ok(png)
    }

    fn drawn(&mut self, image: &str) -> Result<Vec<u8>, NameError> {
        let input = &self.source.plan.input;
        let size = self.source.size.map_or([input.height, input.width], |side| [side, side]);
        let (picture, _) = self
            .pictures
            .read(image, input.fit, size)?
            .map_err(|refused| NameError::Picture { image: refused.image, found: refused.text })?;
        let mut png = Vec::new();
        // A fitted picture is as large as an encoder's input: some hundreds of pixels a side.
        let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let grey = image::ExtendedColorType::L8;
        PngEncoder::new(&mut png)
            .write_image(&picture.pixels, side(picture.columns), side(picture.rows), grey)
            .map_err(|error| NameError::Picture {
                image: image.to_owned(),
                found: error.to_string(),
            })?;
        Ok(png)
    }
}
