//! Which engine reads: the one that is compiled in from the first second, a better one as soon as
//! it has been tried.
//!
//! Engines are tried in the configured order, each in a process of its own, on a thread beside the
//! readers. The first that passes is started once for each reader; a reader changes between two
//! images, so that an image is read by one engine and its messages name that one.
//!
//! An engine that fails on an image must pass the self-test again: if it does, the image was to
//! blame; if it does not, the compiled-in engine takes its place and the rest of the order is tried.

use std::sync::Arc;
use std::time::Duration;

use super::mark::Mark;
use super::{Shared, lock};
use crate::config::EngineChoice;
use crate::encode::{Encoder, Engine, EngineVerdict, Verdict};
use crate::metrics::EngineFacts;
use crate::selftest::probe::{Prober, Trusted};
use crate::selftest::{self, SelftestError};

/// Which engines were tried, and which one runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Engines {
    pub(super) running: Option<Engine>,
    pub(super) verdicts: Vec<EngineVerdict>,
    /// Why nothing is read.
    pub(super) problem: Option<String>,
    /// They were tried, and none passed.
    pub(super) failed: bool,
}

impl Engines {
    /// Nothing was tried yet.
    pub(super) fn of(order: &[EngineChoice]) -> Self {
        let verdicts =
            order.iter().map(|c| EngineVerdict::new(c.name(), Verdict::Probing)).collect();
        Self { running: None, verdicts, problem: Some("starting".into()), failed: false }
    }

    /// Takes what became of one engine, and what follows for the whole.
    fn take(&mut self, verdict: EngineVerdict) {
        let of_name = self.verdicts.iter_mut().find(|v| v.name == verdict.name);
        match of_name {
            Some(known) => *known = verdict,
            None => self.verdicts.push(verdict),
        }
        // One that passed is about to read.
        let awaited = |v: &EngineVerdict| matches!(v.verdict, Verdict::Probing | Verdict::Passed);
        let open = self.verdicts.iter().any(awaited);
        self.failed = self.running.is_none() && !open;
        self.problem = match (&self.running, open) {
            (Some(_), _) => None,
            (None, true) => Some("starting".into()),
            (None, false) => Some(SelftestError::NoEngine(self.verdicts.clone()).to_string()),
        };
    }

    /// The next engine to be tried: the first that is open, and of those behind the compiled-in one
    /// only where that one, which needs no try, was passed over.
    fn next(&self, order: &[EngineChoice]) -> Option<EngineChoice> {
        let is = |choice: EngineChoice, verdict| {
            self.verdicts.iter().any(|v| v.name == choice.name() && v.verdict == verdict)
        };
        order
            .iter()
            .copied()
            .take_while(|&c| c != EngineChoice::Tract || is(c, Verdict::Rejected))
            .find(|&c| is(c, Verdict::Probing))
    }

    /// As the metrics tell it.
    fn facts(&self) -> Vec<EngineFacts> {
        let fact = |v: &EngineVerdict| EngineFacts {
            name: v.name.clone(),
            verdict: v.verdict.name(),
            // tract's provider is the CPU too.
            node_share: v.nodes.as_ref().map(|n| {
                n.share(if v.name == EngineChoice::Tract.name() { "cpu" } else { &v.name })
            }),
            load: v.load_ms.map(Duration::from_millis),
            warm_up: v.warm_up_ms.map(Duration::from_millis),
        };
        self.verdicts.iter().map(fact).collect()
    }

    /// An engine took over: the one before it is not needed, and none behind it in the order.
    fn took_over(&mut self, engine: Engine) {
        let name = name_of(&engine).to_owned();
        self.running = Some(engine);
        let mut behind = false;
        for verdict in &mut self.verdicts {
            if verdict.name == name {
                (verdict.verdict, behind) = (Verdict::Running, true);
                verdict.reason.clear();
            } else if verdict.verdict == Verdict::Running
                || (behind && verdict.verdict == Verdict::Probing)
            {
                verdict.verdict = Verdict::NotNeeded;
            }
        }
        (self.problem, self.failed) = (None, false);
    }
}

