//! The one configuration: defaults, then a TOML file, then its `conf.d`, then the environment.
//!
//! Unknown keys are errors. Every limit of the appliance stands here, with the reason for its
//! default in `docs/config.toml`, the commented file that `clearfilm check --default` prints.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Profile};
use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// The commented configuration with every key at its default.
pub const COMMENTED_DEFAULT: &str = include_str!("../../docs/config.toml");

/// Prefix of environment variables that override a key: `CLEARFILM__DICOM__SCP__LISTEN`.
const ENVIRONMENT_PREFIX: &str = "CLEARFILM__";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this device is.
    pub unit: Unit,
    /// The DICOM side.
    pub dicom: Dicom,
    /// Limits of decoding.
    pub decode: Decode,
    /// Inference engines.
    pub engine: Engine,
    /// Where things are kept, and how much of them.
    pub storage: Storage,
    /// Which model bundle reads.
    pub bundle: BundleChoice,
    /// May an image be read at all?
    pub gate: Gate,
    /// How drafts are written.
    pub report: Report,
    /// The broker.
    pub mqtt: Mqtt,
    /// Logs.
    pub telemetry: Telemetry,
}

/// Who this device is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unit {
    /// Site, `[a-z0-9-]{1,32}`.
    pub site: String,
    /// Device id, `[a-z0-9-]{4,32}`, unique in the fleet.
    pub name: String,
    /// Room, free text; empty for none.
    pub room: String,
    /// What the results may be used for.
    #[serde(rename = "use")]
    pub intended: Use,
    /// The site secret; empty: `site.key` under the storage path.
    pub secret_file: PathBuf,
}

/// What the results may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// For research only.
    Research,
    /// Run beside the clinic, shown to nobody who treats.
    Shadow,
    /// In clinical use.
    Clinical,
}

/// The DICOM side.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dicom {
    /// The receiver.
    pub scp: Scp,
    /// Limits of the structural gate.
    pub limits: DicomLimits,
    /// Application entities that may send.
    pub peers: Vec<Peer>,
}

/// The receiver (service class provider).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scp {
    /// Address and port.
    pub listen: SocketAddr,
    /// Our application entity title, at most 16 characters.
    pub ae_title: String,
    /// `CR`, `DX`, `DX-processing`, `SC`.
    pub sop_classes: Vec<SopClass>,
    /// Are application entities that are not in `dicom.peers` let in?
    pub unknown_peers: UnknownPeers,
    /// Associations at one time.
    pub max_associations: usize,
    /// Longest protocol data unit taken, bytes.
    pub max_pdu: u32,
    /// Longest silence of a peer before the association is aborted (ARTIM timer too).
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Longest wait for a peer to take what is written to it.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Largest data set taken.
    pub max_object: ByteSize,
}

/// A SOP class that may be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SopClass {
    /// Computed Radiography Image Storage.
    #[serde(rename = "CR")]
    Cr,
    /// Digital X-Ray Image Storage, for presentation.
    #[serde(rename = "DX")]
    Dx,
    /// Digital X-Ray Image Storage, for processing.
    #[serde(rename = "DX-processing")]
    DxProcessing,
    /// Secondary Capture Image Storage (its pixels may carry text).
    #[serde(rename = "SC")]
    Sc,
}

/// What happens to an association of an unknown application entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPeers {
    /// A-ASSOCIATE-RJ.
    Reject,
    /// Let in.
    Accept,
}

/// An application entity that may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its calling application entity title.
    pub ae_title: String,
}

/// Limits of the structural gate, which every received object passes before it is acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DicomLimits {
    /// Deepest nesting of sequences.
    pub depth: usize,
    /// Most data set tokens (elements, items, delimiters).
    pub tokens: usize,
}

/// Limits of decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Most pixels (rows x columns).
    pub pixels: u64,
    /// Largest data set of a file whose transfer syntax is deflated, after inflating.
    pub inflated: ByteSize,
}

/// Inference engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Tried in this order until one passes the bundle's self-test.
    pub order: Vec<EngineChoice>,
    /// `libonnxruntime.so`; empty: beside the binary, then the system's.
    pub library: PathBuf,
    /// Reader threads; each owns one engine session.
    pub sessions: usize,
    /// Threads inside one session (ONNX Runtime).
    pub threads: usize,
}

/// An engine that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// ONNX Runtime on the CPU.
    Cpu,
    /// tract, compiled in.
    Tract,
}

