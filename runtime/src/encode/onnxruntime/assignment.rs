//! Which provider holds which nodes, by the session's own account (C API level 24).

use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer as _;
use ort::session::Session;
use ort::sys;

use crate::encode::Nodes;

/// Asks a session, before it is made, to remember which provider got which part of the graph.
pub(super) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// Nodes by provider, after partitioning. A part that a provider fused counts as the nodes that
/// went into it.
#[expect(unsafe_code, reason = "`ort` has no safe wrapper for this part of the C API")]
pub(super) fn of(session: &Session) -> Result<Nodes, String> {
    let api = ort::api();
    let mut nodes = Nodes::default();
    let mut parts: *const *const sys::OrtEpAssignedSubgraph = ptr::null();
    let mut count = 0;
    // SAFETY: the session lives through the call, and both places are ours to write to.
    let status =
        unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut parts, &mut count) };
    checked(status)?;
    for at in 0..count {
        let (mut name, mut members, mut held) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the session owns `count` parts at `parts` and keeps them as long as it lives.
        let part = unsafe { *parts.add(at) };
        // SAFETY: `part` is one of them; the places are ours.
        checked(unsafe { (api.EpAssignedSubgraph_GetEpName)(part, &mut name) })?;
        // SAFETY: as above.
        checked(unsafe { (api.EpAssignedSubgraph_GetNodes)(part, &mut members, &mut held) })?;
        *nodes.0.entry(provider(&text(name))).or_default() += held;
    }
    Ok(nodes)
}

/// Our name of a provider, or the library's where we have none.
fn provider(name: &str) -> String {
    match name {
        "TensorrtExecutionProvider" => "tensorrt",
        "CUDAExecutionProvider" => "cuda",
        "CPUExecutionProvider" => "cpu",
        other => other,
    }
    .into()
}

/// Takes a status for what it says, and gives it back to the library.
#[expect(unsafe_code, reason = "as above")]
fn checked(status: sys::OrtStatusPtr) -> Result<(), String> {
    let status = status.0;
    if status.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // SAFETY: a status that is not null is the library's, with a text that lives as long as it.
    let said = text(unsafe { (api.GetErrorMessage)(status) });
    // SAFETY: it is ours to release, once.
    unsafe { (api.ReleaseStatus)(status) };
    Err(format!("asking which provider holds the graph: {said}"))
}

/// A text of the library.
#[expect(unsafe_code, reason = "as above")]
fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the library's texts end with a zero and outlive this call.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}
