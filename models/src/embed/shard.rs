//! One shard: some pictures of the list, each in all its views, to one file of tensors.

use std::fs;
use std::io;
use std::path::Path;

use clearfilm::bundle::{Bundle, Level};
use clearfilm::decode::Program;
use clearfilm::encode::{Encoder, embed};
use clearfilm::id::Digest;
use clearfilm::preprocess::{ModelInput, Picture};
use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use serde::{Deserialize, Serialize};

use super::folder::json;
use super::pictures::{Pictures, Refused};
use super::{Dtype, EmbedError, Folder, Plan};
use crate::files::{io, put};
use crate::table::{Intensity, Record};
use crate::views;

/// Tensors of a shard beside its vectors, one entry a row: number of the picture in the list,
pub const IMAGES: &str = "image";
/// number of the view,
pub const VIEWS: &str = "view";
/// SHA-256 of the picture's file `[n, 32]`,
pub const DIGESTS: &str = "sha256";
/// and statistics of the view `[n, 8]`.
pub const INTENSITY: &str = "intensity";

/// Tensor of vectors at each level.
#[must_use]
pub fn tensor(level: Level) -> &'static str {
    match level {
        Level::Embedding => "embedding",
        Level::Tokens => "tokens",
    }
}

/// The record that makes a shard valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Layout of the folder.
    pub v: u32,
    /// SHA-256 of the plan that it was made by.
    pub plan: Digest,
    /// Vectors.
    pub rows: usize,
    /// SHA-256 of the shard's file.
    pub sha256: Digest,
    /// Pictures that have no vectors.
    pub refused: Vec<Refused>,
}

/// A valid shard's record and bytes; none where it is missing, damaged or of another plan.
///
/// # Errors
/// A file is there and cannot be read.
pub fn valid(
    folder: &Folder,
    plan: Digest,
    index: usize,
) -> Result<Option<(Done, Vec<u8>)>, EmbedError> {
    let found = |file: &Path| match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(io("reading", file)),
    };
    let Some(record) = found(&folder.done(index))? else { return Ok(None) };
    let Ok(done) = serde_json::from_slice::<Done>(&record) else { return Ok(None) };
    if done.plan != plan {
        return Ok(None);
    }
    let bytes = found(&folder.shard(index))?;
    Ok(bytes.filter(|bytes| Digest::of(bytes) == done.sha256).map(|bytes| (done, bytes)))
}

/// Makes shards, one after the other.
pub struct Maker<'a> {
    folder: &'a Folder,
    /// The collection's root.
    root: &'a Path,
    plan: &'a Plan,
    digest: Digest,
    bundle: &'a Bundle,
    encoder: Box<dyn Encoder>,
    pictures: Pictures,
}

/// Rows of a shard as they come.
#[derive(Default)]
struct Rows {
    vectors: Vec<u8>,
    images: Vec<u8>,
    views: Vec<u8>,
    digests: Vec<u8>,
    intensity: Vec<u8>,
    count: usize,
}