/// Where things are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Root of spool, store and quarantine.
    pub path: PathBuf,
    /// Free space below which C-STORE answers 0xA700.
    pub free_min: ByteSize,
    /// Memory that the store may use as cache.
    pub cache: ByteSize,
    /// Instances accepted but not yet read, at which C-STORE answers 0xA700.
    pub inbox_rows: usize,
    /// Attempts to read one instance before it is set aside.
    pub attempts: u32,
}

/// Which model bundle reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BundleChoice {
    /// A bundle folder; empty: the embedded demo bundle.
    pub path: PathBuf,
    /// Show findings that were validated on phantoms only?
    pub unvalidated: bool,
}

/// May an image be read at all?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Modalities read (0008,0060).
    pub modalities: Vec<String>,
    /// View positions read (0018,5101).
    pub views: Vec<String>,
    /// Youngest patient read, years, where the header tells the age.
    pub min_age: u32,
    /// What happens to an image unlike those that the bundle was measured on.
    pub ood: OodPolicy,
}

/// What happens to an image unlike those that the bundle was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OodPolicy {
    /// No findings, no draft, only the reason.
    Withhold,
    /// Findings with a caveat.
    Flag,
}

/// How drafts are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// Language tag; the bundle must hold templates in it.
    pub language: String,
}

/// The broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// `mqtt://host:port`.
    pub url: String,
    /// Root of the topic tree.
    pub root: String,
    /// Which identifiers of the exam messages carry.
    pub phi: Phi,
    /// Keep-alive of the connection.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// How long the broker waits before it publishes the will.
    #[serde(with = "humantime_serde")]
    pub will_delay: Duration,
    /// How long the broker keeps the publishing session; longer than `will_delay`.
    #[serde(with = "humantime_serde")]
    pub session_expiry: Duration,
    /// Expiry of exam messages (retained ones vanish after it).
    #[serde(with = "humantime_serde")]
    pub exam_expiry: Duration,
    /// Period of the health message.
    #[serde(with = "humantime_serde")]
    pub health_period: Duration,
    /// Most messages on the wire without an acknowledgement.
    pub inflight: u16,
    /// Largest packet sent or taken.
    pub max_packet: ByteSize,
    /// First wait before connecting again; doubles, with jitter.
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    /// Longest wait before connecting again.
    #[serde(with = "humantime_serde")]
    pub retry_max: Duration,
    /// Outbox rows at which C-STORE answers 0xA700.
    pub outbox_rows: usize,
}

/// Which identifiers of the exam messages carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phi {
    /// The exam key only.
    None,
    /// Also accession number and UIDs; nothing is retained.
    Accession,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Filter, as `RUST_LOG` takes it.
    pub log: String,
    /// How a line looks.
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file, or an entry of it, could not be taken.
    #[error("{0}")]
    Refused(Box<figment::Error>),
    /// The file is not there.
    #[error("reading configuration {}: expected a file, found none", .0.display())]
    Missing(PathBuf),
    /// Values that cannot be used together or are out of range.
    #[error("configuration: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// A configuration, and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked configuration.
    pub config: Config,
    /// `(key, value, origin)`, in the order of the default file.
    pub values: Vec<(String, String, String)>,
}

impl Config {
    /// Reads defaults, `file`, `conf.d/*.toml` beside it (by name) and the environment, and checks.
    ///
    /// # Errors
    /// A missing file, an unknown key or a value out of range, each with its origin.
    pub fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError::Missing(file.into()));
            }
            figment = figment.merge(Toml::file_exact(file));
            for part in parts_beside(file) {
                figment = figment.merge(Toml::file_exact(part));
            }
        }
        figment = figment.merge(Env::prefixed(ENVIRONMENT_PREFIX).split("__"));
        let config: Self = figment.extract().map_err(|e| ConfigError::Refused(Box::new(e)))?;
        config.validate()?;
        Ok(Loaded { values: values_of(&figment), config })
    }

    /// Checks what the types alone cannot say.
    ///
    /// # Errors
    /// Every problem at once, each with key, expected and found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, text: String| {
            if !holds {
                wrong.push(text);
            }
        };
        let Unit { site, name, .. } = &self.unit;
        check(is_slug(site, 1), format!("unit.site: expected [a-z0-9-]{{1,32}}, found {site:?}"));
        check(is_slug(name, 4), format!("unit.name: expected [a-z0-9-]{{4,32}}, found {name:?}"));
        let scp = &self.dicom.scp;
        let titles = std::iter::once(&scp.ae_title).chain(self.dicom.peers.iter().map(|p| &p.ae_title));
        for title in titles {
            check(is_ae_title(title), format!("ae_title: expected 1 to 16 printable characters without backslash, found {title:?}"));
        }
        // PS3.8 D.1 sets no bounds; 4 KiB is the least that fits an association request comfortably,
        // 128 KiB the most that dicom-ul takes.
        check((4096..=131_072).contains(&scp.max_pdu), format!("dicom.scp.max_pdu: expected 4096 to 131072, found {}", scp.max_pdu));
        check(scp.max_associations > 0, "dicom.scp.max_associations: expected at least 1, found 0".into());
        check(!scp.sop_classes.is_empty(), "dicom.scp.sop_classes: expected at least one, found none".into());
        check(!self.engine.order.is_empty(), "engine.order: expected at least one engine, found none".into());
        for (key, count) in [("engine.sessions", self.engine.sessions), ("engine.threads", self.engine.threads)] {
            check((1..=64).contains(&count), format!("{key}: expected 1 to 64, found {count}"));
        }
        check(self.storage.attempts > 0, "storage.attempts: expected at least 1, found 0".into());
        self.mqtt.validate(&mut check);
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(wrong)) }
    }

    /// The site secret's file.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        if self.unit.secret_file.as_os_str().is_empty() {
            self.storage.path.join("site.key")
        } else {
            self.unit.secret_file.clone()
        }
    }

    /// The choices that a reading depends on.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            gate: self.gate.clone(),
            report: self.report.clone(),
            unvalidated: self.bundle.unvalidated,
            intended: self.unit.intended,
        }
    }
}

