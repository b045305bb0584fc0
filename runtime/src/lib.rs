//! Clearfilm, the appliance: from a chest radiograph on the DICOM port to named findings and a
//! draft report on the broker.
//!
//! The modules stand in the order in which the data moves, and each looks only at what stands
//! above it (a test enforces that). Read them from top to bottom.

// The ground everything stands on.
pub mod id;
pub mod clock;
pub mod board;
pub mod pulse;
pub mod metrics;
pub mod config;
pub mod device;
pub mod update;
pub mod tls;
pub mod bundle;
pub mod phantom;

// The data's way.
pub mod ingest;
pub mod decode;
pub mod preprocess;
pub mod gate;
pub mod encode;
pub mod sparse;
pub mod ood;
pub mod findings;
pub mod evidence;
pub mod report;
pub mod reading;
pub mod selftest;
pub mod store;
pub mod alarm;
pub mod publish;

// The binding.
pub mod health;
pub mod web;
pub mod pipeline;
