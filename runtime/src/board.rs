//! The board that this runs on, where it says so: power mode, temperatures, throttling.
//!
//! Read from files of the kernel, and on a Jetson from nvpmodel's; a machine that has none of them
//! says nothing, which is no error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Thermal zones and cooling devices that are looked at: boards have some ten.
const ENTRIES_MAX: usize = 64;

/// What a board says of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Board {
    /// Its model, as the firmware names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// nvpmodel's mode: its name, or its number where the name is not to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_mode: Option<String>,
    /// Temperature of each thermal zone, degrees Celsius.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub temperature_c: BTreeMap<String, f64>,
    /// What the kernel holds back because it is hot: `type level/highest`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttled: Vec<String>,
}

impl Board {
    /// The machine under `root` (`/`, but for tests).
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let line = |file: &str| line(&root.join(file));
        Self {
            model: line("proc/device-tree/model").or_else(|| line("sys/class/dmi/id/product_name")),
            power_mode: power_mode(root),
            temperature_c: entries(&root.join("sys/class/thermal"), "thermal_zone")
                .iter()
                .filter_map(|zone| temperature(zone))
                .collect(),
            throttled: entries(&root.join("sys/class/thermal"), "cooling_device")
                .iter()
                .filter_map(|device| held_back(device))
                .collect(),
        }
    }

    /// The hottest zone, degrees Celsius.
    #[must_use]
    pub fn hottest_c(&self) -> Option<f64> {
        self.temperature_c.values().copied().max_by(f64::total_cmp)
    }
}

/// A file's first line, without the zero that device trees end with.
fn line(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().next()?.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!line.is_empty()).then(|| line.to_owned())
}

fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(prefix)));
    paths.sort();
    paths.truncate(ENTRIES_MAX);
    paths
}

/// A zone's name and temperature (`sysfs-class-thermal`: `temp` is in thousandths of a degree).
fn temperature(zone: &Path) -> Option<(String, f64)> {
    let thousandths: i32 = line(&zone.join("temp"))?.parse().ok()?;
    Some((line(&zone.join("type"))?, f64::from(thousandths) / 1e3))
}

/// A cooling device that is at work and is no fan: it slows something down.
fn held_back(device: &Path) -> Option<String> {
    let name = line(&device.join("type"))?;
    let level: i64 = line(&device.join("cur_state"))?.parse().ok()?;
    let highest = line(&device.join("max_state"))?;
    (level > 0 && !name.to_lowercase().contains("fan")).then(|| format!("{name} {level}/{highest}"))
}

/// nvpmodel keeps the mode that it set in a file, and the modes' names in its configuration.
fn power_mode(root: &Path) -> Option<String> {
    let status = line(&root.join("var/lib/nvpmodel/status"))?;
    let number: u32 = status.strip_prefix("pmode:")?.trim().parse().ok()?;
    let modes = fs::read_to_string(root.join("etc/nvpmodel.conf")).unwrap_or_default();
    // `< POWER_MODEL ID=2 NAME=MODE_15W >`
    let name = modes.lines().filter(|l| l.contains("POWER_MODEL")).find_map(|l| {
        let value = |key: &str| l.split_whitespace().find_map(|w| w.strip_prefix(key));
        (value("ID=")?.parse() == Ok(number)).then(|| value("NAME=").map(str::to_owned))?
    });
    Some(name.unwrap_or_else(|| number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(files: &[(&str, &str)]) -> Board {
        let root = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            fs::write(file, text).expect("written");
        }
        Board::read(root.path())
    }

    #[test]
    fn a_hot_board_in_a_power_mode_says_so() {
        let board = board(&[
            ("proc/device-tree/model", "Some Orin\0"),
            ("var/lib/nvpmodel/status", "pmode:0002"),
            (
                "etc/nvpmodel.conf",
                "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_15W >\n",
            ),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
            ("sys/class/thermal/thermal_zone0/temp", "61500"),
            ("sys/class/thermal/thermal_zone1/type", "gpu-thermal"),
            ("sys/class/thermal/thermal_zone1/temp", "83250"),
            ("sys/class/thermal/cooling_device0/type", "pwm-fan"),
            ("sys/class/thermal/cooling_device0/cur_state", "3"),
            ("sys/class/thermal/cooling_device0/max_state", "4"),
            ("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0"),
            ("sys/class/thermal/cooling_device1/cur_state", "2"),
            ("sys/class/thermal/cooling_device1/max_state", "20"),
        ]);
        assert_eq!(board.model.as_deref(), Some("Some Orin"));
        assert_eq!(board.power_mode.as_deref(), Some("MODE_15W"));
        assert_eq!(board.hottest_c(), Some(83.25));
        assert_eq!(board.throttled, ["cpufreq-cpu0 2/20"], "a fan slows nothing down");
    }

    #[test]
    fn a_machine_without_any_of_it_says_nothing() {
        assert_eq!(board(&[]), Board::default());
        let odd = board(&[
            ("var/lib/nvpmodel/status", "pmode:x"),
            ("sys/class/thermal/thermal_zone0/temp", "N/A"),
        ]);
        assert_eq!(odd, Board::default());
        let unnamed = board(&[("var/lib/nvpmodel/status", "pmode:0007")]);
        assert_eq!(unnamed.power_mode.as_deref(), Some("7"));
    }
}
