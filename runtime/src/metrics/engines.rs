//! What is told of engines.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// An engine by its name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEngine {
    engine: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    engine: String,
    verdict: &'static str,
}

/// What is told of one engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineFacts {
    /// Its name in the configuration.
    pub name: String,
    /// What became of it.
    pub verdict: &'static str,
    /// Share of the graph's nodes that its provider holds, where it was started.
    pub node_share: Option<f64>,
    /// Time to load it.
    pub load: Option<Duration>,
    /// Time of its first image.
    pub warm_up: Option<Duration>,
}

/// What is told of engines, whenever that changes.
#[derive(Default)]
pub(super) struct EngineGauges {
    verdicts: Family<OfVerdict, Gauge>,
    node_share: Family<OfEngine, Gauge<f64, AtomicU64>>,
    load: Family<OfEngine, Gauge<f64, AtomicU64>>,
    warm_up: Family<OfEngine, Gauge<f64, AtomicU64>>,
}

impl EngineGauges {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("engine", "Engines by what became of them", self.verdicts.clone());
        to.register(
            "engine_node_share",
            "Share of the encoder's graph that the engine's provider holds",
            self.node_share.clone(),
        );
        let seconds = || Unit::Seconds;
        to.register_with_unit("engine_load", "Time to load", seconds(), self.load.clone());
        let first = "Time of the first image";
        to.register_with_unit("engine_warm_up", first, seconds(), self.warm_up.clone());
    }

    pub(super) fn set(&self, engines: &[EngineFacts]) {
        self.verdicts.clear();
        for facts in engines {
            let of = || OfEngine { engine: facts.name.clone() };
            let verdict = OfVerdict { engine: facts.name.clone(), verdict: facts.verdict };
            self.verdicts.get_or_create(&verdict).set(1);
            for (family, value) in [
                (&self.node_share, facts.node_share),
                (&self.load, facts.load.map(|t| t.as_secs_f64())),
                (&self.warm_up, facts.warm_up.map(|t| t.as_secs_f64())),
            ] {
                if let Some(value) = value {
                    family.get_or_create(&of()).set(value);
                }
            }
        }
    }
}
