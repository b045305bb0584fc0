//! The appliance put together: from the socket to the broker.
//!
//! Tokio at the edges only (sockets, timers); `reader-1..n` are named threads, each with one
//! engine. Channels carry no images: they are doorbells, the disk is the queue.

mod about;
mod count;
mod engines;
mod mark;
mod parts;
mod reader;
mod recover;
pub mod trial;
mod updates;
mod upkeep;

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::alarm::{AlarmKind, Alarms};
use crate::bundle::{Bundle, BundleError};
use crate::clock::Clock;
use crate::config::{Config, Policy};
use crate::device::{self, Device, DeviceError};
use crate::encode::Encoder;
use crate::health::{Health, Trials};
use crate::id::{ExamKey, InstanceId};
use crate::ingest::{self, Accepted, FactsError, Instance, Refused, Spool, SpoolError, folder};
use crate::metrics::Metrics;
use crate::pulse::Pulses;
use crate::store::record::Software;
use crate::store::{Store, StoreError};
use crate::tls::TlsError;
use crate::web::WebError;

use engines::Engines;

/// Why the appliance cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// It cannot say who it is.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The bundle is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No store can be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No spool can be opened.
    #[error("spool: {0}")]
    Spool(#[from] SpoolError),
    /// An object of the spool could not be read at all.
    #[error("spool: {0}")]
    Facts(#[from] FactsError),
    /// A certificate or key of the receiver.
    #[error("dicom.scp.tls: {0}")]
    Tls(#[from] TlsError),
    /// The DICOM port is not to be had.
    #[error("listening on {address}: {source}")]
    Listen {
        /// `dicom.scp.listen`.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A page or the local socket cannot be served.
    #[error(transparent)]
    Web(#[from] WebError),
    /// A sync failed.
    #[error("a sync failed: spool and store are opened anew by the next start")]
    NotDurable,
    /// A reader thread cannot be started.
    #[error("starting a reader thread: {0}")]
    Thread(io::Error),
}

/// The appliance, opened and not yet running.
pub struct Appliance {
    shared: Arc<Shared>,
}

/// What every part of the appliance works with.
struct Shared {
    config: Arc<Config>,
    policy: Policy,
    device: Arc<Device>,
    software: Software,
    bundle: Arc<Bundle>,
    store: Arc<Store>,
    spool: Spool,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    alarms: Arc<Alarms>,
    metrics: Arc<Metrics>,
    /// Rung for the readers.
    work: Bell,
    /// Rung for the publisher.
    outgoing: Arc<Notify>,
    /// Rung for the publisher: everything is to be tried again.
    retry: Arc<Notify>,
    /// A sync failed: nothing is trusted, the process ends.
    distrusted: Notify,
    /// Instances that a reader works on.
    claimed: Mutex<HashSet<InstanceId>>,
    /// One reading is committed at a time: an exam's revisions follow one another.
    committing: Mutex<()>,
    engines: watch::Sender<Engines>,
    /// Started sessions of a better engine, one for each reader.
    offered: Mutex<Vec<Box<dyn Encoder>>>,
    /// Engines are tried by one thread at a time.
    choosing: Mutex<()>,
    about: watch::Sender<Value>,
}

/// How long a process that trusts nothing any more still answers.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Wakes readers; rung while nobody waits, it wakes the next one that would.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    condition: Condvar,
    stopped: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.condition.notify_all();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.ring();
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits for a ring, or for `most`: a missed ring must not be for ever.
    fn wait(&self, most: Duration) {
        let rung = lock(&self.rung);
        let waited =
            self.condition.wait_timeout_while(rung, most, |rung| !*rung && !self.stopped());
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// A lock whose holder panicked ends the process anyway (see `reader`), so poison says nothing new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Appliance {
    /// Opens identity, bundle, spool and store, and takes back what a crash left behind.
    ///
    /// # Errors
    /// One of them cannot be opened; the error names the file and the action.
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, PipelineError> {
        let device = Arc::new(Device::open(&config)?);
        let bundle = Arc::new(Bundle::load(&config.bundle)?);
        let spool = Spool::open(&config.storage.path)?;
        let opened = Store::open(&config.storage, clock.as_ref())?;
        if let Some(error) = &opened.rebuilt {
            tracing::error!(%error, "the store could not be opened and was set aside; the spool is read again");
        }
        let (store, policy, config) = (Arc::new(opened.store), config.policy(), Arc::new(config));
        let software = Software {
            version: device::VERSION.into(),
            commit: device::COMMIT.into(),
            release: device::release(),
            config_digest: policy.digest(),
        };
        let metrics = Metrics::new(device::VERSION, device::COMMIT, &bundle.digest.to_string());
        let (metrics, outgoing) = (Arc::new(metrics), Arc::new(Notify::new()));
        let begun_anew = opened.rebuilt.is_some();
        let alarms = Alarms::open(store.clone(), clock.clone(), outgoing.clone(), begun_anew)?;
        let alarms = Arc::new(alarms);
        if let Some(error) = opened.rebuilt {
            alarms.raise(AlarmKind::StoreRebuilt, error.to_string());
        }
        let health = Health {
            config: config.clone(),
            store: store.clone(),
            clock: clock.clone(),
            alarms: alarms.clone(),
            metrics: metrics.clone(),
            pulses: Pulses::new(clock.clone()),
            started: clock.monotonic(),
            trials: Trials::default(),
            received: AtomicU64::new(0),
            throttled: AtomicU32::new(0),
        };
        let shared = Shared {
            health: Arc::new(health),
            alarms,
            metrics,
            work: Bell::default(),
            outgoing,
            retry: Arc::new(Notify::new()),
            distrusted: Notify::new(),
            claimed: Mutex::default(),
            committing: Mutex::default(),
            engines: watch::Sender::new(Engines::of(&config.engine.order)),
            offered: Mutex::default(),
            choosing: Mutex::default(),
            about: watch::Sender::new(Value::Null),
            config,
            policy,
            device,
            software,
            bundle,
            store,
            spool,
            clock,
        };
        shared.tell_about();
        recover::adopt(&shared)?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Which loops still turn, for whoever watches over the process.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.shared.health.clone()
    }

    /// Runs until `stop` is done: receives, reads, publishes. `ready` is told the DICOM address.
    ///
    /// # Errors
    /// The port is not to be had or a thread cannot be started.
    pub async fn run(
        self,
        ready: impl FnOnce(SocketAddr),
        stop: impl Future<Output = ()>,
    ) -> Result<(), PipelineError> {
        let Self { shared } = self;
        let receiver = Arc::new(parts::receiver(&shared)?);
        let address = shared.config.dicom.scp.listen;
        let listen = |source| PipelineError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let (stopping, stopped) = watch::channel(false);
        let mut tasks = parts::pages(&shared, &stopped).await?;
        let readers = reader::start(&shared).map_err(PipelineError::Thread)?;
        let (publisher, listener_of_receipts) = parts::publisher(&shared);
        tasks.push(tokio::spawn(publisher.run(stopped.clone())));
        tasks.push(tokio::spawn(listener_of_receipts.run(stopped.clone())));
        tasks.push(tokio::spawn(upkeep::run(shared.clone(), stopped)));
        let inbox = shared.config.inbox.clone();
        if !inbox.folder.as_os_str().is_empty() {
            let pulse = shared.health.pulses.of("folder");
            let watching = folder::watch(inbox, receiver.clone(), pulse, stopping.subscribe());
            tasks.push(tokio::spawn(watching));
        }
        tracing::info!(dicom = %bound, ae_title = %receiver.scp.ae_title, bundle = %shared.bundle.digest, "receiving");
        ready(bound);
        let distrusted = async {
            // The publisher's syncs can fail too, and it only retries: so the store is asked.
            while shared.store.trusted().is_ok() {
                tokio::select! {
                    () = shared.distrusted.notified() => break,
                    () = tokio::time::sleep(LAST_ANSWERS) => {}
                }
            }
            // The senders that wait for an answer get it.
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        let stop = async {
            tokio::select! {
                () = stop => false,
                () = distrusted => true,
            }
        };
        if ingest::serve(listener, receiver, stop).await {
            // No clean stop: it would write.
            return Err(PipelineError::NotDurable);
        }
        tracing::info!("stopping");
        stopping.send_replace(true);
        shared.work.stop();
        for reader in readers {
            // A reader finishes the image it has; what waits stays in the inbox.
            if tokio::task::spawn_blocking(move || reader.join()).await.is_err() {
                tracing::warn!("a reader did not end");
            }
        }
        for task in tasks {
            if task.await.is_err() {
                tracing::warn!("a task did not end");
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Ends the process once its answers are out.
    fn distrust(&self) {
        tracing::error!("a sync failed: the process ends, the next one opens spool and store anew");
        self.work.stop();
        self.distrusted.notify_one();
    }

    /// Takes custody of an instance; when this returns, it is durable.
    fn accept(&self, instance: &Instance) -> Result<Accepted, Refused> {
        let exam = ExamKey::of_study(&self.device.secret, &instance.study);
        let accepted = self.store.accept(instance, &exam, self.clock.as_ref()).map_err(|e| {
            let distrusted = self.store.trusted().is_err();
            if distrusted {
                Refused::NotDurable(e.to_string())
            } else {
                Refused::Failed(e.to_string())
            }
        })?;
        if !instance.trial {
            self.health.heard();
        }
        self.work.ring();
        self.outgoing.notify_one();
        Ok(accepted)
    }
}
