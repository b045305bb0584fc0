//! What is said of engines: which one runs, and what became of the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which engine runs, truthfully.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// `ort` or `tract`.
    pub backend: String,
    /// Execution provider that holds most of the graph: `tensorrt`, `cuda` or `cpu`.
    pub provider: String,
    /// Number format in which it computes.
    pub precision: String,
    /// Version of the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// Share of the graph's nodes that the provider holds, 0 to 1, by the session's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_share: Option<f64>,
}

/// Nodes of the encoder's graph by the provider that holds them, after partitioning.
///
/// What a library was compiled with, or lets itself be asked for, says nothing about what runs:
/// this is the session's own account of the graph that it made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nodes(pub BTreeMap<String, usize>);

impl Nodes {
    /// Nodes of one provider.
    #[must_use]
    pub fn of(&self, provider: &str) -> usize {
        self.0.get(provider).copied().unwrap_or(0)
    }

    /// One provider's share, 0 to 1; 0 of a graph without nodes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "graphs have some thousand nodes")]
    pub fn share(&self, provider: &str) -> f64 {
        let all: usize = self.0.values().sum();
        // Three digits: it is read by people, and must not differ in the last bit.
        let share = self.of(provider) as f64 / all.max(1) as f64;
        (share * 1e3).round() / 1e3
    }
}

impl std::fmt::Display for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, n)| format!("{name} {n}")).collect();
        f.write_str(&if parts.is_empty() { "none".into() } else { parts.join(", ") })
    }
}

/// An engine that was asked for and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineVerdict {
    /// As the configuration names it.
    pub name: String,
    /// It runs, or was not needed, or failed.
    pub verdict: Verdict,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who holds the graph's nodes; none where it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// Time to load the library and make a session, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
    /// Time of the first image, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_ms: Option<u64>,
}

impl EngineVerdict {
    /// Nothing is known of it yet but this.
    #[must_use]
    pub fn new(name: &str, verdict: Verdict) -> Self {
        Self {
            name: name.into(),
            verdict,
            reason: String::new(),
            nodes: None,
            load_ms: None,
            warm_up_ms: None,
        }
    }

    /// It was passed over.
    #[must_use]
    pub fn rejected(name: &str, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::new(name, Verdict::Rejected) }
    }
}

/// What became of an engine that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It reads images.
    Running,
    /// An engine before it in the order runs.
    NotNeeded,
    /// It could not be started or failed the self-test.
    Rejected,
    /// It is being tried, or built; another one may read meanwhile.
    Probing,
    /// It passed the self-test and does not read.
    Passed,
}

impl Verdict {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::NotNeeded => "not-needed",
            Self::Rejected => "rejected",
            Self::Probing => "probing",
            Self::Passed => "passed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_all_nodes_and_of_none_it_is_none() {
        let nodes = Nodes([("tensorrt".to_owned(), 2), ("cpu".to_owned(), 1)].into());
        let found = [nodes.share("tensorrt"), nodes.share("cuda"), Nodes::default().share("cpu")];
        assert_eq!(format!("{found:?}"), "[0.667, 0.0, 0.0]");
        assert_eq!(nodes.to_string(), "cpu 1, tensorrt 2");
    }
}
