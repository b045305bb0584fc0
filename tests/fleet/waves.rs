//! Devices that work out their own turn from one signed file, and a halt that none overruns.

use chrono::{DateTime, TimeDelta, Utc};
use clearfilm::clock::{Clock as _, SystemClock, rfc3339};
use clearfilm_fleet::rollout::{Order, Rollout};
use sha2::{Digest as _, Sha256};

use crate::office::{Device, Office, run};
use crate::signing::Mirror;

/// Devices that are simulated.
const DEVICES: usize = 2048;

/// One of so many is asked by the shipped program.
const ASKED: usize = 64;

/// HMAC (RFC 2104) in its own words: what the device's code must come out at.
fn position(device: &str, release: &str) -> u64 {
    let mut key = [0_u8; 64];
    key[..release.len()].copy_from_slice(release.as_bytes());
    let hash = |pad: u8, text: &[u8]| {
        Sha256::new().chain_update(key.map(|byte| byte ^ pad)).chain_update(text).finalize()
    };
    let outer = hash(0x5c, &hash(0x36, device.as_bytes()));
    outer[..8].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)) % 2048
}

fn name(n: usize) -> String {
    format!("north-dx-{n}")
}

/// When a device's turn is, told by its position in 2,048 and what is written in the waves.
fn turn(device: &str, start: DateTime<Utc>) -> DateTime<Utc> {
    let after = match position(device, "0.1.0") {
        0..=204 => TimeDelta::hours(1),
        205..=1023 => TimeDelta::hours(24),
        _ => TimeDelta::hours(72),
    };
    start + after
}

#[test]
fn each_device_starts_when_an_independent_calculation_says_and_none_after_a_halt() {
    let office = Office::open();
    office.release(1, "");
    // The first wave's time has come, the others' has not.
    let now = SystemClock.now();
    let start = DateTime::from_timestamp(now.timestamp(), 0).expect("a time") - TimeDelta::hours(2);
    let waves = "{ after = \"1h\", percent = 10 }, { after = \"1day\", percent = 50 }, \
                 { after = \"3days\", percent = 100 }";
    office.roll_out_in(1, "north", 1, &rfc3339(start), waves);
    office.sign(&["operations"]);
    office.publish();
    let mirror = Mirror::of(&office.repository());
    let signed = std::fs::read(mirror.target("fleet.json")).expect("there");
    let rollout = Rollout::parse(&signed).expect("it is right");
    let mut started = 0;
    for device in (0..DEVICES).map(name) {
        let expected = turn(&device, start);
        assert_eq!(rollout.start_of(&device, false), Some(expected), "{device}");
        let order = rollout.order("north", &device, false, now);
        started += usize::from(matches!(order, Order::Run { .. }));
        assert_eq!(matches!(order, Order::Run { .. }), expected <= now, "{device}");
    }
    // 10 per cent of 2,048, give or take two per cent of all.
    assert!(started.abs_diff(205) <= 41, "{started} of {DEVICES} started");

    let root = mirror.metadata("1.root.json");
    let ask = |device: &Device, mirror: &Mirror| run(&mut device.command("check", &mirror.path()));
    let devices: Vec<(String, Device)> = (0..DEVICES)
        .step_by(DEVICES / ASKED)
        .map(|n| (name(n), Device::called(&name(n), &root)))
        .collect();
    for (name, device) in &devices {
        let expected = turn(name, start);
        let told = ask(device, &mirror).expect("it is understood");
        let waits = format!("wait until {}\n", rfc3339(expected));
        let runs = "run 0.1.0\n".to_owned();
        assert_eq!(told, if expected <= now { runs } else { waits }, "{name}");
    }
    office.repo("halt", &[]);
    office.sign(&["operations"]);
    office.publish();
    let halted = Mirror::of(&office.repository());
    for (name, device) in &devices {
        assert_eq!(
            ask(device, &halted).expect("understood"),
            "wait: the roll-out is halted\n",
            "{name}"
        );
    }
}
