//! A bundle, and everything that is measured of it, made of embeddings, a dictionary and labels.
//!
//! [`assemble::assemble`] is a pure function of the files that a plan names: packing writes what it
//! gives, verifying makes it again and says by name what a bundle holds that does not follow.

pub mod plan;
pub mod compensate;
pub mod int8;
pub mod through;
pub mod strange;
pub mod named;
pub mod apart;
pub mod readings;
pub mod golden;
pub mod sources;
pub mod assemble;
pub mod beside;
pub mod card;
pub mod files;
pub mod follows;
