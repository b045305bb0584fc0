//! A repository on a web server: plain GET of plain files, with a range where a file was begun.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy};

use super::SourceError;
use crate::files;

/// Largest file of authorities that is read.
const AUTHORITIES_MAX: u64 = 1 << 20;

/// Redirects that are followed: a host that moved, or a mirror's. The bytes are verified wherever
/// they come from.
const REDIRECTS_MAX: u32 = 3;

/// How a web server is reached.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// Address of the repository's folder.
    pub url: String,
    /// Proxy, as in `http://proxy.hospital.lan:3128`; empty for none.
    pub proxy: String,
    /// PEM file of the only authorities that are trusted; empty for the system's.
    pub ca_file: PathBuf,
    /// Longest wait for a connection or an answer.
    pub wait: Duration,
    /// Fewest bytes in a second: a server that sends fewer is left.
    pub rate_min: u64,
}

/// A web server that holds a repository.
#[derive(Debug)]
pub struct Web {
    agent: Agent,
    base: String,
    wait: Duration,
    rate_min: u64,
}

impl Web {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn new(settings: &WebSettings) -> anyhow::Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .timeout_connect(Some(settings.wait))
            .timeout_recv_response(Some(settings.wait));
        config = match settings.proxy.as_str() {
            "" => config.proxy(None),
            proxy => config.proxy(Some(Proxy::new(proxy).context("update.proxy")?)),
        };
        let roots = authorities(settings)?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into())
            .root_certs(RootCerts::new_with_certs(&roots));
        let agent = config.tls_config(tls.build()).build().new_agent();
        let base = settings.url.trim_end_matches('/').to_owned();
        Ok(Self { agent, base, wait: settings.wait, rate_min: settings.rate_min.max(1) })
    }

    pub(super) fn open(
        &self,
        file: &str,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let url = format!("{}/{file}", self.base);
        // The library knows no time between two reads, only one for all of them. What is skipped
        // takes its time too.
        let body = self.wait + Duration::from_secs(offset.saturating_add(length) / self.rate_min);
        let request = self.agent.get(&url).config().timeout_recv_body(Some(body));
        let mut request = request.build();
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        let failed =
            |error: ureq::Error| SourceError::Failed { file: url.clone(), text: error.to_string() };
        let response = request.call().map_err(failed)?;
        let status = response.status().as_u16();
        let expected = if offset > 0 { 206 } else { 200 };
        let begins = response
            .headers()
            .get("content-range")
            .and_then(|range| range.to_str().ok())
            .is_some_and(|range| range.starts_with(&format!("bytes {offset}-")));
        let mut body = Box::new(response.into_body().into_reader());
        match status {
            200 if offset == 0 => Ok(body),
            206 if begins => Ok(body),
            // A server without ranges: what is there already is read over.
            200 => {
                let mut skipped = body.by_ref().take(offset);
                std::io::copy(&mut skipped, &mut std::io::sink())
                    .map_err(|e| SourceError::Failed { file: url.clone(), text: e.to_string() })?;
                Ok(body)
            }
            // Also what some hosts say of names that they never had.
            403 | 404 | 410 => Err(SourceError::NotFound(url)),
            found => Err(SourceError::Status { file: url, expected, found }),
        }
    }
}

fn authorities(settings: &WebSettings) -> anyhow::Result<Vec<Certificate<'static>>> {
    let file = &settings.ca_file;
    if file.as_os_str().is_empty() {
        let roots = rustls_native_certs::load_native_certs().certs;
        return Ok(roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect());
    }
    let what = || format!("update.ca_file: reading {}", file.display());
    let pem = files::read(file, AUTHORITIES_MAX)?;
    let mut roots = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.push(Certificate::from_der(&certificate.with_context(what)?).to_owned());
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "update.ca_file: {}: expected PEM, found none",
        file.display()
    );
    Ok(roots)
}
