//! Is this embedding like those that the bundle was measured on?
//!
//! The score is the root mean square of how many standard deviations the embedding lies from the
//! mean: along each leading principal component, and once more for all the rest together.
//! `score^2 = (sum_r ((c_r . (e - m)) / s_r)^2 + (||rest|| / s_rest)^2) / (r + 1)`

use serde::{Deserialize, Serialize};

use crate::bundle::{OodModel, dot};
use crate::encode::{Embedding, count};

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
    /// Distance, >= 0, about 1 for a typical image.
    pub score: f64,
    /// Above it an image is out of distribution.
    pub threshold: f64,
    /// What follows.
    pub decision: Likeness,
}

/// The distance of an embedding from what the bundle was measured on.
#[must_use]
pub fn score(embedding: &Embedding, model: &OodModel) -> f32 {
    let centred: Vec<f32> = embedding.values.iter().zip(&model.mean).map(|(e, m)| e - m).collect();
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

/// The score and what follows from it.
#[must_use]
pub fn judge(embedding: &Embedding, model: &OodModel) -> Ood {
    let score = score(embedding, model);
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
    use crate::bundle::Matrix;

    fn model() -> OodModel {
        OodModel {
            mean: vec![1.0, 0.0],
            components: Matrix { rows: 1, columns: 2, values: vec![1.0, 0.0] },
            std: vec![0.5],
            residual_std: 2.0,
            threshold: 1.5,
            borderline: 1.0,
        }
    }

    fn judged(values: [f32; 2]) -> Ood {
        judge(&Embedding { values: values.to_vec(), norm: 1.0 }, &model())
    }

    #[test]
    fn the_score_counts_standard_deviations() {
        // One component 2 deviations away, the rest 1: sqrt((4 + 1) / 2).
        let score = judged([2.0, 2.0]).score;
        assert!((score - 2.5_f64.sqrt()).abs() < 1e-6, "{score}");
    }

    #[test]
    fn the_mean_is_in_and_the_far_is_out() {
        assert_eq!(judged([1.0, 0.0]).decision, Likeness::In);
        assert_eq!(judged([1.9, 0.0]).decision, Likeness::Borderline);
        assert_eq!(judged([1.0, 9.0]).decision, Likeness::Out);
    }
}
