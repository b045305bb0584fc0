//! Is this image like those that the bundle was measured on?
//!
//! Two questions, each over what usual images are at the edge of (`edge`, a percentile of usual
//! images that the model was not fitted on), and the larger counts:
//!
//! - how far the pooled tokens `t` lie from the mean, in standard deviations, root mean square over
//!   the leading principal components and once more for all the rest together:
//!   `distance^2 = (sum_r ((c_r . (t - m)) / s_r)^2 + (||rest|| / s_rest)^2) / (r + 1)`.
//!   The embedding would do worse: its unit length hides how much of anything the encoder saw.
//! - what share of the image the dictionary leaves over, as a root, where the variance is taken
//!   from the mean of training images: `sqrt(sum ||x - x_hat||^2 / sum ||x - centre||^2)` over all
//!   that the SAE reads of the image.
//!
//! The first knows pictures of other things, the second what is made of familiar parts in an
//! unfamiliar way: an image upside down is made of everyday parts.

use serde::{Deserialize, Serialize};

use crate::bundle::{OodModel, Sae, dot};
use crate::encode::{Embedding, Tokens, count};
use crate::sparse::{self, Code, SparseCode};

/// What the score means for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Likeness {
    /// Like the images that the bundle was measured on.
    In,
    /// At their edge.
    Borderline,
    /// Unlike them.
    Out,
}

/// An image's score beside its threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ood {
    /// >= 0; about 1 where usual images end.
    pub score: f64,
    /// Above it an image is out of distribution.
    pub threshold: f64,
    /// What follows.
    pub decision: Likeness,
}

/// The two questions of an image, before they are brought together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strangeness {
    /// Of the pooled tokens, about 1 for a typical image.
    pub distance: f32,
    /// Root of the share that the dictionary leaves over; about 1 where it explains nothing.
    pub unexplained: f32,
}

impl Strangeness {
    /// Of an image, by its parts.
    #[must_use]
    pub fn of(
        tokens: &Tokens,
        embedding: &Embedding,
        code: &Code,
        sae: &Sae,
        model: &OodModel,
    ) -> Self {
        let read: Vec<(&[f32], &SparseCode)> = if code.tokens.is_empty() {
            vec![(embedding.values.as_slice(), &code.image)]
        } else {
            tokens.iter().zip(&code.tokens).collect()
        };
        Self {
            distance: distance(&tokens.pooled(), model),
            unexplained: unexplained(&read, sae, &model.centre),
        }
    }

    /// The larger of both, over what usual images are at the edge of.
    #[must_use]
    pub fn score(self, edge: [f32; 2]) -> f32 {
        (self.distance / edge[0]).max(self.unexplained / edge[1])
    }
}

/// How far pooled tokens lie from the mean, in standard deviations.
fn distance(pooled: &[f32], model: &OodModel) -> f32 {
    let centred: Vec<f32> = pooled.iter().zip(&model.mean).map(|(t, m)| t - m).collect();
    let mut inside = 0.0_f32;
    let mut sum = 0.0_f32;
    for (row, std) in model.std.iter().enumerate() {
        let along = dot(model.components.row(row), &centred);
        inside += along * along;
        sum += (along / std) * (along / std);
    }
    let rest = (dot(&centred, &centred) - inside).max(0.0).sqrt() / model.residual_std;
    ((sum + rest * rest) / count(model.std.len() + 1)).sqrt()
}

/// What share the dictionary leaves over of what it read.
fn unexplained(read: &[(&[f32], &SparseCode)], sae: &Sae, centre: &[f32]) -> f32 {
    let (mut error, mut variance) = (0.0_f32, 0.0_f32);
    for (x, code) in read {
        let made = sparse::decode(sae, code);
        for ((x, made), centre) in x.iter().zip(&made).zip(centre) {
            error += (x - made) * (x - made);
            variance += (x - centre) * (x - centre);
        }
    }
    // Nothing but the mean itself has no variance, and is explained by the bias.
    if variance > 0.0 { (error / variance).sqrt() } else { 0.0 }
}

