//! Why an engine could not be started or run.

use super::Nodes;

/// Why an engine could not be started or run.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// This binary was built without the engine.
    #[error("engine {0}: not in this build (Cargo feature)")]
    NotBuilt(&'static str),
    /// The library cannot be loaded.
    #[error("ONNX Runtime: loading {library}: {text}")]
    Library {
        /// Path or name that was tried.
        library: String,
        /// What the loader said.
        text: String,
    },
    /// The library does not give the execution provider.
    #[error("engine {engine}: {text}")]
    Provider {
        /// Which engine.
        engine: &'static str,
        /// What the library said.
        text: String,
    },
    /// The provider was taken and holds nothing of the graph.
    #[error("engine {engine}: expected it to hold nodes of the encoder's graph, found {nodes}")]
    NoNodes {
        /// Which engine.
        engine: &'static str,
        /// Who holds them.
        nodes: Nodes,
    },
    /// The engine refuses the bundle's encoder.
    #[error("bundle: encoder.onnx: engine {engine}: {text}")]
    Load {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        text: String,
    },
    /// The engine failed on an image.
    #[error("engine {engine}: running the encoder: {text}")]
    Run {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        text: String,
    },
    /// The encoder's output has another shape.
    #[error("bundle: encoder.onnx: output tokens: expected {expected:?}, found {found:?}")]
    Shape {
        /// From the manifest.
        expected: [usize; 3],
        /// From the engine.
        found: Vec<usize>,
    },
    /// The encoder gave something that is not a number.
    #[error("encoder output: expected finite numbers, found {found} at index {at}")]
    NotFinite {
        /// The value.
        found: f32,
        /// Where.
        at: usize,
    },
}
