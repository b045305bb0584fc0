//! Figures of repeated measurements.

use std::time::Duration;

/// Does `cargo bench` ask, and not a test run that builds and starts everything?
pub(crate) fn asked() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A number that the command line gives after `name`, as in `-- --rounds 7`.
pub(crate) fn argument(name: &str, default: usize) -> usize {
    let given = std::env::args().skip_while(|a| a != name).nth(1);
    given.map_or(default, |text| text.parse().expect("a whole number follows the name"))
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The value that `percent` of all values do not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// Processes that ran or wanted to, averaged over 1, 5 and 15 minutes.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").expect("Linux tells its load");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