/// The score and what follows from it.
#[must_use]
pub fn judge(
    tokens: &Tokens,
    embedding: &Embedding,
    code: &Code,
    sae: &Sae,
    model: &OodModel,
) -> Ood {
    let score = Strangeness::of(tokens, embedding, code, sae, model).score(model.edge);
    let decision = if score > model.threshold {
        Likeness::Out
    } else if score > model.borderline {
        Likeness::Borderline
    } else {
        Likeness::In
    };
    Ood { score: f64::from(score), threshold: f64::from(model.threshold), decision }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Level, Matrix, Weights};

    fn model() -> OodModel {
        OodModel {
            mean: vec![1.0, 0.0],
            components: Matrix { rows: 1, columns: 2, values: vec![1.0, 0.0] },
            std: vec![0.5],
            residual_std: 2.0,
            centre: vec![0.0, 0.0],
            edge: [1.0, 0.5],
            threshold: 1.5,
            borderline: 1.0,
        }
    }

    /// One latent along the first axis.
    fn sae(level: Level) -> Sae {
        let row = || Weights::F32(Matrix { rows: 1, columns: 2, values: vec![1.0, 0.0] });
        Sae {
            level,
            w_enc: row(),
            b_enc: vec![0.0],
            w_dec: row(),
            b_dec: vec![0.0, 0.0],
            threshold: vec![0.0],
        }
    }

    fn strange(level: Level, values: [f32; 2], tokens: &[f32]) -> Strangeness {
        let embedding = Embedding { values: values.to_vec(), norm: 1.0 };
        let tokens = Tokens { n_tokens: tokens.len() / 2, d_token: 2, values: tokens.to_vec() };
        let sae = sae(level);
        let code = sparse::encode(&sae, &tokens, &embedding);
        Strangeness::of(&tokens, &embedding, &code, &sae, &model())
    }

    #[test]
    fn the_distance_counts_standard_deviations() {
        // One component 2 deviations away, the rest 1: sqrt((4 + 1) / 2).
        let found = strange(Level::Embedding, [0.0, 0.0], &[2.0, 2.0]).distance;
        assert!((found - 2.5_f32.sqrt()).abs() < 1e-6, "{found}");
    }

    #[test]
    fn what_the_dictionary_leaves_over_is_a_share_of_all_that_it_read() {
        // (3, 4): the latent explains 3.
        let found = strange(Level::Embedding, [3.0, 4.0], &[1.0, 0.0]).unexplained;
        assert!((found - 0.8).abs() < 1e-6, "{found}");
        // Two tokens, 9 + 16 of 9 + 16 + 25: the second has no part along the latent.
        let found = strange(Level::Tokens, [1.0, 0.0], &[3.0, 4.0, 0.0, 5.0]).unexplained;
        assert!((found - (41.0_f32 / 50.0).sqrt()).abs() < 1e-6, "{found}");
    }

    #[test]
    fn the_larger_question_counts_and_the_mean_is_in() {
        let judged = |values: [f32; 2]| {
            let embedding = Embedding { values: values.to_vec(), norm: 1.0 };
            let tokens = Tokens { n_tokens: 1, d_token: 2, values: values.to_vec() };
            let sae = sae(Level::Embedding);
            let code = sparse::encode(&sae, &tokens, &embedding);
            judge(&tokens, &embedding, &code, &sae, &model())
        };
        assert_eq!(judged([1.0, 0.0]).decision, Likeness::In);
        assert_eq!(judged([1.9, 0.0]).decision, Likeness::Borderline);
        assert_eq!(judged([1.0, 9.0]).decision, Likeness::Out);
        // Near the mean, and half of its variance is unexplained: sqrt(1/2) over 0.5.
        let strange = judged([1.0, 1.0]);
        assert!((strange.score - 2.0_f64.sqrt()).abs() < 1e-6, "{strange:?}");
        assert_eq!(strange.decision, Likeness::Borderline);
    }
}
