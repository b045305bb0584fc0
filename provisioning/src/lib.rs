//! A fleet of Clearfilm devices: what a release is, who may sign one, and what a device believes.
//!
//! The modules stand in the order in which a release travels, from the keys that sign it to the
//! device that runs it, and each looks only at what stands above it.

// The ground everything stands on.
pub mod files;
pub mod role;

// What is signed.
pub mod release;
pub mod rollout;
pub mod keys;

// How it travels.
pub mod repo;
pub mod source;
pub mod trust;

// The device.
pub mod agent;

// The operator.
pub mod inventory;