impl<'a> Maker<'a> {
    /// Made of what was planned; another bundle or engine is refused.
    ///
    /// # Errors
    /// Bundle or engine are others than planned, or the collection is not there.
    pub fn new(
        (folder, root): (&'a Folder, &'a Path),
        (plan, digest): (&'a Plan, Digest),
        (bundle, encoder): (&'a Bundle, Box<dyn Encoder>),
        program: Program,
    ) -> Result<Self, EmbedError> {
        if bundle.digest != plan.bundle {
            return Err(EmbedError::Unfit {
                what: "bundle",
                expected: plan.bundle.to_string(),
                found: bundle.digest.to_string(),
            });
        }
        if *encoder.engine() != plan.engine {
            return Err(EmbedError::engine(&plan.engine, encoder.engine()));
        }
        if !root.is_dir() {
            return Err(EmbedError::Root(root.into()));
        }
        let pictures = Pictures::new(root, plan, program);
        Ok(Self { folder, root, plan, digest, bundle, encoder, pictures })
    }

    /// Makes a shard from its part of the list; tells `progress` after each picture.
    ///
    /// # Errors
    /// Engine, disk or the machine fail. A picture that cannot be read is refused, not an error.
    pub fn make(
        &mut self,
        index: usize,
        records: &[Record],
        mut progress: impl FnMut(),
    ) -> Result<Done, EmbedError> {
        let count = self.plan.shards();
        if index >= count {
            return Err(EmbedError::Index { count, found: index });
        }
        let from = index * self.plan.shard_images;
        let until = records.len().min(from + self.plan.shard_images);
        let (mut rows, mut refused) = (Rows::default(), Vec::new());
        let size = [self.plan.input.height, self.plan.input.width];
        for (number, record) in (from..until).zip(&records[from..until]) {
            match self.pictures.read(&record.image, self.plan.input.fit, size)? {
                Ok((picture, digest)) => {
                    self.views(&mut rows, record, (number, picture, digest))?
                }
                Err(reason) => refused.push(reason),
            }
            progress();
        }
        // A collection that went away in between must not look like one without pictures.
        if !self.root.is_dir() {
            return Err(EmbedError::Root(self.root.into()));
        }
        let bytes = rows.file(self.plan, &self.folder.shard(index))?;
        let sha256 = Digest::of(&bytes);
        put(&self.folder.shard(index), &bytes)?;
        let done = Done { v: self.plan.v, plan: self.digest, rows: rows.count, sha256, refused };
        let file = self.folder.done(index);
        put(&file, &json(&file, &done)?)?;
        Ok(done)
    }

    /// One row for each view of a picture.
    fn views(
        &mut self,
        rows: &mut Rows,
        record: &Record,
        (number, picture, digest): (usize, Picture, Digest),
    ) -> Result<(), EmbedError> {
        let planned = self.plan.views;
        for view in 0..planned.count {
            let numbers = [planned.seed, u64::from(view)];
            let drawn = views::draw(&picture, numbers, &record.image, planned.flip);
            let intensity = intensity(&drawn);
            let input = ModelInput::of_fitted(drawn, &self.plan.input);
            let tokens = self.encoder.encode(&input)?;
            match self.plan.level {
                Level::Embedding => {
                    rows.vector(&embed(&tokens, &self.bundle.head).values, self.plan.dtype);
                }
                Level::Tokens => rows.vector(&tokens.values, self.plan.dtype),
            }
            // A list has fewer than 2^32 pictures: its file would have a terabyte.
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            rows.images.extend(number.to_le_bytes());
            rows.views.extend(view.to_le_bytes());
            rows.digests.extend(digest.as_bytes());
            rows.intensity.extend(intensity.0.iter().flat_map(|value| value.to_le_bytes()));
            rows.count += 1;
        }
        Ok(())
    }
}

impl Rows {
    fn vector(&mut self, values: &[f32], dtype: Dtype) {
        match dtype {
            Dtype::F32 => self.vectors.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Dtype::F16 => {
                self.vectors.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
            }
        }
    }

    fn file(&self, plan: &Plan, file: &Path) -> Result<Vec<u8>, EmbedError> {
        let stored = match plan.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
        };
        let n = self.count;
        let tensors = [
            (tensor(plan.level), stored, [vec![n], plan.shape.clone()].concat(), &self.vectors),
            (IMAGES, Stored::U32, vec![n], &self.images),
            (VIEWS, Stored::U32, vec![n], &self.views),
            (DIGESTS, Stored::U8, vec![n, 32], &self.digests),
            (INTENSITY, Stored::F32, vec![n, 8], &self.intensity),
        ];
        let failed = |source| EmbedError::Tensors { file: file.into(), source };
        let views: Result<Vec<_>, _> = tensors
            .into_iter()
            .map(|(name, stored, shape, bytes)| Ok((name, TensorView::new(stored, shape, bytes)?)))
            .collect();
        safetensors::serialize(views.map_err(failed)?, None).map_err(failed)
    }
}

/// What a shard says of its rows.
pub(super) struct Said {
    pub(super) images: Vec<u32>,
    pub(super) views: Vec<u32>,
    pub(super) digests: Vec<Digest>,
    pub(super) intensity: Vec<Intensity>,
}

impl Said {
    pub(super) fn read(bytes: &[u8], file: &Path) -> Result<Self, EmbedError> {
        let failed = |source| EmbedError::Tensors { file: file.into(), source };
        let all = SafeTensors::deserialize(bytes).map_err(failed)?;
        let counts = |name: &str| -> Result<Vec<u32>, EmbedError> {
            let view = all.tensor(name).map_err(failed)?;
            Ok(view.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
        };
        let digests = all.tensor(DIGESTS).map_err(failed)?;
        let numbers = all.tensor(INTENSITY).map_err(failed)?;
        let numbers: Vec<f32> =
            numbers.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Self {
            images: counts(IMAGES)?,
            views: counts(VIEWS)?,
            digests: digests.data().as_chunks().0.iter().map(|b| Digest::from_bytes(*b)).collect(),
            intensity: numbers.as_chunks().0.iter().map(|values| Intensity(*values)).collect(),
        })
    }
}

/// Statistics of a fitted picture. A percentile is the smallest grey that so many pixels do not
/// exceed.
fn intensity(picture: &Picture) -> Intensity {
    let mut histogram = [0_u32; 256];
    for &pixel in &picture.pixels {
        histogram[usize::from(pixel)] += 1;
    }
    let greys = || (0..=u8::MAX).map(f64::from).zip(histogram.iter().map(|n| f64::from(*n)));
    let n: f64 = greys().map(|(_, count)| count).sum::<f64>().max(1.0);
    let mean = greys().map(|(grey, count)| grey * count).sum::<f64>() / n;
    let variance = greys().map(|(grey, count)| (grey - mean).powi(2) * count).sum::<f64>() / n;
    let percentile = |share: f64| {
        let mut below = 0.0;
        let mut greys = greys();
        let found = greys.find(|(_, count)| {
            below += count;
            below >= share * n
        });
        found.map_or(255.0, |(grey, _)| grey)
    };
    let saturated = f64::from(histogram[0] + histogram[255]) / n;
    let [p01, p25, p50, p75, p99] = [0.01, 0.25, 0.5, 0.75, 0.99].map(percentile);
    #[expect(clippy::cast_possible_truncation, reason = "greys and shares, to seven digits")]
    Intensity([mean, variance.sqrt(), p01, p25, p50, p75, p99, saturated].map(|value| value as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intensity_is_that_of_a_small_picture_by_hand() {
        let pixels = vec![0, 10, 20, 30, 40, 50, 60, 255];
        let found = intensity(&Picture { rows: 2, columns: 4, pixels });
        // Mean 465 / 8; mean square 74125 / 8; the 2nd, 4th and 6th of eight are the quartiles.
        let sd = (74_125.0_f32 / 8.0 - 58.125 * 58.125).sqrt();
        assert!((found.0[1] - sd).abs() < 1e-3, "{found:?}");
        let [mean, _, rest @ ..] = found.0;
        assert_eq!((mean, rest), (58.125, [0.0, 10.0, 30.0, 50.0, 255.0, 0.25]));
    }
}
