//! ONNX Runtime, loaded at run time, on the CPU.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::AutoDevicePolicy;
use ort::value::TensorRef;

use super::{EncodeError, Encoder, Engine, Tokens, tokens_from};
use crate::bundle::{Bundle, Precision};
use crate::config;
use crate::preprocess::ModelInput;

/// Names under which the library is looked for beside the binary and in the system.
const LIBRARY_NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// ONNX Runtime allows one environment in a process; every session shares it.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// One ONNX Runtime session on the bundle's encoder.
pub(super) struct OnnxRuntime {
    session: Session,
    shape: [usize; 4],
    expected: [usize; 2],
    engine: Engine,
}

impl OnnxRuntime {
    pub(super) fn start(bundle: &Bundle, config: &config::Engine) -> Result<Self, EncodeError> {
        let environment = environment(&config.library)?;
        let session = session(&environment, &bundle.encoder, config.threads)
            .map_err(|text| EncodeError::Load { engine: "cpu", text })?;
        let (input, output) = (&bundle.manifest.input, &bundle.manifest.encoder);
        let precision = match output.precision {
            Precision::Fp32 | Precision::Int8Weights => "fp32",
            Precision::Fp16 => "fp16",
            Precision::Int8 => "int8",
        };
        let engine = Engine {
            backend: "ort".into(),
            provider: "cpu".into(),
            precision: precision.into(),
            library: Some(version()),
        };
        Ok(Self {
            session,
            shape: [1, input.channels, input.height, input.width],
            expected: [output.n_tokens, output.d_token],
            engine,
        })
    }
}

impl Encoder for OnnxRuntime {
    fn encode(&mut self, input: &ModelInput) -> Result<Tokens, EncodeError> {
        let fail = |e: ort::Error| EncodeError::Run { engine: "cpu", text: e.to_string() };
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
}

/// The process's environment; the first caller's library is everybody's.
fn environment(library: &Path) -> Result<Environment, EncodeError> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    let mut last = None;
    for candidate in candidates(library) {
        match load(&candidate) {
            Ok(environment) => {
                *slot = Some(environment.clone());
                return Ok(environment);
            }
            Err(text) => {
                last = Some(EncodeError::Library { library: candidate.display().to_string(), text })
            }
        }
    }
    Err(last.unwrap_or(EncodeError::NotBuilt("cpu")))
}

/// The configured path alone, or else beside the binary, then wherever the system looks.
fn candidates(library: &Path) -> Vec<PathBuf> {
    if !library.as_os_str().is_empty() {
        return vec![library.into()];
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let beside = beside.into_iter().flat_map(|folder| LIBRARY_NAMES.map(|name| folder.join(name)));
    beside.filter(|file| file.is_file()).chain(LIBRARY_NAMES.map(PathBuf::from)).collect()
}

fn load(library: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(library).map_err(|e| e.to_string())?;
    builder.with_name("clearfilm").with_telemetry(false).build().map_err(|e| e.to_string())
}

fn session(environment: &Environment, onnx: &[u8], threads: usize) -> Result<Session, String> {
    let text = |e: ort::Error<ort::session::builder::SessionBuilder>| e.to_string();
    Session::builder(environment)
        .map_err(|e| e.to_string())?
        // From API level 22 on the default policy may pick other devices than those registered.
        .with_auto_device(AutoDevicePolicy::PreferCPU)
        .map_err(text)?
        .with_intra_threads(threads)
        .map_err(text)?
        // An idle appliance must not burn a core waiting for the next image.
        .with_intra_op_spinning(false)
        .map_err(text)?
        .commit_from_memory(onnx)
        .map_err(|e| e.to_string())
}

/// The library's version out of its build information, or all of that.
fn version() -> String {
    let info = ort::info();
    let branch = info.split([',', ' ']).find_map(|part| part.strip_prefix("git-branch=rel-"));
    branch.unwrap_or(info).to_owned()
}
