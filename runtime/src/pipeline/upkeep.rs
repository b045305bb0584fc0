//! What has to be done from time to time: alarms raised and cleared, and what was kept long
//! enough removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;

use super::updates::Updates;
use super::{Shared, lock};
use crate::id::{ExamKey, InstanceId};

/// How often the unit looks at itself: an operator is told within seconds.
const LOOK: Duration = Duration::from_secs(2);

/// How often is looked for what was kept long enough.
const FORGET: Duration = Duration::from_secs(600);

/// Exams that are forgotten at one time: a store that has run for a year must not stand still for
/// an hour.
const FORGET_EXAMS: usize = 1_000;

/// Looks and forgets until `stop` turns true.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut updates = Updates::default();
    let (mut look, mut tick) = (tokio::time::interval(LOOK), tokio::time::interval(FORGET));
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = look.tick() => block_in_place(|| {
                let engines = shared.engines.borrow().clone();
                shared.health.look(engines.problem.as_deref().filter(|_| engines.failed));
                updates.look(&shared);
            }),
            _ = tick.tick() => block_in_place(|| forget(&shared)),
        }
    }
}

fn forget(shared: &Shared) {
    let now = u64::try_from(shared.clock.now().timestamp()).unwrap_or(0);
    let storage = &shared.config.storage;
    let before = |kept: Duration| now.saturating_sub(kept.as_secs());
    let old = |id: &InstanceId, before: u64| id.made_at_s().is_some_and(|made| made < before);
    let read = |id: &InstanceId| matches!(shared.store.record(*id), Ok(Some(_)));
    let images = shared.spool.complete().map(|ids| {
        ids.into_iter().filter(|id| old(id, before(storage.keep_images)) && read(id)).collect()
    });
    let aside = shared
        .spool
        .quarantined()
        .map(|ids| ids.into_iter().filter(|id| old(id, before(storage.keep_quarantine))).collect());
    for found in [images, aside] {
        let ids: Vec<InstanceId> = match found {
            Ok(ids) => ids,
            Err(error) => return tracing::warn!(%error, "old images are not looked for"),
        };
        for id in ids {
            match shared.spool.forget(id) {
                Ok(()) => tracing::info!(instance = %id, "image forgotten"),
                Err(error) => tracing::warn!(instance = %id, %error, "image not forgotten"),
            }
        }
    }
    match shared.store.forget_before(before(storage.keep_records), FORGET_EXAMS) {
        Ok(0) => {}
        Ok(exams) => tracing::info!(exams, "records forgotten"),
        Err(error) => tracing::warn!(%error, "old records are not forgotten"),
    }
}

impl Shared {
    /// Erases an exam from store, outbox, spool and quarantine, and tells the broker to forget it;
    /// gives how many instances it had.
    pub(super) fn erase(&self, exam: &ExamKey) -> Result<usize, String> {
        // No revision of it may be committed in between.
        let _one_at_a_time = lock(&self.committing);
        let instances =
            self.store.erase(exam, Some(self.clock.now())).map_err(|e| e.to_string())?;
        for id in &instances {
            self.spool.forget(*id).map_err(|e| e.to_string())?;
        }
        self.outgoing.notify_one();
        tracing::warn!(%exam, images = instances.len(), "exam erased");
        Ok(instances.len())
    }
}
