//! What a dictionary's features are worth: reconstruction, sparsity, agreement with labels beside
//! chance, readouts on other patients, stability.
//!
//! Everything is exact and reads codes sparsely, so that 16,384 latents on 224,000 images take
//! minutes on one core. Each figure stands beside what simpler ways reach with as many numbers.

pub mod labels;
pub mod auroc;
pub mod permute;
pub mod bootstrap;
pub mod alignment;
pub mod reconstruct;
pub mod monosemantic;
pub mod sparsity;
pub mod logistic;
pub mod probes;
pub mod teach;
pub mod pca;
pub mod stable;
pub mod absorb;
pub mod plan;
pub mod images;
pub mod readout;
pub mod ground;
pub mod arm;
pub mod evaluation;
pub mod report;
