//! Samples whose true dictionary is known: the gate that a trainer has to pass before anybody
//! believes it about radiographs.

use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use crate::kernel::{add, norm};
use crate::start::{Stream, numbers};

/// How such samples are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planted {
    /// Values of a sample.
    pub d: usize,
    /// Directions that were planted.
    pub features: usize,
    /// Of them in a sample, in the mean.
    pub active: f64,
    /// The `i`-th feature is as frequent as `(i + 1) ^ -power`; 0: all alike.
    pub power: f64,
    /// Length of the mean, in roots of the summed variances.
    pub gamma: f32,
    /// Standard deviation of what is added to every value.
    pub noise: f32,
    /// Same seed, same samples.
    pub seed: u64,
}

/// Samples and what is in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// `[n, d]`.
    pub samples: Vec<f32>,
    /// Unit rows `[features, d]`.
    pub directions: Vec<f32>,
}

impl Planted {
    /// The fixed set that dead latents are measured on: features of a power law, mean far off the
    /// origin, as embeddings of one domain have it. Trained with 2,048 latents, `k` = 16.
    pub const DEAD: Self = Self {
        d: 256,
        features: 2048,
        active: 16.0,
        power: 0.8,
        gamma: 3.0,
        noise: 0.02,
        seed: 24,
    };

    /// Draws samples.
    #[must_use]
    pub fn draw(&self, count: usize) -> Drawn {
        let mut random = numbers(self.seed, Stream::Samples);
        let mut normal = |length: usize| -> Vec<f32> {
            (0..length).map(|_| StandardNormal.sample(&mut random)).collect()
        };
        let mut directions = normal(self.features * self.d);
        for row in directions.chunks_exact_mut(self.d) {
            let length = norm(row);
            row.iter_mut().for_each(|w| *w /= length);
        }
        let mut offset = normal(self.d);
        let length = norm(&offset);
        // Features of random signs are as good as orthogonal: a sample's expected squared length
        // about the mean is that of its features.
        #[expect(clippy::cast_possible_truncation, reason = "a length of some units")]
        let spread = (self.active * MEAN_SQUARE).sqrt() as f32;
        offset.iter_mut().for_each(|x| *x *= self.gamma * spread / length);
        let frequency = self.frequencies();
        let mut samples = vec![0.0; count * self.d];
        for row in samples.chunks_exact_mut(self.d) {
            row.copy_from_slice(&offset);
            for (feature, frequency) in frequency.iter().enumerate() {
                if random.random_bool(*frequency) {
                    let weight = random.random_range(LEAST..MOST);
                    add(row, weight, &directions[feature * self.d..][..self.d]);
                }
            }
            for x in row {
                let noise: f32 = StandardNormal.sample(&mut random);
                *x += self.noise * noise;
            }
        }
        Drawn { samples, directions }
    }

    /// How often each feature is in a sample.
    fn frequencies(&self) -> Vec<f64> {
        let raw: Vec<f64> = (1..=self.features).map(|i| count(i).powf(-self.power)).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|f| (f * self.active / sum).min(1.0)).collect()
    }
}

/// Range of a feature's weight in a sample, and the mean of its square.
const LEAST: f32 = 0.5;
const MOST: f32 = 1.5;
const MEAN_SQUARE: f64 = 13.0 / 12.0;

/// Share of the planted directions that a dictionary `[latents, d]` has a row for, with a cosine
/// of at least `close`.
#[must_use]
pub fn recovered(directions: &[f32], rows: &[&[f32]], d: usize, close: f32) -> f64 {
    let lengths: Vec<f32> = rows.iter().map(|row| norm(row)).collect();
    let found = |direction: &[f32]| {
        let mut cosines = rows
            .iter()
            .zip(&lengths)
            .map(|(row, length)| crate::kernel::dot(row, direction) / length);
        cosines.any(|cosine| cosine >= close)
    };
    let hits = directions.chunks_exact(d).filter(|direction| found(direction)).count();
    count(hits) / count(directions.len() / d)
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 things")]
fn count(n: usize) -> f64 {
    n as f64
}
