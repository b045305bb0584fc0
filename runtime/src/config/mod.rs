//! The one configuration: defaults, then a TOML file, then its `conf.d`, then the environment.
//!
//! Unknown keys are errors. Every limit of the appliance stands here, with the reason for its
//! default in `docs/config.toml`, the commented file that `clearfilm check --default` prints.

mod defaults;
mod engine;
mod sections;
mod tls;
mod update;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Profile};
use serde::{Deserialize, Serialize};

use crate::id::Digest;

pub use engine::{Engine, EngineChoice};
pub use sections::*;
pub use update::Update;

/// The commented configuration with every key at its default.
pub const COMMENTED_DEFAULT: &str = include_str!("../../../docs/config.toml");

/// Prefix of environment variables that override a key: `CLEARFILM__DICOM__SCP__LISTEN`.
const ENVIRONMENT_PREFIX: &str = "CLEARFILM__";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this device is.
    pub unit: Unit,
    /// The watched folder.
    pub inbox: Inbox,
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
    /// Pages about the unit.
    pub http: Http,
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// Releases.
    pub update: Update,
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
        let titles =
            std::iter::once(&scp.ae_title).chain(self.dicom.peers.iter().map(|p| &p.ae_title));
        for title in titles {
            check(
                is_ae_title(title),
                format!(
                    "ae_title: expected 1 to 16 printable characters without backslash, found {title:?}"
                ),
            );
        }
        // PS3.8 D.1 sets no bounds; 4 KiB is the least that fits an association request comfortably,
        // 128 KiB the most that dicom-ul takes.
        check(
            (4096..=131_072).contains(&scp.max_pdu),
            format!("dicom.scp.max_pdu: expected 4096 to 131072, found {}", scp.max_pdu),
        );
        for (key, count) in [
            ("max_associations", scp.max_associations),
            ("max_associations_per_peer", scp.max_associations_per_peer),
            ("associations_per_minute", scp.associations_per_minute),
        ] {
            check(count > 0, format!("dicom.scp.{key}: expected at least 1, found 0"));
        }
        check(
            !scp.sop_classes.is_empty(),
            "dicom.scp.sop_classes: expected at least one, found none".into(),
        );
        self.engine.validate(&mut check);
        for (key, count) in
            [("storage.attempts", self.storage.attempts), ("storage.trials", self.storage.trials)]
        {
            check(count > 0, format!("{key}: expected at least 1, found 0"));
        }
        for (key, time) in [("decode.cpu", self.decode.cpu), ("decode.wall", self.decode.wall)] {
            check(time.as_secs() > 0, format!("{key}: expected at least 1s, found {time:?}"));
        }
        check(self.http.connections > 0, "http.connections: expected at least 1, found 0".into());
        check(
            !self.http.timeout.is_zero(),
            "http.timeout: expected more than no time, found 0s".into(),
        );
        for (key, address) in
            [("http.listen", &self.http.listen), ("telemetry.metrics", &self.telemetry.metrics)]
        {
            check(
                address.is_empty() || address.parse::<SocketAddr>().is_ok(),
                format!(
                    "{key}: expected an address like \"127.0.0.1:8080\" or nothing, found {address:?}"
                ),
            );
        }
        scp.tls.validate(&mut check);
        self.mqtt.validate(&mut check);
        self.update.validate(&mut check);
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
        // The ports that IANA lists for secure-mqtt and mqtt.
        let (rest, usual) = (found.strip_prefix(tls::MQTTS).map(|rest| (rest, "8883")))
            .or_else(|| found.strip_prefix("mqtt://").map(|rest| (rest, "1883")))
            .ok_or_else(|| {
                format!("mqtt.url: expected mqtt://host:port or mqtts://host:port, found {found:?}")
            })?;
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, usual));
        let port = port
            .parse()
            .map_err(|_| format!("mqtt.url: expected a port from 1 to 65535, found {port:?}"))?;
        if host.is_empty() {
            return Err(format!("mqtt.url: expected a host, found none in {found:?}"));
        }
        Ok((host.into(), port))
    }

    fn validate(&self, check: &mut impl FnMut(bool, String)) {
        if let Err(text) = self.address() {
            check(false, text);
        }
        self.validate_tls(check);
        let root = &self.root;
        check(
            !root.is_empty() && root.split('/').all(|level| is_slug(level, 1)),
            format!("mqtt.root: expected levels of [a-z0-9-] divided by /, found {root:?}"),
        );
        check(
            self.session_expiry > self.will_delay,
            format!(
                "mqtt.session_expiry: expected more than will_delay ({:?}), found {:?}",
                self.will_delay, self.session_expiry
            ),
        );
        check(self.inflight > 0, "mqtt.inflight: expected at least 1, found 0".into());
        for (key, time) in [("ack_timeout", self.ack_timeout), ("receipt_wait", self.receipt_wait)]
        {
            let least = Duration::from_secs(1);
            check(
                time >= least,
                format!("mqtt.{key}: expected at least {least:?}, found {time:?}"),
            );
        }
        for consumer in &self.receipts {
            check(
                is_slug(consumer, 1),
                format!("mqtt.receipts: expected names of [a-z0-9-]{{1,32}}, found {consumer:?}"),
            );
        }
        check(
            self.keep_alive >= Duration::from_secs(5),
            format!("mqtt.keep_alive: expected at least 5s, found {:?}", self.keep_alive),
        );
        check(
            self.exam_expiry >= Duration::from_secs(60),
            format!("mqtt.exam_expiry: expected at least 60s, found {:?}", self.exam_expiry),
        );
        // A findings message is some 20 kB; the protocol's own bound is 256 MiB.
        let packet = self.max_packet.as_u64();
        check(
            (65_536..=268_435_455).contains(&packet),
            format!("mqtt.max_packet: expected 64KiB to 256MiB, found {}", self.max_packet),
        );
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
                    let path =
                        if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&path, value, out);
                }
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => out.push((prefix.into(), value.to_string())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_in_result, reason = "a test's own set-up")]
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
