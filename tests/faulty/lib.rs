//! A library that passes for ONNX Runtime and fails where it is told to.
//!
//! It hands every call to the real library (`CLEARFILM_FAULTY_REAL`) but those that
//! `CLEARFILM_FAULTY` names. So a test sees what becomes of a service whose engine crashes, hangs,
//! takes all memory, answers wrongly or only pretends; and, on a machine without a GPU, the way of
//! TensorRT from its registration to the engine that it built.

#![expect(unsafe_code, reason = "this is a C library: its whole interface is pointers")]
#![allow(missing_docs, reason = "nothing here is called by name but OrtGetApiBase")]

use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use ort_sys::{
    OrtApi, OrtApiBase, OrtEnv, OrtEpAssignedSubgraph, OrtErrorCode, OrtRunOptions, OrtSession,
    OrtSessionOptions, OrtStatusPtr, OrtTensorRTProviderOptionsV2, OrtValue,
};

/// What the real library gives, and our copy of it with some functions changed.
static REAL: OnceLock<Functions> = OnceLock::new();
static OURS: OnceLock<Functions> = OnceLock::new();
static BASE: OnceLock<Base> = OnceLock::new();

/// TensorRT was asked for in this process, and where it was told to keep what it builds.
static REGISTERED: AtomicBool = AtomicBool::new(false);
static CACHE: Mutex<Option<PathBuf>> = Mutex::new(None);

struct Functions(OrtApi);
// SAFETY: a table of functions that is never written again.
unsafe impl Sync for Functions {}
// SAFETY: as above.
unsafe impl Send for Functions {}

struct Base(OrtApiBase);
// SAFETY: as above.
unsafe impl Sync for Base {}
// SAFETY: as above.
unsafe impl Send for Base {}

/// Is this the failure that was asked for?
fn asked(failure: &str) -> bool {
    std::env::var("CLEARFILM_FAULTY").is_ok_and(|asked| asked == failure)
}

/// Runs when the library is loaded, before anybody could call it.
#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = on_load;

extern "C" fn on_load() {
    if asked("crash-on-load") {
        // SAFETY: it is not: that is what was asked for.
        unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
    }
    while asked("hang-on-load") {
        std::thread::park();
    }
}

/// # Safety
/// As ONNX Runtime's own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn OrtGetApiBase() -> *const OrtApiBase {
    &raw const BASE.get_or_init(|| Base(base())).0
}

fn base() -> OrtApiBase {
    let path = std::env::var_os("CLEARFILM_FAULTY_REAL").expect("the real library is named");
    // SAFETY: the real library may be loaded.
    let library = unsafe { libloading::Library::new(path) }.expect("the real library loads");
    // SAFETY: this is its type.
    let get: libloading::Symbol<unsafe extern "system" fn() -> *const OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.expect("the real library is ONNX Runtime");
    // SAFETY: its own function, and what it gives lives as long as the library.
    let real = unsafe { std::ptr::read(get()) };
    // SAFETY: the version that the table below is of; the real library is at least that old.
    let functions = unsafe { std::ptr::read((real.GetApi)(ort_sys::ORT_API_VERSION)) };
    std::mem::forget(library);
    let mut ours = functions.clone();
    changed(&mut ours);
    REAL.get_or_init(|| Functions(functions));
    OURS.get_or_init(|| Functions(ours));
    OrtApiBase { GetApi: get_api, ..real }
}

unsafe extern "system" fn get_api(_version: u32) -> *const OrtApi {
    OURS.get().map_or(std::ptr::null(), |f| &raw const f.0)
}

fn real() -> &'static OrtApi {
    &REAL.get().expect("the base was asked for").0
}

fn changed(api: &mut OrtApi) {
    api.CreateSessionFromArray = create_session;
    api.Run = run;
    if asked("tensorrt") || asked("no-nodes") {
        api.CreateTensorRTProviderOptions = create_options;
        api.UpdateTensorRTProviderOptions = update_options;
        api.ReleaseTensorRTProviderOptions = release_options;
        api.SessionOptionsAppendExecutionProvider_TensorRT_V2 = append;
    }
    if asked("tensorrt") {
        api.EpAssignedSubgraph_GetEpName = name_of_provider;
    }
}

unsafe extern "system" fn create_options(
    out: *mut *mut OrtTensorRTProviderOptionsV2,
) -> OrtStatusPtr {
    // SAFETY: the caller's place; the pointer is only ever handed back to the functions below.
    unsafe { *out = std::ptr::dangling_mut() };
    OrtStatusPtr::default()
}

