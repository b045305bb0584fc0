//! Where releases come from, and which of them this device takes.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// How the device is updated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Address or folder of the release repository; empty: this device updates nothing by itself.
    pub source: String,
    /// Proxy on the way to it; empty: none.
    pub proxy: String,
    /// The only authorities that its server is believed by; empty: the system's.
    pub ca_file: PathBuf,
    /// Longest wait for a connection or an answer.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
    /// Most bytes in a second; 0: as many as come.
    pub rate: ByteSize,
    /// Fewest bytes in a second: a server that sends fewer is left, and gone on with at the next time.
    pub rate_min: ByteSize,
    /// What releases call this kind of device.
    pub device_type: String,
    /// Does it stand before all others in every roll-out?
    pub canary: bool,
    /// What the agent keeps: metadata, state and releases.
    pub folder: PathBuf,
    /// The root of trust that the device was shipped with.
    pub root_file: PathBuf,
    /// Space that stays free on that folder's disk.
    pub free_min: ByteSize,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            source: String::new(),
            proxy: String::new(),
            ca_file: PathBuf::new(),
            wait: Duration::from_secs(60),
            rate: ByteSize::b(0),
            rate_min: ByteSize::kib(1),
            device_type: "generic".into(),
            canary: false,
            folder: "/var/lib/clearfilm-agent".into(),
            root_file: "/usr/lib/clearfilm/factory/root.json".into(),
            free_min: ByteSize::gib(1),
        }
    }
}

impl Update {
    pub(super) fn validate(&self, check: &mut impl FnMut(bool, String)) {
        let web = self.source.starts_with("https://") || self.source.starts_with("http://");
        check(
            self.source.is_empty() || web || self.source.starts_with('/'),
            format!(
                "update.source: expected https://host/path, an absolute folder or nothing, found {:?}",
                self.source
            ),
        );
        check(!self.wait.is_zero(), "update.wait: expected more than no time, found 0s".into());
        let (rate, rate_min) = (self.rate, self.rate_min);
        check(
            rate_min.as_u64() > 0 && (rate.as_u64() == 0 || rate >= rate_min),
            format!(
                "update.rate_min: expected at least 1B and at most update.rate, found {rate_min} and {rate}"
            ),
        );
        let kind = &self.device_type;
        check(
            super::is_slug(kind, 1),
            format!("update.device_type: expected [a-z0-9-]{{1,32}}, found {kind:?}"),
        );
    }
}
