//! From a frame to what the encoder takes: the one and only way, on the device and in the workshop.
//!
//! [`render`] makes the picture as a display shows it (modality LUT, VOI, inversion; 8 bits),
//! [`fit`] brings it to the encoder's size in the way the bundle names, [`input_of`] normalises.
//! [`Placement`] remembers how, so that evidence can be pointed at in source pixels.

#[cfg(test)]
mod golden;
mod grey;
mod resample;
#[cfg(test)]
mod wrapped;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

pub use grey::render;

use crate::bundle::{Fit, InputSpec};
use resample::Filter;

/// A grey picture as it is displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `[rows, columns]`, 0 black to 255 white.
    pub pixels: Vec<u8>,
}

/// What the encoder takes, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInput {
    /// The fitted picture `[height, width]`, before normalisation.
    pub picture: Picture,
    /// `[1, channels, height, width]`, `(pixel / 255 - mean) / std`.
    pub values: Vec<f32>,
    /// How source pixels map to the fitted picture.
    pub placement: Placement,
}

/// How source pixels map to the fitted picture: `source = fitted * scale - offset`, per axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Rows and columns of the source.
    source: [usize; 2],
    /// Height and width of the fitted picture.
    fitted: [usize; 2],
    /// Source pixels per fitted pixel, vertically and horizontally.
    scale: [f64; 2],
    /// Source pixels of padding at the top and at the left.
    offset: [usize; 2],
}

/// Brings a picture to `[height, width]`.
#[must_use]
pub fn fit(picture: &Picture, fit: Fit, target: [usize; 2]) -> Picture {
    match fit {
        Fit::Pad => resample::resize(&padded(picture, target), Filter::Bicubic, target),
        Fit::Squash => resample::resize(picture, Filter::Bilinear, target),
    }
}

/// Fits and normalises a picture as a bundle wants it.
#[must_use]
pub fn input_of(picture: &Picture, spec: &InputSpec) -> ModelInput {
    let target = [spec.height, spec.width];
    let placement = Placement::of(picture, spec.fit, target);
    normalised(fit(picture, spec.fit, target), spec, placement)
}

impl ModelInput {
    /// Normalises a picture that was fitted before; its source is itself.
    #[must_use]
    pub fn of_fitted(picture: Picture, spec: &InputSpec) -> Self {
        let size = [picture.rows, picture.columns];
        let placement = Placement { source: size, fitted: size, scale: [1.0; 2], offset: [0; 2] };
        normalised(picture, spec, placement)
    }
}

impl Placement {
    fn of(picture: &Picture, fit: Fit, target: [usize; 2]) -> Self {
        let source = [picture.rows, picture.columns];
        match fit {
            Fit::Pad => {
                let side = side(picture, target);
                let scale = target.map(|t| ratio(side, t));
                Self { source, fitted: target, scale, offset: source.map(|s| (side - s) / 2) }
            }
            Fit::Squash => {
                let scale = [ratio(source[0], target[0]), ratio(source[1], target[1])];
                Self { source, fitted: target, scale, offset: [0; 2] }
            }
        }
    }

    /// The box `[left, top, right, bottom]`, in cells of a grid of `[rows, columns]` over the
    /// fitted picture, as `x0, y0, x1, y1` in whole source pixels, clipped to the source.
    /// None where it lies outside, in the padding.
    #[must_use]
    pub fn grid_box(&self, grid: [usize; 2], cells: [usize; 4]) -> Option<[f64; 4]> {
        let [left, top, right, bottom] = cells;
        let edge = |axis: usize, cell: usize| {
            let fitted = ratio(cell * self.fitted[axis], grid[axis]);
            let source = fitted * self.scale[axis] - ratio(self.offset[axis], 1);
            source.round().clamp(0.0, ratio(self.source[axis], 1))
        };
        let [x0, y0, x1, y1] = [edge(1, left), edge(0, top), edge(1, right), edge(0, bottom)];
        (x0 < x1 && y0 < y1).then_some([x0, y0, x1, y1])
    }
}

