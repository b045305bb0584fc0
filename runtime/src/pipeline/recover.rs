//! What a crash left behind, and what is no longer needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{PipelineError, Shared};
use crate::ingest::{Accepted, instance_in};

/// Takes objects of the spool into the store that it does not know: the process ended between
/// the two, or the store had to be begun anew.
pub(super) fn adopt(shared: &Shared) -> Result<(), PipelineError> {
    for id in shared.spool.complete()? {
        if shared.store.knows(id)? {
            continue;
        }
        match instance_in(&shared.spool.path(id), id, &shared.config.dicom.limits) {
            Ok(instance) => match shared.accept(&instance) {
                Ok(Accepted::New) => tracing::info!(instance = %id, "taken back from the spool"),
                // Its sender got no answer and sent it again.
                Ok(Accepted::Duplicate) => shared.spool.remove(id)?,
                Err(refused) => {
                    tracing::error!(instance = %id, reason = %refused, "stays in the spool")
                }
            },
            Err(error) => {
                tracing::error!(instance = %id, %error, "set aside");
                shared.spool.set_aside(id)?;
            }
        }
    }
    Ok(())
}

/// How often old images are looked for.
const PERIOD: Duration = Duration::from_secs(600);

/// Removes the bytes of instances that were read longer than `storage.keep_images` ago.
pub(super) async fn forget_old_images(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = tick.tick() => tokio::task::block_in_place(|| forget(&shared)),
        }
    }
}

fn forget(shared: &Shared) {
    let now = u64::try_from(shared.clock.now().timestamp()).unwrap_or(0);
    let oldest = now.saturating_sub(shared.config.storage.keep_images.as_secs());
    let ids = match shared.spool.complete() {
        Ok(ids) => ids,
        Err(error) => return tracing::warn!(%error, "old images are not looked for"),
    };
    for id in ids {
        if id.made_at_s().is_some_and(|made| made < oldest)
            && matches!(shared.store.record(id), Ok(Some(_)))
        {
            match shared.spool.remove(id) {
                Ok(()) => tracing::info!(instance = %id, "image forgotten, its reading stays"),
                Err(error) => tracing::warn!(instance = %id, %error, "image not forgotten"),
            }
        }
    }
}
