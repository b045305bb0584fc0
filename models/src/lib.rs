//! The workshop: from embeddings of radiographs to a dictionary that a bundle can carry.
//!
//! Modules stand in the order of the data, and each looks only at those above it.

pub mod files;
pub mod table;
pub mod layout;
pub mod views;
pub mod encoder;
pub mod embed;
pub mod kernel;
pub mod samples;
pub mod normalise;
pub mod recipe;
pub mod train;
pub mod start;
pub mod synthetic;
pub mod measure;
pub mod export;
pub mod checkpoint;
pub mod run;
pub mod sweep;
pub mod codes;
pub mod dictionary;
pub mod evaluate;
pub mod calibrate;
pub mod name;
pub mod associate;
pub mod pack;
