//! The product's own DICOM receiver, which counts what it is given and keeps nothing.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clearfilm::clock::SystemClock;
use clearfilm::config::Config;
use clearfilm::ingest::{self, Accepted, Spool};
use clearfilm::metrics::Metrics;
use clearfilm::pulse::Pulses;
use tokio::net::TcpListener;

/// It listens until the test ends.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    count: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    pub(crate) fn start(spool: &Path) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let count = Arc::new(AtomicU64::new(0));
        let (counted, clock) = (count.clone(), Arc::new(SystemClock));
        let config = Config::default();
        let receiver = ingest::Receiver {
            scp: config.dicom.scp,
            peers: Vec::new(),
            tls: None,
            limits: config.dicom.limits,
            inflated_max: config.decode.inflated.as_u64(),
            spool: Spool::open(spool).expect("a spool"),
            admit: Box::new(|| Ok(())),
            accept: Box::new(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(Accepted::Duplicate)
            }),
            distrust: Box::new(|| {}),
            clock: clock.clone(),
            metrics: Arc::new(Metrics::new("", "", "")),
            pulse: Pulses::new(clock).of("receiver"),
        };
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        runtime.spawn(ingest::serve(listener, Arc::new(receiver), std::future::pending::<()>()));
        Self { port, count, _runtime: runtime }
    }

    pub(crate) fn received(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn forget(&self) {
        self.count.store(0, Ordering::SeqCst);
    }
}
