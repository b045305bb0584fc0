//! Values of many features on many images, sparse and by feature: what every metric reads.

use rayon::prelude::*;

use clearfilm::bundle::Sae;

use crate::kernel::{Rows, product};

/// Images that are encoded at once; see `crate::train`, whose product has the same shape.
const SAMPLES: usize = 512;

/// A feature's value on one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// Which image.
    pub sample: u32,
    /// Finite, not 0.
    pub value: f32,
}

/// Features of images, without the zeros: latents of a dictionary, dimensions of an embedding, or
/// anything else that has a value on every image.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Images.
    pub samples: usize,
    /// Where each feature's values end.
    ends: Vec<usize>,
    /// Each feature's by rising value, of those alike by rising image.
    values: Vec<Value>,
}

impl Codes {
    /// What a dictionary's latents are on embeddings `[n, d]`, as a device computes them: a latent
    /// is active above its threshold.
    #[must_use]
    pub fn of(sae: &Sae, samples: &[f32]) -> Self {
        let d = sae.b_dec.len();
        let latents = sae.b_enc.len();
        let encoder: Vec<f32> = (0..latents).flat_map(|latent| sae.w_enc.row(latent)).collect();
        let active = |begin: usize, rows: &[f32]| {
            let x = Rows::dense(rows, d);
            let mut z = vec![0.0; x.count * latents];
            product(&mut z, x, Rows::dense(&encoder, d));
            let mut found = Vec::new();
            for (sample, z) in (begin..).zip(z.chunks_exact(latents)) {
                let biased = z.iter().zip(&sae.b_enc).zip(&sae.threshold);
                for (latent, ((z, bias), threshold)) in (0_u32..).zip(biased) {
                    let value = z + bias;
                    if value > *threshold {
                        found.push((latent, Value { sample: index(sample), value }));
                    }
                }
            }
            found
        };
        let parts: Vec<Vec<(u32, Value)>> = samples
            .par_chunks(SAMPLES * d)
            .enumerate()
            .map(|(part, rows)| active(part * SAMPLES, rows))
            .collect();
        Self::gathered(samples.len() / d, latents, &parts)
    }

    /// What a dictionary of tokens says of images `[n, each, d]`: a latent's mean over the image's
    /// tokens, as a device takes it.
    #[must_use]
    pub fn pooled(sae: &Sae, tokens: &[f32], each: usize) -> Self {
        let single = Self::of(sae, tokens);
        #[expect(clippy::cast_precision_loss, reason = "some dozens of tokens")]
        let count = each as f32;
        let images = |feature: usize| {
            let mut column = single.column(feature).to_vec();
            column.sort_unstable_by_key(|value| value.sample);
            let image = |value: &Value| value.sample as usize / each;
            let parts = column.chunk_by(|a, b| image(a) == image(b));
            let mean = |part: &[Value]| Value {
                sample: index(image(&part[0])),
                value: part.iter().map(|value| value.value).sum::<f32>() / count,
            };
            parts.map(mean).collect::<Vec<Value>>()
        };
        let columns: Vec<Vec<Value>> = (0..single.features()).into_par_iter().map(images).collect();
        let mut codes =
            Self { samples: single.samples / each, ends: Vec::new(), values: Vec::new() };
        for column in columns {
            codes.values.extend(column);
            codes.ends.push(codes.values.len());
        }
        codes.sort();
        codes
    }

    /// Every column of a matrix `[n, features]`, negative values and all.
    #[must_use]
    pub fn dense(matrix: &[f32], features: usize) -> Self {
        let rows = (0_u32..).zip(matrix.chunks_exact(features));
        let found = rows.flat_map(|(sample, row)| {
            let values = (0_u32..).zip(row).filter(|(_, value)| **value != 0.0);
            values.map(move |(feature, &value)| (feature, Value { sample, value }))
        });
        Self::gathered(matrix.len() / features, features, &[found.collect()])
    }

