//! From an association to an instance that is durable before it is acknowledged.
//!
//! Bytes go to disk as they came, behind a new file meta group: no re-encoding. The order is the
//! promise (PS3.4 B.2.2: success means that the instance has been stored):
//! temporary file, fsync, structural gate, rename, fsync of the folder, `accept`, response.
//! `accept` is a parameter: this module never names the store.

mod association;
mod command;
mod door;
mod facts;
pub mod folder;
pub(crate) mod meta;
#[doc(hidden)]
pub mod probe;
pub mod send;
mod spool;
pub mod structure;
pub mod syntax;

use std::future::Future;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::{DicomLimits, Peer, Scp};
use crate::id::{Digest, InstanceId, Uid};
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::tls::Server;

pub use facts::{FactsError, instance_in};
pub use spool::{Spool, SpoolError};

/// One object that was received and lies in the spool under its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Our id, also the name of its file.
    pub id: InstanceId,
    /// SOP Class UID (0008,0016).
    pub sop_class: Uid,
    /// SOP Instance UID (0008,0018).
    pub sop_instance: Uid,
    /// Study Instance UID (0020,000D).
    pub study: Uid,
    /// Accession Number (0008,0050), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accession: Option<String>,
    /// Transfer syntax of the data set as it came.
    pub transfer_syntax: Uid,
    /// SHA-256 of the data set as it came, without the file meta group.
    pub digest: Digest,
    /// Length of the data set, bytes.
    pub bytes: u64,
    /// When it was complete.
    pub received: DateTime<Utc>,
    /// Did [`TRIAL_AE`] send it? It is read, and nothing of it is told or kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,
}

/// Application entity title of whoever tries the unit out, on the unit itself: what it sends is a
/// drawing and nobody's examination.
pub const TRIAL_AE: &str = "CLEARFILM-TRIAL";

/// What became of an instance that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is durable and will be read.
    New,
    /// The same bytes were accepted before: nothing to do.
    Duplicate,
}

/// Why an object is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room: space on disk, inbox or outbox. The sender may try again.
    #[error("out of resources: {0}")]
    OutOfResources(String),
    /// It could not be made durable. The sender may try again.
    #[error("failed to store: {0}")]
    Failed(String),
    /// It could not be made durable, and neither file nor store may be trusted any more: the process
    /// ends after the answer. The sender may try again.
    #[error("not durable: {0}")]
    NotDurable(String),
    /// It is not what the command announced.
    #[error("data set does not match: {0}")]
    Mismatch(String),
    /// A command that is no C-STORE.
    #[error("expected C-ECHO or C-STORE, found another command")]
    Unrecognized,
    /// It cannot be understood; the same bytes will never be taken.
    #[error("cannot understand: {0}")]
    Malformed(String),
}

impl Refused {
    /// What the sender is told (0000,0902): nothing of our own paths.
    fn comment(&self) -> String {
        match self {
            Self::Failed(_) => "failed to store".into(),
            Self::NotDurable(_) => "not durable".into(),
            Self::OutOfResources(_)
            | Self::Mismatch(_)
            | Self::Unrecognized
            | Self::Malformed(_) => self.to_string(),
        }
    }

    /// Status of the C-STORE response (PS3.4 B.2.3).
    fn status(&self) -> u16 {
        match self {
            Self::OutOfResources(_) | Self::Failed(_) | Self::NotDurable(_) => 0xA700,
            Self::Mismatch(_) => 0xA900,
            Self::Unrecognized => command::UNRECOGNIZED_OPERATION,
            Self::Malformed(_) => 0xC000,
        }
    }
}

/// Asks whether another object may be taken now.
pub type Admit = Box<dyn Fn() -> Result<(), Refused> + Send + Sync>;

/// Makes an instance durable; what it returns is what the sender is told.
pub type Accept = Box<dyn Fn(&Instance) -> Result<Accepted, Refused> + Send + Sync>;

/// Is told that a sync failed.
pub type Distrust = Box<dyn Fn() + Send + Sync>;

/// Everything the receiver works with.
pub struct Receiver {
    /// Application entity, limits and timeouts.
    pub scp: Scp,
    /// Who may send, where unknown peers are rejected.
    pub peers: Vec<Peer>,
    /// TLS, where it is on: then nothing else is heard.
    pub tls: Option<Server>,
    /// Limits of the structural gate.
    pub limits: DicomLimits,
    /// Most bytes that a deflated data set may grow to.
    pub inflated_max: u64,
    /// Where objects are written.
    pub spool: Spool,
    /// May another object be taken?
    pub admit: Admit,
    /// Takes custody of an instance.
    pub accept: Accept,
    /// Ends the process once its answers are out.
    pub distrust: Distrust,
    /// Tells when an instance was complete.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Shows that the port is still listened to.
    pub pulse: Pulse,
}

/// Accepts associations until `stop` is done; those in progress end with their sender or timeout.
///
/// One too many (in all, of one address, of one address in a minute) is rejected for now, so that
/// its sender knows and tries again; with TLS its connection is closed.
/// Gives what `stop` gave.
pub async fn serve<T>(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    stop: impl Future<Output = T>,
) -> T {
    let scp = &receiver.scp;
    let places = Arc::new(Semaphore::new(scp.max_associations));
    // Turning away takes a moment too; beyond that many, a connection is closed unheard.
    let turning = Arc::new(Semaphore::new(scp.max_associations));
    let counts = door::Counts::new(scp, Arc::clone(&receiver.clock));
    tokio::pin!(stop);
    loop {
        receiver.pulse.promise(TURN);
        let socket = tokio::select! {
            why = &mut stop => return why,
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(TURN) => continue,
        };
        let (socket, address) = match socket {
            Ok((socket, address)) => (socket, address.ip().to_canonical()),
            // Out of file descriptors, or the peer went away while it waited: others may do better.
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = Arc::clone(&places).try_acquire_owned();
        if let (Ok(place), Some(entered)) = (place, counts.enter(address)) {
            let receiver = Arc::clone(&receiver);
            tokio::spawn(async move {
                receiver.metrics.associations_active.inc();
                association::handle(socket, address, &receiver).await;
                receiver.metrics.associations_active.dec();
                drop((place, entered));
            });
        } else if receiver.tls.is_some() {
            // A handshake costs more than a rejection is worth: the sender sees it closed.
            tracing::warn!(%address, "one association too many: closed");
        } else if let Ok(place) = Arc::clone(&turning).try_acquire_owned() {
            tracing::warn!(%address, "one association too many: rejected for now");
            receiver.metrics.association("too-many");
            let within = receiver.scp.artim;
            tokio::spawn(async move {
                door::turn_away(socket, within).await;
                drop(place);
            });
        } else {
            tracing::warn!(%address, "far too many connections: closed");
        }
    }
}

/// Longest time between two turns of the loop: on a quiet night nobody calls.
const TURN: std::time::Duration = std::time::Duration::from_secs(5);

/// Pause after a failed accept, so that a shortage of file descriptors does not burn a core.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
