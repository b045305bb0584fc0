//! Where ONNX Runtime's library is looked for, and the one environment that a process may have.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::sys::OrtApiBase;

use crate::encode::EncodeError;

/// Names under which the library is looked for beside the binary and in the system.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// ONNX Runtime allows one environment in a process; every session shares it.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The version of the library behind it.
static VERSION: OnceLock<String> = OnceLock::new();

/// The process's environment; the first caller's library is everybody's.
pub(super) fn environment(library: &Path) -> Result<Environment, EncodeError> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    let mut tried = Vec::new();
    for candidate in candidates(library) {
        match load(&candidate) {
            Ok(environment) => {
                VERSION.get_or_init(|| version_of(&candidate).unwrap_or_else(description));
                *slot = Some(environment.clone());
                return Ok(environment);
            }
            Err(text) => tried.push((candidate, text)),
        }
    }
    // The last one is the system's search, whose failure says the most where nothing was configured.
    let (library, text) = tried.pop().unwrap_or_default();
    Err(EncodeError::Library { library: library.display().to_string(), text })
}

/// The configured path alone, or else beside the binary, then wherever the system looks.
fn candidates(library: &Path) -> Vec<PathBuf> {
    if !library.as_os_str().is_empty() {
        return vec![library.into()];
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let beside = beside.into_iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
    beside.filter(|file| file.is_file()).chain(NAMES.map(PathBuf::from)).collect()
}

fn load(library: &Path) -> Result<Environment, String> {
    let loaded = ort::init_from(library).map_err(|e| {
        // Its own text leaves out what the loader said.
        if let LoadDynamicError::Dlopen { error, .. } = &e { said(error) } else { said(&e) }
    });
    let builder = loaded?;
    builder.with_name("clearfilm").with_telemetry(false).build().map_err(|e| said(&e))
}

/// What an error says, with what it was caused by: the loader's own words stand there. The place in
/// ONNX Runtime's sources before it, and the name of this machine behind it, are left out.
pub(super) fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |e| e.source());
    let mut parts: Vec<String> = Vec::new();
    for part in chain.map(ToString::to_string) {
        // Some errors repeat their cause.
        if !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
    }
    let text = parts.join(": ");
    let text = text.rsplit_once("[ONNXRuntimeError] : ").map_or(text.as_str(), |(_, said)| said);
    text.split(" ; GPU=").next().unwrap_or(text).trim().to_owned()
}

/// What the library says of its build.
pub(super) fn description() -> String {
    ort::info().to_owned()
}

/// The library's version, such as `1.31.1`.
pub(super) fn version() -> String {
    VERSION.get().cloned().unwrap_or_else(description)
}

/// What the library itself calls its version; its build information names a branch, if anything.
#[expect(unsafe_code, reason = "`ort` compares the version when it loads and does not tell it")]
fn version_of(library: &Path) -> Option<String> {
    // SAFETY: it is loaded already: this only counts one user more, for ever.
    let library = std::mem::ManuallyDrop::new(unsafe { libloading::Library::new(library) }.ok()?);
    // SAFETY: the C API's entry, with its type.
    let entry: libloading::Symbol<'_, unsafe extern "C" fn() -> *const OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.ok()?;
    // SAFETY: the entry gives a table that lives as long as the library, with a text that ends with
    // a zero; `ort` asked it the same when it loaded the library.
    let version = unsafe { CStr::from_ptr(((*entry()).GetVersionString)()) };
    version.to_str().ok().map(str::to_owned)
}
