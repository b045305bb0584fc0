//! Which inference engines are tried, and within what.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Inference engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Tried in this order until one passes the bundle's self-test.
    pub order: Vec<EngineChoice>,
    /// `libonnxruntime.so`; empty: beside the binary, then the system's.
    pub library: PathBuf,
    /// Reader threads; each owns one engine session.
    pub sessions: usize,
    /// Threads inside one session, of ONNX Runtime on the CPU and of tract.
    pub threads: usize,
    /// Number of the GPU that TensorRT and CUDA compute on.
    pub device: u16,
    /// May TensorRT compute in fp16 what the bundle does not quantise?
    pub fp16: bool,
    /// Folder of the engines that TensorRT built; empty: `engines` under the storage path.
    pub cache: PathBuf,
    /// Most that such a folder may hold.
    pub cache_max: ByteSize,
    /// Most memory of the GPU that CUDA's arena takes, and TensorRT's builder as its workspace.
    pub workspace: ByteSize,
    /// Private memory of the process that tries an engine.
    pub memory: ByteSize,
    /// Longest try of an engine that has nothing to build.
    #[serde(with = "humantime_serde")]
    pub probe_wall: Duration,
    /// Longest try of TensorRT, which builds an engine in it.
    #[serde(with = "humantime_serde")]
    pub build_wall: Duration,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            order: EngineChoice::ALL.into(),
            library: PathBuf::new(),
            sessions: 1,
            threads: 2,
            device: 0,
            fp16: true,
            cache: PathBuf::new(),
            cache_max: ByteSize::gib(1),
            workspace: ByteSize::gib(1),
            memory: ByteSize::gib(4),
            probe_wall: Duration::from_secs(120),
            build_wall: Duration::from_secs(1800),
        }
    }
}

/// An engine that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// ONNX Runtime with TensorRT, and CUDA for what TensorRT leaves.
    TensorRt,
    /// ONNX Runtime with CUDA.
    Cuda,
    /// ONNX Runtime on the CPU.
    Cpu,
    /// tract, compiled in.
    Tract,
}

impl EngineChoice {
    /// All of them, best first.
    pub const ALL: [Self; 4] = [Self::TensorRt, Self::Cuda, Self::Cpu, Self::Tract];

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
            Self::Tract => "tract",
        }
    }
}

impl std::str::FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|choice| choice.name() == text);
        found.ok_or_else(|| format!("expected tensorrt, cuda, cpu or tract, found {text}"))
    }
}

impl Engine {
    /// Longest try of this engine.
    #[must_use]
    pub fn wall(&self, choice: EngineChoice) -> Duration {
        if choice == EngineChoice::TensorRt { self.build_wall } else { self.probe_wall }
    }

    /// Folder of built engines, for a unit that keeps its things under `storage`.
    #[must_use]
    pub fn cache_folder(&self, storage: &Path) -> PathBuf {
        if self.cache.as_os_str().is_empty() { storage.join("engines") } else { self.cache.clone() }
    }

    pub(super) fn validate(&self, check: &mut impl FnMut(bool, String)) {
        check(
            !self.order.is_empty(),
            "engine.order: expected at least one engine, found none".into(),
        );
        let twice = self.order.iter().enumerate().find(|(at, c)| self.order[..*at].contains(c));
        check(
            twice.is_none(),
            format!("engine.order: expected each engine once, found {:?}", self.order),
        );
        for (key, count) in [("sessions", self.sessions), ("threads", self.threads)] {
            check(
                (1..=64).contains(&count),
                format!("engine.{key}: expected 1 to 64, found {count}"),
            );
        }
        for (key, time) in [("probe_wall", self.probe_wall), ("build_wall", self.build_wall)] {
            check(
                time.as_secs() > 0,
                format!("engine.{key}: expected at least 1s, found {time:?}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_known_by_the_name_that_the_configuration_has() {
        for choice in EngineChoice::ALL {
            assert_eq!(choice.name().parse(), Ok(choice));
            let text = serde_json::to_string(&choice).expect("written");
            assert_eq!(text, format!("{:?}", choice.name()));
        }
        assert!("gpu".parse::<EngineChoice>().is_err());
    }
}
