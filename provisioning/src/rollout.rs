//! Which devices install which release, and when: `fleet.json`, signed by the role `operations`.
//!
//! There is no server that decides. Each device works out from this one file when its turn is, and
//! anybody with the file can work it out for every device.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};

use crate::release::Name;

/// The form of the document; another one is refused.
pub const FORMAT: &str = "clearfilm-fleet/1";

/// Largest document: a pin for each of 10,000 devices.
pub const SIZE_MAX: u64 = 1 << 20;

/// Positions that devices are spread over: 2,048, as in Bottlerocket, where one of a hundred is still
/// twenty steps.
pub const POSITIONS: u64 = 2048;

/// Who installs what, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// [`FORMAT`].
    pub format: String,
    /// Sites that the file is for; a device of another one refuses it, whoever brought it.
    pub sites: Vec<String>,
    /// What devices shall run.
    pub release: Name,
    /// When the first wave may start.
    pub start: DateTime<Utc>,
    /// Waves, each later and larger than the one before.
    pub waves: Vec<Wave>,
    /// Nobody starts any more; who has started goes on.
    pub halt: bool,
    /// Devices that shall run something else, at once and also while the rest is halted: the remedy
    /// for a device, and the only way to an older release.
    #[serde(default)]
    pub pins: BTreeMap<String, Name>,
    /// No device goes below this epoch any more.
    pub min_epoch: u32,
}

/// From when on so many may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// After [`Rollout::start`].
    #[serde(with = "humantime_serde")]
    pub after: Duration,
    /// Share of all devices that may have started by then, 1 to 100.
    pub percent: u8,
}

/// A document that says nothing sensible.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RolloutError {
    /// No document of this form.
    #[error("{target}: expected {FORMAT}, found {0}", target = crate::role::FLEET)]
    Form(String),
    /// Waves.
    #[error("{target}: waves: expected each later and larger than the one before, of 1 to 100 percent, found {0:?}", target = crate::role::FLEET)]
    Waves(Vec<Wave>),
}

/// What a device shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Run this release; whether it may be an older one.
    Run {
        /// Which.
        release: Name,
        /// Is it a pin?
        pinned: bool,
    },
    /// Nothing before this time.
    Wait(DateTime<Utc>),
    /// Nothing: its share is not in any wave yet.
    NotYet,
    /// Nothing: halted.
    Halted,
    /// Nothing: the file is for other sites.
    OtherSite,
}

impl Rollout {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// JSON of another form, an unknown field, or waves that make no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, RolloutError> {
        let rollout: Self =
            serde_json::from_slice(bytes).map_err(|error| RolloutError::Form(error.to_string()))?;
        rollout.check()?;
        Ok(rollout)
    }

    fn check(&self) -> Result<(), RolloutError> {
        if self.format != FORMAT {
            return Err(RolloutError::Form(self.format.clone()));
        }
        let rising = self
            .waves
            .windows(2)
            .all(|pair| pair[0].after < pair[1].after && pair[0].percent < pair[1].percent);
        let shares = self.waves.iter().all(|wave| (1..=100).contains(&wave.percent));
        if rising && shares { Ok(()) } else { Err(RolloutError::Waves(self.waves.clone())) }
    }

    /// What a device shall do at `now`.
    #[must_use]
    pub fn order(&self, site: &str, device: &str, canary: bool, now: DateTime<Utc>) -> Order {
        if !self.sites.iter().any(|own| own == site) {
            return Order::OtherSite;
        }
        if let Some(release) = self.pins.get(device) {
            return Order::Run { release: release.clone(), pinned: true };
        }
        if self.halt {
            return Order::Halted;
        }
        match self.start_of(device, canary) {
            None => Order::NotYet,
            Some(start) if now < start => Order::Wait(start),
            Some(_) => Order::Run { release: self.release.clone(), pinned: false },
        }
    }

    /// When a device's turn is: that of the first wave whose share reaches its position. A canary
    /// stands before everybody.
    #[must_use]
    pub fn start_of(&self, device: &str, canary: bool) -> Option<DateTime<Utc>> {
        let position = if canary { 0 } else { position(device, &self.release) };
        // In whole numbers: position / 2048 < percent / 100.
        let reaches = |wave: &&Wave| position * 100 < u64::from(wave.percent) * POSITIONS;
        let wave = self.waves.iter().find(reaches)?;
        self.start.checked_add_signed(TimeDelta::from_std(wave.after).ok()?)
    }
}

