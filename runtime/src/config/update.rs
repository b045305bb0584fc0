//! Where releases come from, and which of them this device takes.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Minutes of a day.
const MINUTES: u32 = 24 * 60;

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
    /// How often the repository is asked; each device adds up to a tenth of it, so that a fleet does
    /// not ask at once.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// Local time in which a release may be started, `01:00-05:00`; empty: any.
    pub window: String,
    /// No release is started before no image has come for so long.
    #[serde(with = "humantime_serde")]
    pub quiet: Duration,
    /// Must a person at the site approve a release that changes the bundle?
    pub approve_bundle: bool,
    /// How long a release is watched before it stays.
    #[serde(with = "humantime_serde")]
    pub trial: Duration,
    /// Longest wait for a release on trial to be ready.
    #[serde(with = "humantime_serde")]
    pub ready_within: Duration,
    /// Starts that a release on trial has, 1 to 9: more than one, because power may be lost meanwhile.
    pub starts: u8,
    /// Longest self-test of a release before it is started.
    #[serde(with = "humantime_serde")]
    pub selftest: Duration,
    /// Folders that say what each service starts; only root writes there.
    pub slots: PathBuf,
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
            poll: Duration::from_secs(3600),
            window: String::new(),
            quiet: Duration::from_secs(600),
            approve_bundle: true,
            trial: Duration::from_secs(600),
            ready_within: Duration::from_secs(60),
            starts: 3,
            selftest: Duration::from_secs(900),
            slots: "/var/lib/clearfilm-slots".into(),
            folder: "/var/lib/clearfilm-agent".into(),
            root_file: "/usr/lib/clearfilm/factory/root.json".into(),
            free_min: ByteSize::gib(1),
        }
    }
}

impl Update {
    /// The window, minutes after midnight from and to; the whole day where none is configured. None
    /// where it cannot be read.
    #[must_use]
    pub fn window(&self) -> Option<(u32, u32)> {
        if self.window.is_empty() {
            return Some((0, MINUTES));
        }
        let minutes = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let (from, to) = self.window.split_once('-')?;
        Some((minutes(from)?, minutes(to)?))
    }

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
        check(!self.poll.is_zero(), "update.poll: expected more than no time, found 0s".into());
        check(
            (1..=9).contains(&self.starts),
            format!("update.starts: expected 1 to 9, found {}", self.starts),
        );
        check(
            self.window().is_some(),
            format!("update.window: expected hh:mm-hh:mm or nothing, found {:?}", self.window),
        );
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