impl Mqtt {
    /// Host and port of `url`.
    ///
    /// # Errors
    /// Says what was expected and found.
    pub fn address(&self) -> Result<(String, u16), String> {
        let found = &self.url;
        let rest = self.url.strip_prefix("mqtt://").ok_or_else(|| format!("mqtt.url: expected mqtt://host:port, found {found:?}"))?;
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "1883"));
        let port = port.parse().map_err(|_| format!("mqtt.url: expected a port from 1 to 65535, found {port:?}"))?;
        if host.is_empty() {
            return Err(format!("mqtt.url: expected a host, found none in {found:?}"));
        }
        Ok((host.into(), port))
    }

    fn validate(&self, check: &mut impl FnMut(bool, String)) {
        if let Err(text) = self.address() {
            check(false, text);
        }
        let root = &self.root;
        check(
            !root.is_empty() && root.split('/').all(|level| is_slug(level, 1)),
            format!("mqtt.root: expected levels of [a-z0-9-] divided by /, found {root:?}"),
        );
        check(
            self.session_expiry > self.will_delay,
            format!("mqtt.session_expiry: expected more than will_delay ({:?}), found {:?}", self.will_delay, self.session_expiry),
        );
        check(self.inflight > 0, "mqtt.inflight: expected at least 1, found 0".into());
        check(self.keep_alive >= Duration::from_secs(5), format!("mqtt.keep_alive: expected at least 5s, found {:?}", self.keep_alive));
        check(self.exam_expiry >= Duration::from_secs(60), format!("mqtt.exam_expiry: expected at least 60s, found {:?}", self.exam_expiry));
        // A findings message is some 20 kB; the protocol's own bound is 256 MiB.
        let packet = self.max_packet.as_u64();
        check((65_536..=268_435_455).contains(&packet), format!("mqtt.max_packet: expected 64KiB to 256MiB, found {}", self.max_packet));
    }
}

/// The few configured choices that a reading depends on; their digest is in every message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Which images are read.
    pub gate: Gate,
    /// How drafts are written.
    pub report: Report,
    /// Findings that were validated on phantoms only are shown.
    pub unvalidated: bool,
    /// What the results may be used for.
    pub intended: Use,
}

impl Policy {
    /// Digest of the policy's canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a policy holds only plain values"))
    }
}

fn is_slug(text: &str, shortest: usize) -> bool {
    (shortest..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// PS3.5 6.2 VR AE: 16 bytes at most, no backslash, not only spaces.
fn is_ae_title(text: &str) -> bool {
    let printable = |b: u8| (0x20..0x7f).contains(&b) && b != b'\\';
    text.len() <= 16 && !text.trim().is_empty() && text.bytes().all(printable)
}

fn parts_beside(file: &Path) -> Vec<PathBuf> {
    let folder = file.with_file_name("conf.d");
    let mut parts: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.filter_map(Result::ok).map(|e| e.path()).collect())
        .unwrap_or_default();
    parts.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    parts.sort();
    parts
}

/// Every effective value with its key and origin.
fn values_of(figment: &Figment) -> Vec<(String, String, String)> {
    fn walk(prefix: &str, value: &toml::Value, out: &mut Vec<(String, String)>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&path, value, out);
                }
            }
            other => out.push((prefix.into(), other.to_string())),
        }
    }
    let mut flat = Vec::new();
    if let Ok(table) = figment.clone().select(Profile::Default).extract::<toml::Value>() {
        walk("", &table, &mut flat);
    }
    let origin = |key: &str| {
        figment.find_metadata(key).map_or_else(
            || "default".into(),
            |m| m.source.as_ref().map_or_else(|| m.name.to_string(), ToString::to_string),
        )
    };
    flat.into_iter().map(|(key, value)| (key.clone(), value, origin(&key))).collect()
}

