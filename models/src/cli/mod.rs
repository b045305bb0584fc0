//! The verbs that do more than one call.

pub(crate) mod calibrate;
pub(crate) mod dictionary;
pub(crate) mod embed;
pub(crate) mod evaluate;
pub(crate) mod sweep;
pub(crate) mod train;
mod vectors;