unsafe extern "system" fn update_options(
    _options: *mut OrtTensorRTProviderOptionsV2,
    keys: *const *const c_char,
    values: *const *const c_char,
    count: usize,
) -> OrtStatusPtr {
    for at in 0..count {
        // SAFETY: `count` texts each.
        let (key, value) =
            unsafe { (CStr::from_ptr(*keys.add(at)), CStr::from_ptr(*values.add(at))) };
        if key.to_bytes() == b"trt_engine_cache_path" {
            let path = PathBuf::from(value.to_string_lossy().into_owned());
            *CACHE.lock().expect("nobody panicked") = Some(path);
        }
    }
    OrtStatusPtr::default()
}

unsafe extern "system" fn release_options(_options: *mut OrtTensorRTProviderOptionsV2) {}

unsafe extern "system" fn append(
    _options: *mut OrtSessionOptions,
    _tensorrt: *const OrtTensorRTProviderOptionsV2,
) -> OrtStatusPtr {
    REGISTERED.store(true, Ordering::SeqCst);
    OrtStatusPtr::default()
}

unsafe extern "system" fn name_of_provider(
    part: *const OrtEpAssignedSubgraph,
    out: *mut *const c_char,
) -> OrtStatusPtr {
    if !REGISTERED.load(Ordering::SeqCst) {
        // SAFETY: the caller's arguments.
        return unsafe { (real().EpAssignedSubgraph_GetEpName)(part, out) };
    }
    // SAFETY: the caller's place.
    unsafe { *out = c"TensorrtExecutionProvider".as_ptr() };
    OrtStatusPtr::default()
}

unsafe extern "system" fn create_session(
    env: *const OrtEnv,
    model: *const c_void,
    length: usize,
    options: *const OrtSessionOptions,
    out: *mut *mut OrtSession,
) -> OrtStatusPtr {
    if asked("crash-in-session") {
        std::process::abort();
    }
    let mut taken = Vec::new();
    while asked("memory") {
        taken.push(vec![1_u8; 64 << 20]);
    }
    if REGISTERED.load(Ordering::SeqCst)
        && let Some(cache) = CACHE.lock().expect("nobody panicked").as_deref()
    {
        load_or_build(cache);
    }
    // SAFETY: the caller's arguments.
    unsafe { (real().CreateSessionFromArray)(env, model, length, options, out) }
}

/// As TensorRT does: every engine that lies in the folder is opened; where none does, one is built.
fn load_or_build(cache: &Path) {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten().map(|e| e.path());
    let engines: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "engine")).collect();
    for engine in &engines {
        drop(std::fs::read(engine));
    }
    if engines.is_empty() {
        let ms = std::env::var("CLEARFILM_FAULTY_BUILD_MS").ok().and_then(|ms| ms.parse().ok());
        std::thread::sleep(Duration::from_millis(ms.unwrap_or(0)));
        std::fs::write(cache.join("built.engine"), "an engine").expect("the folder can be written");
    }
}

unsafe extern "system" fn run(
    session: *mut OrtSession,
    run_options: *const OrtRunOptions,
    input_names: *const *const c_char,
    inputs: *const *const OrtValue,
    input_len: usize,
    output_names: *const *const c_char,
    output_len: usize,
    outputs: *mut *mut OrtValue,
) -> OrtStatusPtr {
    let trigger = std::env::var_os("CLEARFILM_FAULTY_TRIGGER").map(PathBuf::from);
    if trigger.is_some_and(|file| file.exists()) {
        // SAFETY: a code and a text of the real library's kind.
        return unsafe {
            (real().CreateStatus)(OrtErrorCode::ORT_FAIL, c"the device fell off the bus".as_ptr())
        };
    }
    // SAFETY: the caller's arguments.
    let status = unsafe {
        (real().Run)(
            session,
            run_options,
            input_names,
            inputs,
            input_len,
            output_names,
            output_len,
            outputs,
        )
    };
    if asked("wrong-answer") {
        // SAFETY: the first output, which the real library just made.
        unsafe { negate(*outputs) };
    }
    status
}

/// Every second number of an output with the other sign: wrong, and of the right shape.
unsafe fn negate(value: *mut OrtValue) {
    let api = real();
    let (mut info, mut count, mut data) = (std::ptr::null_mut(), 0, std::ptr::null_mut());
    // SAFETY: a value of the real library, and our own places.
    unsafe {
        let _ = (api.GetTensorTypeAndShape)(value, &raw mut info).0;
        let _ = (api.GetTensorShapeElementCount)(info, &raw mut count).0;
        (api.ReleaseTensorTypeAndShapeInfo)(info);
        let _ = (api.GetTensorMutableData)(value, &raw mut data).0;
    }
    // SAFETY: the encoder's output is `count` numbers of fp32.
    let numbers = unsafe { std::slice::from_raw_parts_mut(data.cast::<f32>(), count) };
    numbers.iter_mut().step_by(2).for_each(|n| *n = -*n);
}
