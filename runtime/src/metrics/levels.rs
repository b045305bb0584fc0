//! What is asked when somebody looks, and not counted as it happens.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::board::Board;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAlarm {
    alarm: &'static str,
}

/// A thermal zone, as the board names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfZone {
    zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMode {
    mode: String,
}

/// What is asked when somebody looks.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    /// Messages that wait for the broker.
    pub outbox_depth: usize,
    /// Age of the oldest, seconds.
    pub outbox_oldest_s: u64,
    /// Accepted and not read yet.
    pub inbox_depth: usize,
    /// Readings kept.
    pub records: usize,
    /// Free bytes under the storage path.
    pub free_bytes: u64,
    /// The last sequence number given out.
    pub sequence: u64,
    /// Did an engine pass the self-test?
    pub selftest: bool,
    /// Names of the alarms that are raised.
    pub alarms: Vec<&'static str>,
    /// What the board says of itself.
    pub board: Board,
}

/// The gauges behind [`Levels`].
#[derive(Default)]
pub(super) struct LevelGauges {
    outbox_depth: Gauge,
    outbox_oldest: Gauge,
    inbox_depth: Gauge,
    records: Gauge,
    free: Gauge,
    sequence: Gauge,
    selftest: Gauge,
    alarms: Family<OfAlarm, Gauge>,
    temperature: Family<OfZone, Gauge<f64, AtomicU64>>,
    throttled: Gauge,
    power_mode: Family<OfMode, Gauge>,
}

impl LevelGauges {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("outbox_depth", "Messages that wait for the broker", self.outbox_depth.clone());
        to.register_with_unit(
            "outbox_oldest_age",
            "Age of the oldest message that waits",
            Unit::Seconds,
            self.outbox_oldest.clone(),
        );
        to.register("inbox_depth", "Objects accepted and not read yet", self.inbox_depth.clone());
        to.register("records", "Readings kept", self.records.clone());
        to.register_with_unit(
            "storage_free",
            "Free space under the storage path",
            Unit::Bytes,
            self.free.clone(),
        );
        to.register("mqtt_seq", "The last sequence number given out", self.sequence.clone());
        to.register("selftest_success", "Did an engine pass the self-test?", self.selftest.clone());
        to.register("alarm", "Alarms that are raised", self.alarms.clone());
        let celsius = Unit::Other("celsius".into());
        to.register_with_unit(
            "temperature",
            "Temperature of each thermal zone",
            celsius,
            self.temperature.clone(),
        );
        let throttled = "Is something slowed down because it is hot?";
        to.register("throttled", throttled, self.throttled.clone());
        to.register("power_mode", "The board's power mode", self.power_mode.clone());
    }

    pub(super) fn set(&self, levels: &Levels) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let large = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.outbox_depth.set(number(levels.outbox_depth));
        self.outbox_oldest.set(large(levels.outbox_oldest_s));
        self.inbox_depth.set(number(levels.inbox_depth));
        self.records.set(number(levels.records));
        self.free.set(large(levels.free_bytes));
        self.sequence.set(large(levels.sequence));
        self.selftest.set(i64::from(levels.selftest));
        self.alarms.clear();
        for alarm in &levels.alarms {
            self.alarms.get_or_create(&OfAlarm { alarm }).set(1);
        }
        self.temperature.clear();
        for (zone, degrees) in &levels.board.temperature_c {
            self.temperature.get_or_create(&OfZone { zone: zone.clone() }).set(*degrees);
        }
        self.throttled.set(i64::from(!levels.board.throttled.is_empty()));
        self.power_mode.clear();
        if let Some(mode) = &levels.board.power_mode {
            self.power_mode.get_or_create(&OfMode { mode: mode.clone() }).set(1);
        }
    }
}
