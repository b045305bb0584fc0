//! Which latents fire, and how strongly.
//!
//! `pre = w_enc . x + b_enc`; a latent is active where `pre > threshold`, and its activation is
//! then `pre` (JumpReLU). The SAE reads the embedding (MedSAE's way) or each token; at the token
//! level the image's code is the mean of the tokens' activations.

use serde::{Deserialize, Serialize};

use crate::bundle::{Level, Sae};
use crate::encode::{Embedding, Tokens, count};
use crate::id::LatentIndex;

/// One active latent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Active {
    /// Which.
    pub latent: LatentIndex,
    /// How strongly, finite and > 0, in units of what the SAE reads.
    pub activation: f32,
}

/// Activations over the dictionary, sparse: by rising latent index, each finite and > 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SparseCode {
    entries: Vec<Active>,
}

impl SparseCode {
    /// The active latents, by rising index.
    #[must_use]
    pub fn entries(&self) -> &[Active] {
        &self.entries
    }

    /// A latent's activation; 0 where it is not active.
    #[must_use]
    pub fn activation(&self, latent: LatentIndex) -> f32 {
        let found = self.entries.binary_search_by_key(&latent, |active| active.latent);
        found.map_or(0.0, |at| self.entries[at].activation)
    }

    /// The code as a dense vector `[d_sae]`.
    #[must_use]
    pub fn dense(&self, d_sae: usize) -> Vec<f32> {
        let mut dense = vec![0.0; d_sae];
        for active in &self.entries {
            dense[active.latent.position()] = active.activation;
        }
        dense
    }

    /// The positive entries of a dense vector.
    fn from_dense(dense: &[f32]) -> Self {
        let entries = (0_u32..).zip(dense).filter(|(_, a)| **a > 0.0);
        Self {
            entries: entries
                .map(|(i, &a)| Active { latent: LatentIndex(i), activation: a })
                .collect(),
        }
    }
}

/// What the SAE says of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// The image's code.
    pub image: SparseCode,
    /// At the token level each token's code, in the order of the grid; empty at the embedding's.
    pub tokens: Vec<SparseCode>,
}

/// Encodes one image at the level of the bundle's SAE.
#[must_use]
pub fn encode(sae: &Sae, tokens: &Tokens, embedding: &Embedding) -> Code {
    match sae.level {
        Level::Embedding => Code { image: activations(sae, &embedding.values), tokens: Vec::new() },
        Level::Tokens => {
            let tokens: Vec<SparseCode> =
                tokens.iter().map(|token| activations(sae, token)).collect();
            Code { image: mean(sae.b_enc.len(), &tokens), tokens }
        }
    }
}

/// A latent's pre-activation on `x`.
#[must_use]
pub fn pre_activation(sae: &Sae, latent: LatentIndex, x: &[f32]) -> f32 {
    let row = latent.position();
    sae.w_enc.row_dot(row, x) + sae.b_enc[row]
}

/// What the SAE makes of a code: `x_hat = sum(a_i w_dec_i) + b_dec`.
#[must_use]
pub fn decode(sae: &Sae, code: &SparseCode) -> Vec<f32> {
    let mut x = sae.b_dec.clone();
    for active in code.entries() {
        let row = sae.w_dec.row(active.latent.position());
        x.iter_mut().zip(row).for_each(|(x, w)| *x += active.activation * w);
    }
    x
}

fn activations(sae: &Sae, x: &[f32]) -> SparseCode {
    let indexed = (0_u32..).map(LatentIndex).zip(&sae.threshold);
    let active = indexed.filter_map(|(latent, threshold)| {
        let activation = pre_activation(sae, latent, x);
        (activation > *threshold).then_some(Active { latent, activation })
    });
    SparseCode { entries: active.collect() }
}

/// Mean over the tokens, summed in their order.
fn mean(d_sae: usize, tokens: &[SparseCode]) -> SparseCode {
    let mut sum = vec![0.0_f32; d_sae];
    for active in tokens.iter().flat_map(SparseCode::entries) {
        sum[active.latent.position()] += active.activation;
    }
    let n = count(tokens.len());
    sum.iter_mut().for_each(|s| *s /= n);
    SparseCode::from_dense(&sum)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the values are exact by construction")]
mod tests {
    use super::*;
    use crate::bundle::{Matrix, Weights};

    fn sae(level: Level) -> Sae {
        let identity = || Matrix { rows: 2, columns: 2, values: vec![1.0, 0.0, 0.0, 1.0] };
        Sae {
            level,
            w_enc: Weights::F32(identity()),
            b_enc: vec![0.0, -1.0],
            w_dec: Weights::F32(identity()),
            b_dec: vec![0.5, 0.5],
            threshold: vec![0.25, 0.0],
        }
    }

    fn two_tokens() -> (Tokens, Embedding) {
        let tokens = Tokens { n_tokens: 2, d_token: 2, values: vec![1.0, 3.0, 0.25, 1.0] };
        (tokens, Embedding { values: vec![0.5, 0.5], norm: 1.0 })
    }

    #[test]
    fn a_latent_at_its_threshold_is_silent() {
        let (tokens, embedding) = two_tokens();
        let code = encode(&sae(Level::Tokens), &tokens, &embedding);
        // Token 2: 0.25 is not above 0.25, and 1 - 1 = 0 is not above 0.
        assert_eq!(code.tokens[1], SparseCode::default());
        assert_eq!(code.tokens[0].dense(2), [1.0, 2.0]);
    }

    #[test]
    fn at_the_token_level_the_image_is_the_mean_of_its_tokens() {
        let (tokens, embedding) = two_tokens();
        let code = encode(&sae(Level::Tokens), &tokens, &embedding);
        assert_eq!(code.image.dense(2), [0.5, 1.0]);
        assert_eq!(code.image.activation(LatentIndex(1)), 1.0);
    }

    #[test]
    fn at_the_embedding_level_the_tokens_have_no_codes() {
        let (tokens, embedding) = two_tokens();
        let code = encode(&sae(Level::Embedding), &tokens, &embedding);
        assert_eq!(code.image.dense(2), [0.5, 0.0]);
        assert!(code.tokens.is_empty());
    }

    #[test]
    fn a_code_decodes_to_the_sum_of_its_dictionary_directions() {
        let (tokens, embedding) = two_tokens();
        let sae = sae(Level::Embedding);
        let code = encode(&sae, &tokens, &embedding);
        assert_eq!(decode(&sae, &code.image), [1.0, 0.5]);
    }
}