/// An engine's name in the configuration.
pub(super) fn name_of(engine: &Engine) -> &str {
    if engine.backend == "tract" { EngineChoice::Tract.name() } else { &engine.provider }
}

/// Tries engines on a thread of its own, until one passes or all failed.
///
/// The thread is not waited for at the end: the process that it tries ends with this one.
pub(super) fn try_in_order(shared: &Arc<Shared>) {
    let of_thread = shared.clone();
    let thread = std::thread::Builder::new().name("engines".into());
    if let Err(error) = thread.spawn(move || choose(&of_thread)) {
        tracing::error!(%error, "no thread to try engines on: the one that reads stays");
    }
}

fn choose(shared: &Shared) {
    // One at a time: two readers may have found an engine wanting.
    let _one_at_a_time = lock(&shared.choosing);
    let prober = Prober::own(&shared.bundle, &shared.config);
    let order = &shared.config.engine.order;
    let next = || shared.engines.borrow().next(order);
    while let Some(choice) = next().filter(|_| !shared.work.stopped()) {
        tracing::info!(engine = choice.name(), "engine is tried");
        let passed = prober
            .probe(choice)
            .and_then(|trusted| Ok((sessions(shared, &prober, &trusted)?, trusted)));
        match passed {
            Ok((encoders, trusted)) => return shared.offer(encoders, &trusted),
            Err(reason) => shared.pass_over(choice.name(), reason),
        }
    }
}

/// One session for each reader.
fn sessions(
    shared: &Shared,
    prober: &Prober<'_>,
    trusted: &Trusted,
) -> Result<Vec<Box<dyn Encoder>>, String> {
    let storage = &shared.config.storage.path;
    let mark = Mark::begin(storage, trusted.choice.name(), shared.clock.now())?;
    let started = (0..shared.config.engine.sessions).map(|_| prober.start(trusted)).collect();
    mark.end();
    started
}

impl Shared {
    /// The compiled-in engine, where the configuration asks for it and it passes the self-test.
    pub(super) fn compiled_in(self: &Arc<Self>) -> Option<Box<dyn Encoder>> {
        if !self.config.engine.order.contains(&EngineChoice::Tract) {
            return None;
        }
        match Prober::own(&self.bundle, &self.config).compiled_in() {
            Ok((encoder, verdict)) => {
                self.tell_engines(|engines| engines.take(verdict));
                self.takes_over(encoder.engine());
                Some(encoder)
            }
            Err(reason) => {
                self.pass_over(EngineChoice::Tract.name(), reason);
                try_in_order(self);
                None
            }
        }
    }

    /// A better engine, if one waits for this reader.
    pub(super) fn offered(&self) -> Option<Box<dyn Encoder>> {
        let encoder = lock(&self.offered).pop()?;
        self.takes_over(encoder.engine());
        Some(encoder)
    }

    /// A reader reads with this engine from now on.
    fn takes_over(&self, engine: &Engine) {
        if self.engines.borrow().running.as_ref() == Some(engine) {
            return;
        }
        tracing::info!(
            backend = engine.backend,
            provider = engine.provider,
            precision = engine.precision,
            library = engine.library,
            node_share = engine.node_share,
            "engine reads"
        );
        self.tell_engines(|engines| engines.took_over(engine.clone()));
    }

    fn offer(&self, encoders: Vec<Box<dyn Encoder>>, trusted: &Trusted) {
        let (name, passed) = (trusted.choice.name(), &trusted.passed);
        tracing::info!(
            engine = name,
            nodes = %passed.nodes,
            load_ms = passed.load_ms,
            warm_up_ms = passed.warm_up_ms,
            "engine passed the self-test"
        );
        self.tell_engines(|engines| engines.take(passed.verdict(name, Verdict::Passed)));
        *lock(&self.offered) = encoders;
        self.work.ring();
    }