/// Where a device stands in the order for a release, 0 to 2,047: another place for each release, so
/// that not always the same ones go first.
///
/// HMAC-SHA-256 of the device id under the release's name, its first eight bytes as a big-endian
/// number, modulo 2,048.
#[must_use]
pub fn position(device: &str, release: &Name) -> u64 {
    let key = release.to_string();
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes());
    let bytes = mac.expect("HMAC takes a key of any length").chain_update(device).finalize();
    let bytes = bytes.into_bytes();
    let first = bytes.first_chunk().expect("a SHA-256 has 32 bytes");
    u64::from_be_bytes(*first) % POSITIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout() -> Rollout {
        let text = r#"{"format": "clearfilm-fleet/1", "sites": ["north"], "release": "0.2.0+demo",
            "start": "2026-01-01T00:00:00Z", "halt": false, "min_epoch": 1,
            "waves": [{"after": "1h", "percent": 1}, {"after": "1day", "percent": 10},
                      {"after": "3days", "percent": 100}],
            "pins": {"north-dx-9": "0.1.0"}}"#;
        Rollout::parse(text.as_bytes()).expect("it is right")
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn every_device_starts_in_the_wave_that_its_position_says() {
        let rollout = rollout();
        let mut counts = [0_u32; 3];
        for n in 0..2048 {
            let device = format!("north-dx-{n:04}");
            let start = rollout.start_of(&device, false).expect("the last wave has everybody");
            let share =
                f64::from(u32::try_from(position(&device, &rollout.release)).expect("small"))
                    / 2048.0;
            let wave = [0.01, 0.1, 1.0].iter().position(|limit| share < *limit).expect("below 1");
            let times = ["2026-01-01T01:00:00Z", "2026-01-02T00:00:00Z", "2026-01-04T00:00:00Z"];
            assert_eq!(start, at(times[wave]), "{device}");
            counts[wave] += 1;
        }
        // Within two per cent of all devices of what the waves say.
        assert!(counts[0].abs_diff(20) < 41 && counts[1].abs_diff(184) < 41, "{counts:?}");
    }

    #[test]
    fn a_halt_stops_whoever_has_not_started_and_no_pin() {
        let rollout = Rollout { halt: true, ..rollout() };
        let late = at("2027-01-01T00:00:00Z");
        assert_eq!(rollout.order("north", "north-dx-1", false, late), Order::Halted);
        let pinned = Order::Run {
            release: Name::try_from("0.1.0".to_owned()).expect("a name"),
            pinned: true,
        };
        assert_eq!(rollout.order("north", "north-dx-9", false, late), pinned);
    }

    #[test]
    fn a_canary_goes_first_and_another_site_never() {
        let rollout = rollout();
        let first = at("2026-01-01T01:00:00Z");
        let order = rollout.order("north", "north-dx-1", true, first);
        assert_eq!(order, Order::Run { release: rollout.release.clone(), pinned: false });
        assert_eq!(rollout.order("south", "north-dx-9", true, first), Order::OtherSite);
    }

    #[test]
    fn waves_that_do_not_rise_are_refused() {
        for waves in [
            r#"[{"after": "1h", "percent": 10}, {"after": "1h", "percent": 20}]"#,
            r#"[{"after": "1h", "percent": 10}, {"after": "2h", "percent": 10}]"#,
            r#"[{"after": "1h", "percent": 0}]"#,
            r#"[{"after": "1h", "percent": 101}]"#,
        ] {
            let waves: Vec<Wave> = serde_json::from_str(waves).expect("JSON");
            let wrong = Rollout { waves: waves.clone(), ..rollout() };
            assert_eq!(wrong.check(), Err(RolloutError::Waves(waves)));
        }
    }
}
