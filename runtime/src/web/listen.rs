//! Connections of the pages: so many at once, each for so long.
//!
//! Whoever holds a connection open, or sends a header byte by byte, holds one place for a while and
//! no more memory than that.

use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config;

/// Serves connections until the future is dropped, and with it every connection.
pub(super) async fn connections(listener: TcpListener, pages: Router, limits: config::Http) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    loop {
        // Those who find no place wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, mostly: others will be closed.
                tracing::warn!(%error, "no connection to the pages");
                tokio::time::sleep(limits.timeout).await;
                continue;
            }
        };
        while open.try_join_next().is_some() {}
        let (pages, timeout) = (pages.clone(), limits.timeout);
        open.spawn(async move {
            if tokio::time::timeout(timeout, connection(socket, pages)).await.is_err() {
                tracing::debug!("a connection to the pages took too long");
            }
            drop(place);
        });
    }
}

/// One request and its answer: a dashboard that asks every few seconds needs no connection that stays.
async fn connection(socket: TcpStream, pages: Router) {
    let service = TowerToHyperService::new(pages);
    let served = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the pages ended");
    }
}
