//! From features to findings that a device may state: rules, probabilities, thresholds, and how far
//! each holds on patients who had no part in it.
//!
//! Every figure of a finding is cross-fitted: each image is scored by a rule that was fitted without
//! its patient. The rule that ships is fitted on all of them, and is expected to do a little better.

pub mod rule;
pub mod platt;
pub mod proportion;
pub mod conformal;
pub mod finding;
pub mod plan;
pub mod calibration;
