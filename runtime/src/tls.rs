//! TLS for both protocols, by rustls with ring: certificates and keys from PEM files.
//!
//! TLS 1.2 and 1.3 only, and nothing below it is ever negotiated (PS3.15 B.12, which takes BCP 195
//! as it is). The files are looked at again before each use, so that a new certificate needs no
//! restart. No session is resumed: every handshake verifies the peer's certificate anew.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig, version};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::clock::Clock;
use crate::config::{Mqtt, ScpTls, TlsMode};

/// Largest file read: Debian's bundle of all public authorities has 220 kB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Permission bits that a key must not have: written by group or others, read by others. Debian
/// gives keys to a group that may read them, systemd passes them with mode 0400.
const KEY_MODE_REFUSED: u32 = 0o026;

/// TLS 1.2 is what PS3.15 B.12 asks for at least, 1.3 what BCP 195 prefers.
const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is longer than such files are.
    #[error("{action} {}: expected at most {FILE_BYTES_MAX} bytes, found {found}", file.display())]
    Large {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// Its length.
        found: u64,
    },
    /// A file holds something else.
    #[error("{action} {}: expected {expected}, found {found}", file.display())]
    Content {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// What such a file holds.
        expected: &'static str,
        /// What this one holds; never a part of a key.
        found: String,
    },
    /// Others can read or replace the key.
    #[error("reading key {}: expected a mode that lets others neither read nor write, found {mode:04o}", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system has no public authorities.
    #[error("reading the system's certificates: expected at least one, found none: {0}")]
    System(String),
    /// The library takes neither the versions nor the certificates.
    #[error("setting up TLS: {0}")]
    Setup(String),
}

/// The files that prove who is who; an empty path is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

/// What files were at one moment: each with inode, time of change and length, where it is there.
///
/// The time of change, not of modification: it also tells of a mode that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp([Option<(u64, i64, i64, u64)>; 3]);

impl From<&ScpTls> for Files {
    fn from(tls: &ScpTls) -> Self {
        let ScpTls { cert_file, key_file, ca_file, .. } = tls;
        Self { cert: cert_file.clone(), key: key_file.clone(), ca: ca_file.clone() }
    }
}

impl From<&Mqtt> for Files {
    fn from(mqtt: &Mqtt) -> Self {
        let Mqtt { cert_file, key_file, ca_file, .. } = mqtt;
        Self { cert: cert_file.clone(), key: key_file.clone(), ca: ca_file.clone() }
    }
}

impl Files {
    /// What the files are now; taken before they are read, so that no change is missed.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let one = |file: &PathBuf| {
            let of = fs::metadata(file).ok()?;
            Some((of.ino(), of.ctime(), of.ctime_nsec(), of.len()))
        };
        Stamp([&self.cert, &self.key, &self.ca].map(one))
    }

    /// Has a file changed since?
    #[must_use]
    pub fn changed(&self, since: &Stamp) -> bool {
        self.stamp() != *since
    }

    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        Ok((certificates("reading certificate", &self.cert)?, key_in(&self.key)?))
    }

    fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(AUTHORITIES, &self.ca)? {
            roots.add(certificate).map_err(|e| TlsError::Content {
                action: AUTHORITIES,
                file: self.ca.clone(),
                expected: "certificates of authorities",
                found: e.to_string(),
            })?;
        }
        Ok(roots)
    }

    fn refused(&self, error: &rustls::Error) -> TlsError {
        let found = if matches!(error, rustls::Error::InconsistentKeys(_)) {
            format!("the key of another certificate than {}", self.cert.display())
        } else {
            error.to_string()
        };
        let (action, expected) = ("reading key", "the certificate's key");
        TlsError::Content { action, file: self.key.clone(), expected, found }
    }

    /// Says so where the own certificate is not valid now: that the peer refuses it may not be seen.
    fn tell_validity(&self, clock: &dyn Clock) {
        let now = clock.now();
        match validity(&self.cert) {
            Ok((from, until)) if now < from || now > until => {
                tracing::error!(file = %self.cert.display(), %from, %until, "own certificate is not valid now: peers that verify it refuse it");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "nobody knows until when this is valid"),
        }
    }
}

/// The receiver's side: a configuration that follows its files.
pub struct Server {
    files: Files,
    mode: TlsMode,
    clock: Arc<dyn Clock>,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Server {
    /// Reads the files; none where TLS is off.
    ///
    /// # Errors
    /// A file cannot be used; the error names it.
    pub fn open(tls: &ScpTls, clock: Arc<dyn Clock>) -> Result<Option<Self>, TlsError> {
        if tls.mode == TlsMode::Off {
            return Ok(None);
        }
        let files = Files::from(tls);
        let stamp = files.stamp();
        let config = server(&files, tls.mode)?;
        files.tell_validity(clock.as_ref());
        Ok(Some(Self { files, mode: tls.mode, clock, current: Mutex::new((stamp, config)) }))
    }

    /// What the next handshake works with. Files that changed are read again; where they cannot be
    /// used, that is logged once and the configuration before them stays.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (stamp, config) = &mut *current;
        let now = self.files.stamp();
        if now != *stamp {
            *stamp = now;
            match server(&self.files, self.mode) {
                Ok(new) => {
                    *config = new;
                    tracing::info!(file = %self.files.cert.display(), "certificate read again");
                    self.files.tell_validity(self.clock.as_ref());
                }
                Err(error) => tracing::error!(%error, "the certificate before it stays in use"),
            }
        }
        Arc::clone(config)
    }
}