    /// Values one by one: feature, image, value; by rising image.
    #[must_use]
    pub fn listed(samples: usize, features: usize, values: &[(u32, u32, f32)]) -> Self {
        let found = values
            .iter()
            .map(|(feature, sample, value)| (*feature, Value { sample: *sample, value: *value }));
        Self::gathered(samples, features, &[found.collect()])
    }

    /// Brings values that are ordered by image into the order by feature.
    fn gathered(samples: usize, features: usize, parts: &[Vec<(u32, Value)>]) -> Self {
        let mut ends = vec![0; features];
        for (feature, _) in parts.iter().flatten() {
            ends[*feature as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            let count = *end;
            *end = total;
            total += count;
        }
        // `ends` holds beginnings now, and each value that is put moves its feature's on.
        let mut values = vec![Value { sample: 0, value: 0.0 }; total];
        for (feature, value) in parts.iter().flatten() {
            let at = &mut ends[*feature as usize];
            values[*at] = *value;
            *at += 1;
        }
        let mut codes = Self { samples, ends, values };
        codes.sort();
        codes
    }

    fn sort(&mut self) {
        let mut rest = self.values.as_mut_slice();
        let mut columns = Vec::with_capacity(self.ends.len());
        let mut begin = 0;
        for end in &self.ends {
            let (column, behind) = rest.split_at_mut(end - begin);
            columns.push(column);
            (rest, begin) = (behind, *end);
        }
        columns.into_par_iter().for_each(|column| {
            column.sort_unstable_by(|a, b| {
                a.value.total_cmp(&b.value).then_with(|| a.sample.cmp(&b.sample))
            });
        });
    }

    /// How many features there are.
    #[must_use]
    pub fn features(&self) -> usize {
        self.ends.len()
    }

    /// One feature's values by rising value.
    #[must_use]
    pub fn column(&self, feature: usize) -> &[Value] {
        let begin = if feature == 0 { 0 } else { self.ends[feature - 1] };
        &self.values[begin..self.ends[feature]]
    }

    /// Every feature's values.
    #[must_use]
    pub fn columns(&self) -> impl IndexedParallelIterator<Item = &[Value]> {
        (0..self.features()).into_par_iter().map(|feature| self.column(feature))
    }

    /// One feature on every image, `[n]`.
    #[must_use]
    pub fn spread(&self, feature: usize) -> Vec<f32> {
        let mut all = vec![0.0; self.samples];
        self.column(feature).iter().for_each(|v| all[v.sample as usize] = v.value);
        all
    }

    /// Every image's features and their values, by rising feature.
    #[must_use]
    pub fn by_sample(&self) -> Vec<Vec<(u32, f32)>> {
        let mut rows = vec![Vec::new(); self.samples];
        for feature in 0..self.features() {
            for value in self.column(feature) {
                rows[value.sample as usize].push((index(feature), value.value));
            }
        }
        rows
    }

    /// Those of the images that are `kept`, in their order.
    #[must_use]
    pub fn only(&self, kept: &[usize]) -> Self {
        let mut place = vec![None; self.samples];
        for (at, &sample) in kept.iter().enumerate() {
            place[sample] = Some(index(at));
        }
        let mut codes = Self { samples: kept.len(), ends: Vec::new(), values: Vec::new() };
        for feature in 0..self.features() {
            let moved = self.column(feature).iter().filter_map(|value| {
                let sample = place[value.sample as usize]?;
                Some(Value { sample, ..*value })
            });
            codes.values.extend(moved);
            codes.ends.push(codes.values.len());
        }
        codes.sort();
        codes
    }
}

#[expect(clippy::cast_possible_truncation, reason = "fewer than 2^32 images and features")]
fn index(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests {
    use clearfilm::bundle::{Level, Matrix, Weights};
    use clearfilm::encode::{Embedding, Tokens};
    use clearfilm::sparse;
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;
    use crate::start::{Stream, numbers};

    #[test]
    fn a_latent_has_the_values_that_a_device_gives_it() {
        let matrix = |values: Vec<f32>| Weights::F32(Matrix { rows: 2, columns: 2, values });
        let sae = Sae {
            level: Level::Embedding,
            w_enc: matrix(vec![1.0, 0.0, 0.0, 2.0]),
            b_enc: vec![0.0, -1.0],
            w_dec: matrix(vec![1.0, 0.0, 0.0, 1.0]),
            b_dec: vec![0.0, 0.0],
            threshold: vec![0.5, 0.0],
        };
        let codes = Codes::of(&sae, &[2.0, 1.0, 0.5, 0.0, 1.0, 3.0]);
        let value = |sample, value| Value { sample, value };
        assert_eq!(codes.column(0), [value(2, 1.0), value(0, 2.0)]);
        assert_eq!(codes.column(1), [value(0, 1.0), value(2, 5.0)]);
        assert_eq!(codes.spread(1), [1.0, 0.0, 5.0]);
        assert_eq!(codes.by_sample()[2], [(0, 1.0), (1, 5.0)]);
        assert_eq!(codes.only(&[2, 1]).column(1), [value(0, 5.0)]);
    }

    #[test]
    fn an_image_of_tokens_has_the_code_that_a_device_gives_it() {
        let (d, latents, each, n) = (8, 12, 5, 30);
        let mut random = numbers(3, Stream::Samples);
        let mut normal = |count: usize| -> Vec<f32> {
            (0..count).map(|_| StandardNormal.sample(&mut random)).collect()
        };
        let matrix = |values| Weights::F32(Matrix { rows: latents, columns: d, values });
        let sae = Sae {
            level: Level::Tokens,
            w_enc: matrix(normal(latents * d)),
            b_enc: normal(latents),
            w_dec: matrix(normal(latents * d)),
            b_dec: normal(d),
            threshold: vec![2.0; latents],
        };
        let samples = normal(n * each * d);
        let rows = Codes::pooled(&sae, &samples, each).by_sample();
        assert_eq!(rows.len(), n);
        let nowhere = Embedding { values: Vec::new(), norm: 1.0 };
        for (row, image) in rows.iter().zip(samples.chunks_exact(each * d)) {
            let tokens = Tokens { n_tokens: each, d_token: d, values: image.to_vec() };
            let code = sparse::encode(&sae, &tokens, &nowhere).image;
            assert_eq!(row.len(), code.entries().len());
            for ((latent, value), active) in row.iter().zip(code.entries()) {
                assert_eq!(*latent, active.latent.0);
                assert!((value - active.activation).abs() < 1e-5, "{value} {active:?}");
            }
        }
    }

    #[test]
    fn many_images_at_once_have_the_codes_that_a_device_gives_each() {
        let (d, latents, n) = (40, 96, 700);
        let mut random = numbers(11, Stream::Samples);
        let mut normal = |count: usize| -> Vec<f32> {
            (0..count).map(|_| StandardNormal.sample(&mut random)).collect()
        };
        let matrix = |values| Weights::F32(Matrix { rows: latents, columns: d, values });
        let sae = Sae {
            level: Level::Embedding,
            w_enc: matrix(normal(latents * d)),
            b_enc: normal(latents),
            w_dec: matrix(normal(latents * d)),
            b_dec: normal(d),
            threshold: vec![4.0; latents],
        };
        let samples = normal(n * d);
        let rows = Codes::of(&sae, &samples).by_sample();
        let tokens = Tokens { n_tokens: 0, d_token: d, values: Vec::new() };
        let mut fired = 0;
        for (row, x) in rows.iter().zip(samples.chunks_exact(d)) {
            let embedding = Embedding { values: x.to_vec(), norm: 1.0 };
            let code = sparse::encode(&sae, &tokens, &embedding).image;
            assert_eq!(row.len(), code.entries().len());
            for ((latent, value), active) in row.iter().zip(code.entries()) {
                assert_eq!(*latent, active.latent.0);
                assert!((value - active.activation).abs() < 1e-4, "{value} {active:?}");
                fired += 1;
            }
        }
        assert!(fired > 1000, "found {fired} firings");
    }
}
