//! The execution providers, registered one by one: a provider that cannot be had says why, and is
//! never replaced in silence.
//!
//! `is_available` and the list of providers say what a library was compiled with, also on a
//! machine without a GPU; neither is asked here.

use std::path::Path;

use ort::ep::{CUDA, ExecutionProvider, TensorRT};
use ort::session::builder::SessionBuilder;

use super::library::said;
use crate::bundle::{Bundle, Precision};
use crate::config::{self, EngineChoice};
use crate::encode::EncodeError;

/// Name of the encoder's input in every bundle (`docs/bundle.md`).
const INPUT: &str = "image";

/// Registers what the choice asks for; the CPU needs nothing.
pub(super) fn register(
    builder: &mut SessionBuilder,
    choice: EngineChoice,
    bundle: &Bundle,
    config: &config::Engine,
    built: Option<&Path>,
) -> Result<(), EncodeError> {
    match choice {
        EngineChoice::TensorRt => {
            taken(choice, tensorrt(bundle, config, built).register(builder))?;
            // For what TensorRT leaves; where CUDA cannot be had that falls to the CPU, and the
            // share of nodes says so.
            if let Err(error) = cuda(config).register(builder) {
                tracing::warn!(%error, "TensorRT without CUDA: what it leaves falls to the CPU");
            }
            Ok(())
        }
        EngineChoice::Cuda => taken(choice, cuda(config).register(builder)),
        EngineChoice::Cpu | EngineChoice::Tract => Ok(()),
    }
}

/// TensorRT's provider, only to learn whether and with which libraries it can be had.
pub(super) fn tensorrt_without_cache(
    builder: &mut SessionBuilder,
    config: &config::Engine,
) -> Result<(), EncodeError> {
    let provider = TensorRT::default().with_device_id(i32::from(config.device));
    taken(EngineChoice::TensorRt, provider.register(builder))
}

fn taken(choice: EngineChoice, result: ort::Result<()>) -> Result<(), EncodeError> {
    result.map_err(|e| EncodeError::Provider { engine: choice.name(), text: said(&e) })
}

/// The device is always named: without a number CUDA lets itself be registered on a machine whose
/// driver does not work, and only the session fails.
fn cuda(config: &config::Engine) -> CUDA {
    CUDA::default()
        .with_device_id(i32::from(config.device))
        .with_memory_limit(bytes(config))
        // TF32 has 10 bits of mantissa: fp32 is to be fp32, on every GPU.
        .with_tf32(false)
}

fn tensorrt(bundle: &Bundle, config: &config::Engine, built: Option<&Path>) -> TensorRT {
    let input = &bundle.manifest.input;
    // One shape, the device's: any other would build the engine again.
    let shape = format!("{INPUT}:1x{}x{}x{}", input.channels, input.height, input.width);
    let quantised = bundle.manifest.encoder.precision == Precision::Int8;
    let provider = TensorRT::default()
        .with_device_id(i32::from(config.device))
        .with_max_workspace_size(bytes(config))
        .with_fp16(config.fp16)
        // The scales are the file's own pairs; a calibration table must not come beside them.
        .with_int8(quantised)
        .with_profile_min_shapes(&shape)
        .with_profile_opt_shapes(&shape)
        .with_profile_max_shapes(&shape);
    match built {
        Some(folder) => provider
            .with_engine_cache(true)
            .with_engine_cache_path(folder.display())
            .with_timing_cache(true)
            .with_timing_cache_path(folder.display()),
        None => provider.with_engine_cache(false).with_timing_cache(false),
    }
}

fn bytes(config: &config::Engine) -> usize {
    usize::try_from(config.workspace.as_u64()).unwrap_or(usize::MAX)
}
