//! What the update agent says, told to the hospital; and what follows from it for exams.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::Shared;
use crate::alarm::AlarmKind;
use crate::clock::rfc3339;
use crate::id::{Digest, MessageId};
use crate::store::StoreError;
use crate::store::record::{DeviceChannel, OutboxRow, VALUE_VERSION, What};
use crate::update::Report;

/// How long a repository may not be believed before an operator is told: its timestamp is good for so
/// long.
const STALE: TimeDelta = TimeDelta::days(7);

/// What was done about what the agent said.
#[derive(Debug, Default)]
pub(super) struct Updates {
    seen: Option<Report>,
    withdrawn: BTreeSet<Digest>,
}

impl Updates {
    /// Looks at what the agent says now.
    pub(super) fn look(&mut self, shared: &Shared) {
        let Some(report) = Report::read(&shared.config.update.folder) else { return };
        let (now, since) = (shared.clock.now(), report.believed);
        let stale = since.filter(|since| now - *since > STALE).map(|since| {
            let problem = report.problem.as_deref().unwrap_or("it was not asked");
            format!(
                "expected a release repository that was believed within {} days, found {}: {problem}",
                STALE.num_days(),
                rfc3339(since)
            )
        });
        shared.alarms.set(AlarmKind::UpdateStale, stale);
        if self.seen.as_ref() == Some(&report) {
            return;
        }
        match self.take(shared, &report) {
            Ok(()) => self.seen = Some(report),
            Err(error) => tracing::warn!(%error, "what the update agent says is not told"),
        }
    }

    fn take(&mut self, shared: &Shared, report: &Report) -> Result<(), StoreError> {
        let payload = report.to_value();
        let said = payload.to_string().into_bytes();
        // A restart tells nothing again, and raises no alarm that a person has cleared.
        let before = shared.store.told_update()?;
        let failed = before.as_ref().and_then(|said| serde_json::from_slice::<Report>(said).ok());
        let failed = failed.and_then(|report| report.failed);
        let what = What::Device { channel: DeviceChannel::Update, id: MessageId::new(), payload };
        let row = OutboxRow { v: VALUE_VERSION, what, time: shared.clock.now() };
        if before.as_ref() != Some(&said) {
            if let Some(text) = report.failed.as_ref().filter(|text| failed.as_ref() != Some(text))
            {
                shared.alarms.raise(AlarmKind::UpdateFailed, text.as_str());
            }
            shared.store.tell_update(&said, &row)?;
        }
        let own = shared.software.release;
        for release in &report.withdrawn {
            let release = release.parse::<Digest>().ok().filter(|release| Some(*release) != own);
            let Some(release) = release.filter(|release| !self.withdrawn.contains(release)) else {
                continue;
            };
            let exams = shared.store.withdraw(release, shared.clock.now())?;
            if exams > 0 {
                tracing::warn!(%release, exams, "withdrawn: their release was rolled back");
            }
            self.withdrawn.insert(release);
        }
        shared.outgoing.notify_one();
        Ok(())
    }
}
