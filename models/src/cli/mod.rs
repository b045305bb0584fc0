//! The verbs that do more than one call.

pub(crate) mod calibrate;
pub(crate) mod describe;
pub(crate) mod dictionary;
pub(crate) mod embed;
pub(crate) mod evaluate;
pub(crate) mod name;
mod progress;
pub(crate) mod pack;
pub(crate) mod sweep;
pub(crate) mod train;
mod vectors;

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;

/// What a TOML file asks for.
fn asked<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("reading {}", file.display()))
}
