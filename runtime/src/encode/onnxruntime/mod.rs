//! ONNX Runtime, loaded at run time: on the CPU, or with the CUDA and TensorRT providers.

mod assignment;
mod library;
mod providers;

use std::borrow::Cow;
use std::path::Path;

use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};
use ort::value::TensorRef;

use library::said;

use super::platform::Platform;
use super::{EncodeError, Encoder, Engine, Nodes, Tokens, tokens_from};
use crate::bundle::{Bundle, Precision};
use crate::config::{self, EngineChoice};
use crate::preprocess::ModelInput;

/// One ONNX Runtime session on the bundle's encoder.
pub(super) struct OnnxRuntime {
    choice: EngineChoice,
    session: Session,
    shape: [usize; 4],
    expected: [usize; 2],
    engine: Engine,
    nodes: Nodes,
}

impl OnnxRuntime {
    pub(super) fn start(
        choice: EngineChoice,
        bundle: &Bundle,
        config: &config::Engine,
        built: Option<&Path>,
    ) -> Result<Self, EncodeError> {
        let load = |text| EncodeError::Load { engine: choice.name(), text };
        let mut builder = builder(config)?;
        providers::register(&mut builder, choice, bundle, config, built)?;
        let file = file_for(choice, bundle).map_err(load)?;
        let session = builder.commit_from_memory(&file).map_err(|e| load(said(&e)))?;
        let nodes = assignment::of(&session).map_err(load)?;
        let provider = choice.name();
        if nodes.of(provider) == 0 {
            return Err(EncodeError::NoNodes { engine: provider, nodes });
        }
        let (input, output) = (&bundle.manifest.input, &bundle.manifest.encoder);
        let engine = Engine {
            backend: "ort".into(),
            provider: provider.into(),
            precision: precision(choice, output.precision, config).into(),
            library: Some(library::version()),
            node_share: Some(nodes.share(provider)),
        };
        Ok(Self {
            choice,
            session,
            shape: [1, input.channels, input.height, input.width],
            expected: [output.n_tokens, output.d_token],
            engine,
            nodes,
        })
    }
}

impl Encoder for OnnxRuntime {
    fn encode(&mut self, input: &ModelInput) -> Result<Tokens, EncodeError> {
        let engine = self.choice.name();
        let fail = |e: ort::Error| EncodeError::Run { engine, text: said(&e) };
        let tensor =
            TensorRef::from_array_view((self.shape, input.values.as_slice())).map_err(fail)?;
        let outputs = self.session.run(ort::inputs![tensor]).map_err(fail)?;
        let (shape, values) = outputs[0].try_extract_tensor::<f32>().map_err(fail)?;
        let shape: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        tokens_from(self.expected, &shape, values)
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}

/// The bundle's file, in the form that this engine computes fastest; the numbers it stands for are
/// the same.
#[cfg_attr(
    not(all(feature = "tract", target_arch = "x86_64")),
    expect(unused_variables, reason = "only on x86-64 another form is faster")
)]
fn file_for(choice: EngineChoice, bundle: &Bundle) -> Result<Cow<'_, [u8]>, String> {
    #[cfg(all(feature = "tract", target_arch = "x86_64"))]
    if choice == EngineChoice::Cpu && bundle.manifest.encoder.precision == Precision::Int8 {
        return super::unsigned::activations(&bundle.encoder).map(Cow::Owned);
    }
    Ok(Cow::Borrowed(&bundle.encoder))
}

/// What a built engine depends on: the provider is registered, so that every library it needs is
/// mapped, and no session is made.
pub(super) fn platform(config: &config::Engine) -> Result<Platform, EncodeError> {
    let mut builder = builder(config)?;
    providers::tensorrt_without_cache(&mut builder, config)?;
    Ok(Platform::read(Path::new("/"), &library::description()))
}

/// A session as every engine makes it; without a provider of its own it computes on the CPU.
fn builder(config: &config::Engine) -> Result<SessionBuilder, EncodeError> {
    let environment = library::environment(&config.library)?;
    let made = || {
        Session::builder(&environment)?
            // From API level 22 on the default policy may pick other devices than those registered.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_intra_threads(config.threads)?
            // An idle appliance must not burn a core waiting for the next image.
            .with_intra_op_spinning(false)?
            .with_config_entry(assignment::RECORD, "1")
            .map_err(ort::Error::from)
    };
    let library = || config.library.display().to_string();
    made().map_err(|e: ort::Error| EncodeError::Library { library: library(), text: said(&e) })
}

/// The format in which most of the arithmetic is done.
fn precision(choice: EngineChoice, file: Precision, config: &config::Engine) -> &'static str {
    match file {
        Precision::Int8 => "int8",
        Precision::Fp16 => "fp16",
        Precision::Fp32 | Precision::Int8Weights
            if choice == EngineChoice::TensorRt && config.fp16 =>
        {
            "fp16"
        }
        Precision::Fp32 | Precision::Int8Weights => "fp32",
    }
}
