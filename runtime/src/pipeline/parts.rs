//! What the appliance is put together from: each part gets what it needs and no more.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Shared;
use crate::ingest::Receiver;
use crate::publish::{Listener, Memory, Publisher, Receipts};
use crate::tls::{Server, TlsError};
use crate::web::{self, Web, WebError};

pub(super) fn receiver(shared: &Arc<Shared>) -> Result<Receiver, TlsError> {
    let (admit, accept, distrust) = (shared.clone(), shared.clone(), shared.clone());
    Ok(Receiver {
        tls: Server::open(&shared.config.dicom.scp.tls, shared.clock.clone())?,
        scp: shared.config.dicom.scp.clone(),
        peers: shared.config.dicom.peers.clone(),
        limits: shared.config.dicom.limits.clone(),
        inflated_max: shared.config.decode.inflated.as_u64(),
        spool: shared.spool.clone(),
        admit: Box::new(move || admit.health.admit()),
        accept: Box::new(move |instance| accept.accept(instance)),
        distrust: Box::new(move || distrust.distrust()),
        clock: shared.clock.clone(),
        metrics: shared.metrics.clone(),
        pulse: shared.health.pulses.of("receiver"),
    })
}

/// The publisher, and who listens for what its consumers have.
pub(super) fn publisher(shared: &Arc<Shared>) -> (Publisher, Listener) {
    let health = shared.clone();
    let receipts = Arc::new(Receipts::new(&shared.config.mqtt.receipts));
    let publisher = Publisher {
        store: shared.store.clone(),
        device: shared.device.clone(),
        mqtt: shared.config.mqtt.clone(),
        software: shared.software.clone(),
        clock: shared.clock.clone(),
        doorbell: shared.outgoing.clone(),
        retry: shared.retry.clone(),
        about: shared.about.subscribe(),
        health: Box::new(move || {
            let problem = health.engines.borrow().problem.clone();
            health.health.summary(problem.as_deref())
        }),
        alarms: shared.alarms.clone(),
        metrics: shared.metrics.clone(),
        receipts: receipts.clone(),
        pulse: shared.health.pulses.of("publisher"),
        memory: Memory::default(),
    };
    let listener = Listener {
        receipts,
        store: shared.store.clone(),
        mqtt: shared.config.mqtt.clone(),
        identity: shared.device.identity.clone(),
        clock: shared.clock.clone(),
        metrics: shared.metrics.clone(),
        doorbell: shared.outgoing.clone(),
    };
    (publisher, listener)
}

/// The local socket, and the pages that the configuration asks for.
pub(super) async fn pages(
    shared: &Arc<Shared>,
    stopped: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, WebError> {
    let (engine, retry, erase) = (shared.clone(), shared.retry.clone(), shared.clone());
    let web = Arc::new(Web {
        health: shared.health.clone(),
        engine: Box::new(move || engine.engines.borrow().problem.clone()),
        about: shared.about.subscribe(),
        // One that asks while nobody listens is heard by the next connection.
        retry: Box::new(move || retry.notify_one()),
        erase: Box::new(move |exam| erase.erase(exam)),
    });
    let config = &shared.config;
    let control = web::serve_control(&config.storage.path, web.clone(), stopped.clone())?;
    let mut tasks = vec![tokio::spawn(control)];
    for (key, address, pages) in [
        ("http.listen", &config.http.listen, web::pages(web.clone())),
        ("telemetry.metrics", &config.telemetry.metrics, web::metrics(web)),
    ] {
        // The configuration was checked: what does not parse is empty.
        if let Ok(address) = address.parse() {
            let page =
                web::serve(key, address, pages, config.http.clone(), stopped.clone()).await?;
            tasks.push(tokio::spawn(page));
        }
    }
    Ok(tasks)
}
