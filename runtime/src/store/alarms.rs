//! Alarms that were raised and not cleared: what an operator has to know, kept over a restart.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sled::transaction::Transactional;

use super::record::{OutboxRow, VALUE_VERSION, What};
use super::values::{append, failed, parse, put_in};
use super::{Store, StoreError};
use crate::id::MessageId;

/// What an alarm is about; only grows. `docs/alarms.md` says what to do about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// Less free space than `storage.free_min`: senders are told to come back.
    DiskLow,
    /// The outbox is nearly or wholly full.
    Outbox,
    /// The broker refuses the connection or a message.
    BrokerDenied,
    /// Another client uses this unit's MQTT client id.
    SessionTaken,
    /// No engine passes the bundle's self-test: nothing is read.
    Selftest,
    /// The store could not be opened and was begun anew.
    StoreRebuilt,
    /// Two objects came under one SOP Instance UID.
    UidConflict,
    /// A certificate has expired or soon will.
    Certificate,
    /// The board is slowed down because it is hot.
    GpuThrottle,
    /// The release repository has not been believed for long.
    UpdateStale,
    /// A release failed here and was left.
    UpdateFailed,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::DiskLow,
        Self::Outbox,
        Self::BrokerDenied,
        Self::SessionTaken,
        Self::Selftest,
        Self::StoreRebuilt,
        Self::UidConflict,
        Self::Certificate,
        Self::GpuThrottle,
        Self::UpdateStale,
        Self::UpdateFailed,
    ];

    /// The last level of its topic.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DiskLow => "disk-low",
            Self::Outbox => "outbox",
            Self::BrokerDenied => "broker-denied",
            Self::SessionTaken => "session-taken",
            Self::Selftest => "selftest",
            Self::StoreRebuilt => "store-rebuilt",
            Self::UidConflict => "uid-conflict",
            Self::Certificate => "certificate",
            Self::GpuThrottle => "gpu-throttle",
            Self::UpdateStale => "update-stale",
            Self::UpdateFailed => "update-failed",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How bad it is: does the unit still do its work?
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            // Images are refused or not read.
            Self::DiskLow | Self::Selftest => Severity::Critical,
            // Results do not arrive, or will soon not.
            Self::Outbox | Self::BrokerDenied | Self::SessionTaken | Self::Certificate => {
                Severity::Major
            }
            // Nothing is lost; somebody has to look.
            Self::StoreRebuilt
            | Self::UidConflict
            | Self::GpuThrottle
            | Self::UpdateStale
            | Self::UpdateFailed => Severity::Minor,
        }
    }
}

/// How bad an alarm is; only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody has to look.
    Minor,
    /// Results do not arrive.
    Major,
    /// Images are refused or not read.
    Critical,
}

/// An alarm that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// [`VALUE_VERSION`].
    pub v: u32,
    /// How bad it is.
    pub severity: Severity,
    /// Expected and found, in words.
    pub text: String,
    /// When it was raised.
    pub since: DateTime<Utc>,
}

impl Store {
    /// Raises an alarm (or, with none, clears it) and queues the message that says so, together.
    ///
    /// # Errors
    /// The store fails.
    pub fn alarm(
        &self,
        kind: AlarmKind,
        record: Option<&AlarmRecord>,
        time: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let changing = self.change()?;
        let what = What::Alarm { kind, id: MessageId::new(), record: record.cloned() };
        let row = OutboxRow { v: VALUE_VERSION, what, time };
        let trees = (&self.alarms, &self.outbox, &self.meta);
        let sequence = trees.transaction(|(alarms, outbox, meta)| {
            match record {
                Some(record) => put_in(alarms, "alarms", kind.name().as_bytes(), record)?,
                None => {
                    alarms.remove(kind.name().as_bytes())?;
                }
            }
            append(outbox, meta, &row)
        });
        let sequence = sequence.map_err(|e| failed("raising or clearing an alarm", e))?;
        self.outbox_rows.fetch_add(1, Ordering::SeqCst);
        self.finish(changing, sequence)
    }

    /// Every alarm that is raised.
    ///
    /// # Errors
    /// The store fails or holds what this version does not write.
    pub fn alarms(&self) -> Result<Vec<(AlarmKind, AlarmRecord)>, StoreError> {
        let mut raised = Vec::new();
        for entry in &self.alarms {
            let (key, value) =
                entry.map_err(|source| StoreError::Sled { action: "reading alarms", source })?;
            // A kind of a later version stays where it is.
            if let Some(kind) = std::str::from_utf8(&key).ok().and_then(AlarmKind::named) {
                raised.push((kind, parse("alarms", &value)?));
            }
        }
        Ok(raised)
    }
}