/// Writes fitted pictures as the safetensors tensor `pixels`, U8 `[files, height, width]`.
///
/// # Errors
/// The file cannot be written, or the bytes do not fill the shape.
pub fn write_pixels(path: &Path, bytes: &[u8], shape: [usize; 3]) -> io::Result<()> {
    let tensor = TensorView::new(Dtype::U8, shape.to_vec(), bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    let no_metadata: Option<HashMap<String, String>> = None;
    let written = safetensors::serialize_to_file([("pixels", tensor)], no_metadata, path);
    written.map_err(|error| {
        if let SafeTensorError::IoError(io) = error { io } else { io::Error::other(error) }
    })
}

fn normalised(picture: Picture, spec: &InputSpec, placement: Placement) -> ModelInput {
    let mut values = Vec::with_capacity(spec.channels * picture.pixels.len());
    for (mean, std) in spec.mean.iter().zip(&spec.std).take(spec.channels) {
        let of_grey: Vec<f32> =
            (0..=u8::MAX).map(|p| (f32::from(p) / 255.0 - mean) / std).collect();
        values.extend(picture.pixels.iter().map(|&p| of_grey[usize::from(p)]));
    }
    ModelInput { picture, values, placement }
}

/// Side of the padded square: `max(min_size, width, height)` of `MedCLIPProcessor`, whose
/// `min_size` is the encoder's size.
fn side(picture: &Picture, target: [usize; 2]) -> usize {
    picture.rows.max(picture.columns).max(target[0]).max(target[1])
}

/// The picture in the middle of a black square, at `int((side - width) / 2)` and
/// `int((side - height) / 2)` as `MedCLIPProcessor` pastes it.
fn padded(picture: &Picture, target: [usize; 2]) -> Picture {
    let side = side(picture, target);
    let (top, left) = ((side - picture.rows) / 2, (side - picture.columns) / 2);
    let mut pixels = vec![0; side * side];
    for (row, line) in picture.pixels.chunks_exact(picture.columns.max(1)).enumerate() {
        pixels[(top + row) * side + left..][..picture.columns].copy_from_slice(line);
    }
    Picture { rows: side, columns: side, pixels }
}

#[expect(clippy::cast_precision_loss, reason = "sides and cells are far below 2^52")]
fn ratio(a: usize, b: usize) -> f64 {
    a as f64 / b.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(rows: usize, columns: usize, fit: Fit) -> Placement {
        Placement::of(&Picture { rows, columns, pixels: Vec::new() }, fit, [224, 224])
    }

    #[test]
    fn a_box_of_the_padded_square_lies_in_source_pixels_and_outside_is_none() {
        // 448 x 224 pixels in a square of 448: 112 rows of padding at the top and at the bottom.
        let wide = placement(224, 448, Fit::Pad);
        assert_eq!(wide.grid_box([7, 7], [0, 0, 7, 7]), Some([0.0, 0.0, 448.0, 224.0]));
        assert_eq!(wide.grid_box([4, 4], [1, 1, 2, 2]), Some([112.0, 0.0, 224.0, 112.0]));
        assert_eq!(wide.grid_box([4, 4], [1, 0, 2, 1]), None);
        // Smaller than the square: it stands in the middle, as it is.
        let small = placement(100, 101, Fit::Pad);
        assert_eq!(small.grid_box([2, 2], [0, 0, 1, 1]), Some([0.0, 0.0, 51.0, 50.0]));
    }

    #[test]
    fn a_box_of_the_squashed_picture_is_stretched_back() {
        let squashed = placement(2500, 2048, Fit::Squash);
        assert_eq!(squashed.grid_box([7, 7], [0, 0, 7, 7]), Some([0.0, 0.0, 2048.0, 2500.0]));
        assert_eq!(squashed.grid_box([2, 4], [1, 1, 2, 2]), Some([512.0, 1250.0, 1024.0, 2500.0]));
    }

    #[test]
    fn every_channel_is_the_picture_normalised_by_its_own_mean_and_deviation() {
        let spec = InputSpec {
            channels: 2,
            height: 1,
            width: 2,
            fit: Fit::Pad,
            mean: vec![0.5, 0.0],
            std: vec![0.25, 1.0],
        };
        let input =
            ModelInput::of_fitted(Picture { rows: 1, columns: 2, pixels: vec![0, 255] }, &spec);
        assert_eq!(input.values, [-2.0, 2.0, 0.0, 1.0]);
    }

    #[test]
    fn written_pixels_are_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pixels.safetensors");
        write_pixels(&path, &[1, 2, 3, 4], [2, 1, 2]).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let pixels = tensors.tensor("pixels").expect("is there");
        assert_eq!(
            (pixels.shape(), pixels.data()),
            ([2, 1, 2].as_slice(), [1, 2, 3, 4].as_slice())
        );
        assert!(write_pixels(&path, &[1, 2, 3], [2, 1, 2]).is_err());
    }
}
