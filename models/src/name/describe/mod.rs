//! What features mean, from reports alone: no picture is looked at (SAE-Rad).
//!
//! A feature's description is made from the reports of the images on which it fires most, held
//! against reports on which everything else that fires along with it fires and it does not: else
//! two findings that are mostly seen together would describe each other. It speaks of one
//! examination only, and is judged on reports of other patients.

pub mod plan;
pub mod words;
pub mod phrases;
pub mod material;
mod writing;
pub mod describing;
pub mod together;
