//! Alarms: what an operator has to know, raised once, retained by the broker, cleared when over.
//!
//! They are kept in the store, so that a restart neither forgets one nor raises it twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::store::record::VALUE_VERSION;
use crate::store::{Store, StoreError};

pub use crate::store::alarms::{AlarmKind, AlarmRecord, Severity};

/// Every alarm of this unit.
pub struct Alarms {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// Rung for the publisher.
    outgoing: Arc<Notify>,
    raised: Mutex<BTreeMap<AlarmKind, AlarmRecord>>,
}

impl Alarms {
    /// Takes up the alarms that were raised before. After a store was begun anew nobody knows what
    /// brokers hold, so every alarm is cleared there.
    ///
    /// # Errors
    /// The store fails.
    pub fn open(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        outgoing: Arc<Notify>,
        begun_anew: bool,
    ) -> Result<Self, StoreError> {
        if begun_anew {
            for kind in AlarmKind::ALL {
                store.alarm(kind, None, clock.now())?;
            }
        }
        let raised = Mutex::new(store.alarms()?.into_iter().collect());
        Ok(Self { store, clock, outgoing, raised })
    }

    /// Raises an alarm with a text, or clears it with none; what is so already stays as it is.
    pub fn set(&self, kind: AlarmKind, text: Option<String>) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let record = match (text, raised.contains_key(&kind)) {
            (Some(_), true) | (None, false) => return,
            (Some(text), false) => {
                tracing::error!(alarm = kind.name(), text, "alarm raised");
                Some(AlarmRecord { v: VALUE_VERSION, severity: kind.severity(), text, since: now })
            }
            (None, true) => {
                tracing::info!(alarm = kind.name(), "alarm cleared");
                None
            }
        };
        // What cannot be kept is tried again by the next who sees the same.
        if let Err(error) = self.store.alarm(kind, record.as_ref(), now) {
            tracing::error!(alarm = kind.name(), %error, "alarm not kept");
            return;
        }
        match record {
            Some(record) => raised.insert(kind, record),
            None => raised.remove(&kind),
        };
        drop(raised);
        self.outgoing.notify_one();
    }

    /// Raises an alarm.
    pub fn raise(&self, kind: AlarmKind, text: impl Into<String>) {
        self.set(kind, Some(text.into()));
    }

    /// Clears an alarm.
    pub fn clear(&self, kind: AlarmKind) {
        self.set(kind, None);
    }

    /// Everything that is raised.
    #[must_use]
    pub fn raised(&self) -> BTreeMap<AlarmKind, AlarmRecord> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
