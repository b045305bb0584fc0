//! What the unit says of itself over HTTP: is it alive, is it ready, its metrics; and, over a
//! socket that only its own user can open, what an operator may ask of it.

mod control;
mod listen;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config;
use crate::health::Health;
use crate::id::ExamKey;
use crate::publish::SCHEMAS;
use crate::store::record::VALUE_VERSION;

pub use control::{SOCKET, serve as serve_control};

/// Erases an exam; gives how many instances it had.
pub type Erase = Box<dyn Fn(&ExamKey) -> Result<usize, String> + Send + Sync>;

/// What the pages are made from.
pub struct Web {
    /// How the unit is doing.
    pub health: Arc<Health>,
    /// Why nothing is read, where nothing is.
    pub engine: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Payload of `about`.
    pub about: watch::Receiver<Value>,
    /// Asks the publisher to try everything again.
    pub retry: Box<dyn Fn() + Send + Sync>,
    /// Erases an exam.
    pub erase: Erase,
}

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A port.
    #[error("listening on {address} ({key}): {source}")]
    Port {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The local socket.
    #[error("{action} {}: {source}", file.display())]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The socket.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Pages for whoever watches over the unit: `http.listen`.
pub fn pages(web: Arc<Web>) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/api/v1/status", get(status))
        .route("/api/v1/about", get(about))
        .route("/api/v1/schemas/{name}/{version}", get(schema))
        .with_state(web)
}

/// Metrics, on a listener of their own: `telemetry.metrics`.
pub fn metrics(web: Arc<Web>) -> Router {
    Router::new().route("/metrics", get(text)).with_state(web)
}

/// Serves pages on a port until `stop` turns true; a port that cannot be had is an error at once.
///
/// # Errors
/// The address is taken or not ours.
pub async fn serve(
    key: &'static str,
    address: SocketAddr,
    pages: Router,
    limits: config::Http,
    mut stop: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send + use<>, WebError> {
    let failed = |source| WebError::Port { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    tracing::info!(%address, key, "pages");
    Ok(async move {
        tokio::select! {
            () = listen::connections(listener, pages, limits) => {}
            // Gone is stopped too.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    })
}

/// Do all loops still turn?
async fn alive(State(web): State<Arc<Web>>) -> Response {
    let stuck = web.health.pulses.stuck();
    let status = if stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ok": stuck.is_empty(), "stuck": stuck}))).into_response()
}

/// Can images be received and read?
async fn ready(State(web): State<Arc<Web>>) -> Response {
    let checks = web.health.checks((web.engine)().as_deref());
    let ready = Health::ready(&checks);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "checks": checks}))).into_response()
}

async fn status(State(web): State<Arc<Web>>) -> Json<Value> {
    Json(web.status())
}

async fn about(State(web): State<Arc<Web>>) -> Json<Value> {
    Json(web.about.borrow().clone())
}

async fn schema(Path((name, version)): Path<(String, String)>) -> Response {
    let found = SCHEMAS.iter().find(|(known, _)| *known == name && version == "1");
    match found {
        Some((_, text)) => {
            ([(header::CONTENT_TYPE, "application/schema+json")], *text).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "no such schema"),
    }
}

async fn text(State(web): State<Arc<Web>>) -> Response {
    let levels = web.health.levels((web.engine)().as_deref());
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], web.health.metrics.text(&levels)).into_response()
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    let body =
        json!({"title": status.canonical_reason(), "status": status.as_u16(), "detail": detail});
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

impl Web {
    /// What `clearfilm status` prints: health, and every alarm with its text.
    fn status(&self) -> Value {
        let mut status = self.health.summary((self.engine)().as_deref());
        let alarms: Vec<Value> = self
            .health
            .alarms
            .raised()
            .into_iter()
            .map(|(kind, alarm)| {
                json!({"type": kind, "severity": alarm.severity, "text": alarm.text, "since": alarm.since})
            })
            .collect();
        if let Some(members) = status.as_object_mut() {
            members.insert("alarms".into(), json!(alarms));
            members.insert("inbox".into(), json!({"depth": self.health.store.inbox_rows()}));
            members.insert("store_version".into(), json!(VALUE_VERSION));
            members.insert("idle_s".into(), json!(self.health.idle_s()));
            let trials = &self.health.trials;
            let (read, failed) = (&trials.read, &trials.failed);
            let trials = json!({
                "read": read.load(Ordering::Relaxed),
                "failed": failed.load(Ordering::Relaxed),
            });
            members.insert("trials".into(), trials);
        }
        status
    }
}
