//! What a crash left behind.

use super::{PipelineError, Shared};
use crate::ingest::{Accepted, instance_in};

/// Takes objects of the spool into the store that it does not know: the process ended between
/// the two, or the store had to be begun anew.
pub(super) fn adopt(shared: &Shared) -> Result<(), PipelineError> {
    for id in shared.spool.complete()? {
        if shared.store.knows(id)? {
            continue;
        }
        let (limits, inflated) = (&shared.config.dicom.limits, shared.config.decode.inflated);
        match instance_in(&shared.spool.path(id), id, limits, inflated.as_u64()) {
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
