//! Rules about who looks at whom: modules only upstream, and one door for each outside crate.

use clearfilm_tests::File;

use super::paths::{Found, paths};

/// The file that declares the modules in the data's order.
pub(super) const LIB: &str = "runtime/src/lib.rs";

/// Where the runtime's sources lie.
const SOURCES: &str = "runtime/src/";

/// The binary: it stands after the library and may look at all of it.
const BINARY: [&str; 2] = ["main", "cli"];

/// Outside crates (`*` at the end: all that begin so) and the only rooms that may open them.
const DOORS: &[(&str, &[&str])] = &[
    ("anstream", &BINARY),
    ("anstyle", &BINARY),
    ("anyhow", &BINARY),
    ("axum", &["web"]),
    ("charls", &["decode"]),
    ("clap", &BINARY),
    ("clap_complete", &BINARY),
    ("clap_mangen", &BINARY),
    ("dicom_*", &["phantom", "ingest", "decode"]),
    ("figment", &["config", "bundle"]),
    ("flate2", &["ingest", "decode", "store"]),
    ("hmac", &["id"]),
    ("http_body_util", &BINARY),
    ("hyper", &["web", "main", "cli"]),
    ("hyper_util", &["web", "main", "cli"]),
    ("image", &["phantom", "decode"]),
    ("jpeg2k", &["decode"]),
    ("jpeg_decoder", &["decode"]),
    ("libc", &["decode", "main", "cli"]),
    ("libloading", &["encode"]),
    ("ort", &["encode"]),
    ("prometheus_client", &["metrics"]),
    ("prost", &["encode"]),
    ("rand", &["phantom", "publish"]),
    ("rand_pcg", &["phantom", "publish"]),
    ("rumqttc", &["publish"]),
    ("rumqttd", &["cli"]),
    ("rustls", &["tls"]),
    ("rustls_native_certs", &["tls"]),
    ("safetensors", &["bundle", "preprocess"]),
    ("sd_notify", &BINARY),
    ("seccompiler", &["decode"]),
    // The receiver hashes while it writes; everybody else asks `id`.
    ("sha2", &["id", "ingest"]),
    ("sled", &["store"]),
    ("tokio", &["ingest", "alarm", "publish", "web", "pipeline", "main", "cli"]),
    // Opened by the two protocol libraries, each with a configuration from `tls`.
    ("tokio_rustls", &[]),
    ("toml", &["config", "bundle"]),
    ("tracing_subscriber", &BINARY),
    ("tract_*", &["encode"]),
    ("x509_cert", &["tls"]),
];

/// The modules in the order in which `lib.rs` declares them.
pub(super) fn order(lib: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.trim().strip_prefix("pub ").unwrap_or(line.trim());
        line.strip_prefix("mod ")?.strip_suffix(';').map(Into::into)
    };
    lib.lines().filter_map(name).collect()
}

/// The module tree position of a file of the runtime, `["bundle", "words"]`; none for others.
fn module_of(path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix(SOURCES)?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    Some(inner.split('/').map(Into::into).collect())
}

/// The top-level module that a path leads to; none where it stays inside or leads outside.
fn leads_to(file: &[String], found: &Found) -> Option<String> {
    let mut base: Vec<String> = file.iter().chain(&found.inside).cloned().collect();
    let mut rest = found.path.iter().peekable();
    match rest.peek().map(|s| s.as_str()) {
        Some("crate") => {
            base.clear();
            rest.next();
        }
        Some("super" | "self") => {
            while let Some(step) = rest.next_if(|s| matches!(s.as_str(), "super" | "self")) {
                if step == "super" {
                    base.pop();
                }
            }
        }
        _ => return None,
    }
    base.into_iter().chain(rest.cloned()).next()
}

/// Modules that look at something that stands below them in `order`, tests included.
pub(super) fn upstream(order: &[String], files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let Some(module) = module_of(&file.path) else { continue };
        let top = &module[0];
        let Some(own) = order.iter().position(|m| m == top) else { continue };
        for found in paths(&file.text()) {
            let Some(target) = leads_to(&module, &found).filter(|t| t != top) else { continue };
            let place = format!("{}:{}: {top} looks at {target}", file.path, found.line);
            match order.iter().position(|m| *m == target) {
                Some(at) if at < own => {}
                Some(_) => wrong.push(format!("{place}, which stands below it in {LIB}")),
                None => wrong.push(format!("{place}, which {LIB} does not declare")),
            }
        }
    }
    wrong
}

/// Sources of the runtime that no line of `lib.rs` declares.
pub(super) fn declared(order: &[String], files: &[File]) -> Vec<String> {
    let undeclared = |file: &&File| {
        let top = module_of(&file.path).and_then(|m| m.into_iter().next());
        top.is_some_and(|top| {
            top != "lib" && !BINARY.contains(&top.as_str()) && !order.contains(&top)
        })
    };
    let files = files.iter().filter(undeclared);
    files.map(|f| format!("{}: expected its module in {LIB}, found none", f.path)).collect()
}

/// Uses of an outside crate in a room that is not its door.
pub(super) fn doors(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let Some(room) = module_of(&file.path).and_then(|m| m.into_iter().next()) else { continue };
        for found in paths(&file.text()) {
            let Some(first) = found.path.first().filter(|_| found.imported || found.path.len() > 1)
            else {
                continue;
            };
            let fits = |pattern: &str| match pattern.strip_suffix('*') {
                Some(prefix) => first.starts_with(prefix),
                None => first == pattern,
            };
            for (_, rooms) in DOORS.iter().filter(|(pattern, _)| fits(pattern)) {
                if !rooms.contains(&room.as_str()) {
                    let place = format!("{}:{}", file.path, found.line);
                    wrong.push(format!(
                        "{place}: expected {first} only in {}, found it in {room}",
                        rooms.join(", ")
                    ));
                }
            }
        }
    }
    wrong
}