mod defaults {
    //! The default of every section; `docs/config.toml` says the same with reasons (tested).

    use super::*;

    impl Default for Unit {
        fn default() -> Self {
            Self {
                site: "site".into(),
                name: "unit-1".into(),
                room: String::new(),
                intended: Use::Research,
                secret_file: PathBuf::new(),
            }
        }
    }

    impl Default for Scp {
        fn default() -> Self {
            Self {
                listen: SocketAddr::from(([127, 0, 0, 1], 11112)),
                ae_title: "CLEARFILM".into(),
                sop_classes: vec![SopClass::Cr, SopClass::Dx, SopClass::DxProcessing],
                unknown_peers: UnknownPeers::Reject,
                max_associations: 16,
                max_pdu: 131_072,
                idle_timeout: Duration::from_secs(60),
                write_timeout: Duration::from_secs(30),
                max_object: ByteSize::mib(256),
            }
        }
    }

    impl Default for DicomLimits {
        fn default() -> Self {
            Self { depth: 64, tokens: 200_000 }
        }
    }

    impl Default for Decode {
        fn default() -> Self {
            Self { pixels: 67_108_864, inflated: ByteSize::mib(256) }
        }
    }

    impl Default for Engine {
        fn default() -> Self {
            Self {
                order: vec![EngineChoice::Cpu, EngineChoice::Tract],
                library: PathBuf::new(),
                sessions: 1,
                threads: 2,
            }
        }
    }

    impl Default for Storage {
        fn default() -> Self {
            Self {
                path: PathBuf::from("/var/lib/clearfilm"),
                free_min: ByteSize::gib(2),
                cache: ByteSize::mib(32),
                inbox_rows: 10_000,
                attempts: 2,
            }
        }
    }

    impl Default for Gate {
        fn default() -> Self {
            Self {
                modalities: vec!["DX".into(), "CR".into()],
                views: vec!["PA".into(), "AP".into()],
                min_age: 18,
                ood: OodPolicy::Withhold,
            }
        }
    }

    impl Default for Report {
        fn default() -> Self {
            Self { language: "en".into() }
        }
    }

    impl Default for Mqtt {
        fn default() -> Self {
            Self {
                url: "mqtt://127.0.0.1:1883".into(),
                root: "clearfilm/v1".into(),
                phi: Phi::None,
                keep_alive: Duration::from_secs(30),
                will_delay: Duration::from_secs(30),
                session_expiry: Duration::from_secs(60),
                exam_expiry: Duration::from_secs(86_400),
                health_period: Duration::from_secs(60),
                inflight: 64,
                max_packet: ByteSize::mib(1),
                retry_first: Duration::from_millis(100),
                retry_max: Duration::from_secs(10),
                outbox_rows: 100_000,
            }
        }
    }

    impl Default for Telemetry {
        fn default() -> Self {
            Self { log: "info".into(), log_format: LogFormat::Pretty }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Loaded, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).expect("written");
        Config::load(Some(&file))
    }

    #[test]
    fn the_commented_file_says_the_defaults() {
        let loaded = check(COMMENTED_DEFAULT).expect("the shipped file is valid");
        assert_eq!(loaded.config, Config::default());
        let keys = loaded.values.iter().filter(|(_, _, origin)| !origin.ends_with("config.toml"));
        let missing: Vec<_> = keys.map(|(key, _, _)| key).collect();
        assert!(missing.is_empty(), "keys without a line in docs/config.toml: {missing:?}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = check("[mqtt]\nulr = \"mqtt://x:1\"\n").expect_err("refused").to_string();
        assert!(error.contains("ulr") && error.contains("mqtt"), "{error}");
    }

    #[test]
    fn every_value_out_of_range_is_told_at_once() {
        let text = "[unit]\nname = \"X\"\n[mqtt]\nurl = \"http://x\"\n[dicom.scp]\nae_title = \"A\\\\B\"\n";
        let error = check(text).expect_err("refused").to_string();
        for part in ["unit.name", "mqtt.url", "ae_title"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_not_the_default() {
        let error = Config::load(Some(Path::new("/nonexistent/config.toml"))).expect_err("refused");
        assert!(error.to_string().contains("/nonexistent/config.toml"), "{error}");
    }
}