fn server(files: &Files, mode: TlsMode) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .map_err(|e| TlsError::Setup(e.to_string()))?;
    let builder = if mode == TlsMode::Mutual {
        let roots = Arc::new(files.authorities()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let verifier = verifier.build().map_err(|e| TlsError::Setup(e.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = files.own()?;
    let mut config = builder.with_single_cert(chain, key).map_err(|e| files.refused(&e))?;
    // A resumed session would go on with a certificate that has expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The publisher's side, read anew at each connection: the broker is verified against `ca_file`, or
/// against the system's authorities where there is none.
///
/// # Errors
/// A file cannot be used; the error names it.
pub fn client(files: &Files, clock: &dyn Clock) -> Result<Arc<ClientConfig>, TlsError> {
    let none = |path: &Path| path.as_os_str().is_empty();
    let roots = if none(&files.ca) { system_authorities()? } else { files.authorities()? };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .map_err(|e| TlsError::Setup(e.to_string()))?
        .with_root_certificates(roots);
    if none(&files.cert) {
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let (chain, key) = files.own()?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|e| files.refused(&e))?;
    files.tell_validity(clock);
    Ok(Arc::new(config))
}

/// Until when a certificate file can be used: its certificate, and those that it is issued by as
/// far as the file holds them.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn expires(cert_file: &Path) -> Result<DateTime<Utc>, TlsError> {
    validity(cert_file).map(|(_, until)| until)
}

/// Why a handshake with a peer failed, in words of our own: what the peer sent is not repeated.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    use rustls::Error::{
        AlertReceived, InvalidCertificate, InvalidMessage, NoCertificatesPresented,
        PeerIncompatible,
    };
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        None => format!("the peer left: {}", error.kind()),
        Some(NoCertificatesPresented) => "expected the peer's certificate, found none".into(),
        Some(InvalidCertificate(error)) => certificate_reason(error).into(),
        Some(PeerIncompatible(what)) => {
            format!("expected TLS 1.2 or 1.3 and a cipher suite of ours, found neither ({what:?})")
        }
        Some(AlertReceived(alert)) => format!("the peer refused: {alert:?}"),
        Some(InvalidMessage(_)) => "expected TLS, found something else".into(),
        Some(_) => "the peer broke the protocol".into(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum grows")]
fn certificate_reason(error: &CertificateError) -> &'static str {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match error {
        Expired | ExpiredContext { .. } => "the peer's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the peer's certificate is not valid yet",
        UnknownIssuer => "the peer's certificate is of an unknown authority",
        BadSignature => "the peer's certificate has a wrong signature",
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "the peer's certificate is for another purpose"
        }
        _ => "the peer's certificate cannot be used",
    }
}

/// Named at each use: a default of the process could come from any crate.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const AUTHORITIES: &str = "reading certificates of authorities";

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::System(errors.join("; ")));
    }
    Ok(roots)
}

fn read(action: &'static str, file: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    let failed = |source| TlsError::Io { action, file: file.into(), source };
    let open = File::open(file).map_err(failed)?;
    let metadata = open.metadata().map_err(failed)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(TlsError::Large { action, file: file.into(), found: metadata.len() });
    }
    let mut bytes = Vec::new();
    open.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, metadata.mode() & 0o777))
}

/// At least one.
fn certificates(
    action: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (bytes, _) = read(action, file)?;
    let wrong = |found: &str| TlsError::Content {
        action,
        file: file.into(),
        expected: "PEM with BEGIN CERTIFICATE",
        found: found.into(),
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong("none in it")),
        Err(_) => Err(wrong("PEM that is damaged")),
    }
}

fn key_in(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let action = "reading key";
    let (bytes, mode) = read(action, file)?;
    if mode & KEY_MODE_REFUSED != 0 {
        return Err(TlsError::Exposed { file: file.into(), mode });
    }
    // The error of the library can quote the file.
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Content {
        action,
        file: file.into(),
        expected: "PEM with BEGIN PRIVATE KEY, unencrypted",
        found: "none in it".into(),
    })
}

/// From when until when all certificates of a file are valid.
fn validity(file: &Path) -> Result<(DateTime<Utc>, DateTime<Utc>), TlsError> {
    let action = "reading validity of certificate";
    let wrong = |found: String| TlsError::Content {
        action,
        file: file.into(),
        expected: "a certificate of X.509",
        found,
    };
    let mut range = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    for der in certificates(action, file)? {
        let certificate = Certificate::from_der(&der).map_err(|e| wrong(e.to_string()))?;
        let validity = certificate.tbs_certificate().validity();
        let time = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok();
            let time = seconds.and_then(|s| DateTime::from_timestamp(s, 0));
            time.ok_or_else(|| wrong("a time beyond all calendars".into()))
        };
        range = (range.0.max(time(validity.not_before)?), range.1.min(time(validity.not_after)?));
    }
    Ok(range)
}
