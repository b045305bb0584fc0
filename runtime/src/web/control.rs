//! The local socket: what an operator may ask of a running unit. sled locks its store to one
//! process, so the verbs that need it ask here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::block_in_place;

use super::{Web, WebError, problem};
use crate::alarm::AlarmKind;
use crate::store::StoreError;
use crate::store::record::{OutboxRow, What};

/// Its name under the storage path.
pub const SOCKET: &str = "control.sock";

/// Rows that a list shows where nothing else is asked for.
const LIST: usize = 100;

/// Serves the socket until `stop` turns true.
///
/// # Errors
/// The socket cannot be made, or not for us alone.
pub fn serve(
    storage: &FilePath,
    web: Arc<Web>,
    mut stop: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send + use<>, WebError> {
    let file = storage.join(SOCKET);
    let failed = |action| {
        let file = file.clone();
        move |source| WebError::Socket { action, file, source }
    };
    // The store is ours alone, so a socket that lies there belongs to a process that ended.
    if file.exists() {
        fs::remove_file(&file).map_err(failed("removing"))?;
    }
    let listener = UnixListener::bind(&file).map_err(failed("making"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
        .map_err(failed("closing to others"))?;
    let router = Router::new()
        .route("/status", get(status))
        .route("/outbox", get(list))
        .route("/outbox/retry", post(retry))
        .route("/outbox/{sequence}", delete(drop_row))
        .route("/alarms/{kind}", delete(clear))
        .route("/exams/{key}", delete(erase))
        .with_state(web);
    Ok(async move {
        let stopped = async move {
            drop(stop.wait_for(|stop| *stop).await);
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the local socket ended");
        }
    })
}

async fn status(State(web): State<Arc<Web>>) -> Json<Value> {
    Json(web.status())
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn list(State(web): State<Arc<Web>>, Query(Limit { limit }): Query<Limit>) -> Response {
    let now = web.health.clock.now();
    let rows = block_in_place(|| web.health.store.outbox_after(0, limit.unwrap_or(LIST)));
    let shown = |(sequence, row): (u64, OutboxRow)| {
        json!({
            "seq": sequence,
            "kind": kind(&row.what),
            "exam": row.what.exam(),
            "time": row.time,
            "age_s": (now - row.time).num_seconds().max(0),
        })
    };
    match rows {
        Ok(rows) => Json(json!({
            "depth": web.health.store.outbox_rows(),
            "rows": rows.into_iter().map(shown).collect::<Vec<_>>(),
        }))
        .into_response(),
        Err(error) => failed(&error),
    }
}

fn kind(what: &What) -> &'static str {
    match what {
        What::State { .. } => "state",
        What::Gate { .. } => "gate",
        What::Findings { .. } => "findings",
        What::Report { .. } => "report",
        What::Device { .. } => "device",
        What::Alarm { .. } => "alarm",
        What::Erased { .. } => "erased",
    }
}

async fn retry(State(web): State<Arc<Web>>) -> Json<Value> {
    (web.retry)();
    Json(json!({"depth": web.health.store.outbox_rows()}))
}

/// An operator decides that a message is never to be sent.
async fn drop_row(State(web): State<Arc<Web>>, Path(sequence): Path<u64>) -> Response {
    let store = &web.health.store;
    let dropped = block_in_place(|| {
        let there = store.queued(sequence)?;
        store.delivered(sequence, None)?;
        Ok::<bool, StoreError>(there)
    });
    match dropped {
        Ok(true) => {
            tracing::warn!(sequence, "a message was dropped by an operator");
            Json(json!({"dropped": sequence})).into_response()
        }
        Ok(false) => problem(StatusCode::NOT_FOUND, "no such message waits"),
        Err(error) => failed(&error),
    }
}

async fn clear(State(web): State<Arc<Web>>, Path(kind): Path<String>) -> Response {
    let Some(kind) = AlarmKind::named(&kind) else {
        return problem(StatusCode::NOT_FOUND, "no such alarm");
    };
    block_in_place(|| web.health.alarms.clear(kind));
    Json(json!({"cleared": kind})).into_response()
}

async fn erase(State(web): State<Arc<Web>>, Path(key): Path<String>) -> Response {
    let Ok(key) = key.parse() else {
        return problem(StatusCode::BAD_REQUEST, "expected an exam key of 26 characters [a-z2-7]");
    };
    match block_in_place(|| (web.erase)(&key)) {
        Ok(0) => problem(StatusCode::NOT_FOUND, "no such exam is kept"),
        Ok(images) => Json(json!({"erased": key, "images": images})).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn failed(error: &StoreError) -> Response {
    problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}