    /// Does an engine that failed on an image still pass the self-test? If not it is passed over.
    pub(super) fn is_sound(self: &Arc<Self>, encoder: &mut dyn Encoder, text: &str) -> bool {
        let Err(error) = selftest::check(&self.bundle, encoder) else { return true };
        let name = name_of(encoder.engine()).to_owned();
        if self.engines.borrow().running.as_ref().map(name_of) != Some(&name) {
            // Another reader has found it wanting before: what followed is under way.
            return false;
        }
        self.tell_engines(|engines| {
            engines.running = None;
            for verdict in &mut engines.verdicts {
                if verdict.verdict == Verdict::NotNeeded {
                    verdict.verdict = Verdict::Probing;
                }
            }
        });
        lock(&self.offered).clear();
        self.pass_over(&name, format!("it failed on an image ({text}), and then: {error}"));
        try_in_order(self);
        false
    }

    fn pass_over(&self, name: &str, reason: String) {
        tracing::warn!(engine = name, reason, "engine passed over");
        self.tell_engines(|engines| engines.take(EngineVerdict::rejected(name, reason)));
        let engines = self.engines.borrow().clone();
        if engines.failed {
            let why = selftest::list(&engines.verdicts);
            tracing::error!(why, "no engine: nothing is read; images are received and kept");
        }
    }

    fn tell_engines(&self, change: impl FnOnce(&mut Engines)) {
        self.engines.send_modify(change);
        self.metrics.engines(&self.engines.borrow().facts());
        self.tell_about();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(backend: &str, provider: &str) -> Engine {
        Engine {
            backend: backend.into(),
            provider: provider.into(),
            precision: "fp32".into(),
            library: None,
            node_share: None,
        }
    }

    fn told(engines: &Engines) -> Vec<(&str, Verdict)> {
        engines.verdicts.iter().map(|v| (v.name.as_str(), v.verdict)).collect()
    }

    #[test]
    fn the_compiled_in_engine_reads_until_a_better_one_takes_over() {
        let mut engines = Engines::of(&EngineChoice::ALL);
        assert_eq!(engines.problem.as_deref(), Some("starting"));
        engines.took_over(engine("tract", "cpu"));
        engines.take(EngineVerdict::rejected("tensorrt", "no GPU"));
        engines.take(EngineVerdict::rejected("cuda", "no GPU"));
        assert_eq!(told(&engines)[2..], [("cpu", Verdict::Probing), ("tract", Verdict::Running)]);
        engines.take(EngineVerdict::new("cpu", Verdict::Passed));
        engines.took_over(engine("ort", "cpu"));
        let expected = [
            ("tensorrt", Verdict::Rejected),
            ("cuda", Verdict::Rejected),
            ("cpu", Verdict::Running),
            ("tract", Verdict::NotNeeded),
        ];
        assert_eq!(told(&engines), expected);
        assert!(engines.problem.is_none() && !engines.failed);
    }

    #[test]
    fn engines_behind_the_compiled_in_one_are_tried_only_where_it_fails() {
        let order = [EngineChoice::Cuda, EngineChoice::Tract, EngineChoice::Cpu];
        let mut engines = Engines::of(&order);
        assert_eq!(engines.next(&order), Some(EngineChoice::Cuda));
        engines.take(EngineVerdict::rejected("cuda", "no GPU"));
        assert_eq!(engines.next(&order), None, "it may still pass");
        engines.take(EngineVerdict::rejected("tract", "wrong bundle"));
        assert_eq!(engines.next(&order), Some(EngineChoice::Cpu));
        assert!(!engines.failed, "one is still tried");
        engines.take(EngineVerdict::new("cpu", Verdict::Passed));
        assert_eq!(engines.next(&order), None);
        assert!(!engines.failed, "it is about to read");
    }

    #[test]
    fn a_unit_whose_engines_all_failed_says_why_for_each() {
        let mut engines = Engines::of(&[EngineChoice::Cpu, EngineChoice::Tract]);
        engines.take(EngineVerdict::rejected("cpu", "no library"));
        assert!(!engines.failed, "one is still tried");
        engines.take(EngineVerdict::rejected("tract", "wrong bundle"));
        assert!(engines.failed);
        let problem = engines.problem.expect("a problem");
        assert!(problem.contains("no library") && problem.contains("wrong bundle"), "{problem}");
    }
}
