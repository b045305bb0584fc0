//! One request over HTTP, once.

use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Error};

use super::NameError;
use super::reply::Failure;
use super::server::Server;

/// A connection to one server.
pub(super) struct Wire {
    agent: Agent,
    url: String,
    key: Option<String>,
    reply_bytes_max: u64,
}

/// How an attempt ended.
pub(super) enum Ended {
    /// HTTP 200, and the whole body.
    Reply(Vec<u8>),
    /// Another way; the server may have said after how long to come again.
    Failed(Failure, Option<Duration>),
}

impl Wire {
    /// # Errors
    /// The environment has no key under that name.
    pub(super) fn new(server: &Server) -> Result<Self, NameError> {
        let key = match &server.key_env {
            None => None,
            Some(name) => {
                let found = std::env::var(name).ok().filter(|key| !key.is_empty());
                Some(found.ok_or_else(|| NameError::Key(name.clone()))?)
            }
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(server.limits.timeout_s)));
        if server.url.starts_with("https:") {
            // The system's roots, as for the appliance's own connections.
            let roots = rustls_native_certs::load_native_certs().certs;
            let roots: Vec<Certificate<'static>> =
                roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into())
                .root_certs(RootCerts::new_with_certs(&roots));
            config = config.tls_config(tls.build());
        }
        let url = format!("{}/chat/completions", server.url.trim_end_matches('/'));
        let reply_bytes_max = server.limits.reply_bytes_max;
        Ok(Self { agent: config.build().new_agent(), url, key, reply_bytes_max })
    }

    pub(super) fn send(&self, body: &[u8]) -> Ended {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return Ended::Failed(kind(&error, Failure::Connection), None),
        };
        let status = response.status().as_u16();
        if status != 200 {
            let after = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
            let after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            let failure = match status {
                429 => Failure::TooManyRequests,
                500..=599 => Failure::ServerError,
                _ => Failure::HttpOther,
            };
            return Ended::Failed(failure, after);
        }
        match response.body_mut().with_config().limit(self.reply_bytes_max).read_to_vec() {
            Ok(bytes) => Ended::Reply(bytes),
            Err(error) => Ended::Failed(kind(&error, Failure::Truncated), None),
        }
    }
}

/// What an error of the library means, or else `other`.
fn kind(error: &Error, other: Failure) -> Failure {
    if matches!(error, Error::Timeout(_)) {
        Failure::Timeout
    } else if matches!(error, Error::BodyExceedsLimit(_) | Error::LargeResponseHeader(..)) {
        Failure::Oversize
    } else {
        other
    }
}
