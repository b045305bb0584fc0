//! The verbs that do more than one call.

pub(crate) mod train;
