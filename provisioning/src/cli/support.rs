//! `clearfilm-fleet support-bundle`: one file that says how a unit is, and nothing of a patient.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use clap::Args;
use clearfilm::clock::{Clock as _, SystemClock, rfc3339};
use clearfilm::config::Config;
use clearfilm_fleet::agent::{Slot, Slots, StateFile};
use clearfilm_fleet::files;

/// Write one file for whoever helps: versions, configuration, engines, state, alarms, updates, logs.
/// No image, no reading, no name of a patient or an exam is in it.
#[derive(Debug, Args)]
pub(crate) struct Support {
    /// The device's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/clearfilm/config.toml")]
    config: PathBuf,
    /// Where it is written.
    #[arg(value_name = "FILE")]
    out: PathBuf,
}

/// Longest time that one program may take: trying every engine takes minutes on a board.
const MOST: &str = "600";

/// Longest text of one part, bytes; of a longer one the end is kept.
const PART_MAX: usize = 4 << 20;

/// Lines of each log.
const LINES: &str = "5000";

/// What is asked of a service.
const UNITS: [&str; 3] =
    ["clearfilm.service", "clearfilm-agent.service", "clearfilm-switch@*.service"];

pub(crate) fn run(support: &Support) -> anyhow::Result<String> {
    let config = Config::load(Some(&support.config))?.config;
    let update = &config.update;
    let slots = Slots::at(&update.slots, &update.folder);
    let daemon = slots.current(Slot::Daemon).map(|folder| folder.join("app/clearfilm"));
    let daemon = daemon.unwrap_or_else(|_| "clearfilm".into());
    let file = support.config.as_os_str();
    let of_daemon = |words: &[&str]| {
        let mut command = Command::new("timeout");
        command.arg(MOST).arg(&daemon).args(words).arg("--config").arg(file);
        said(&mut command)
    };
    let of_system = |words: &[&str]| said(Command::new("timeout").arg(MOST).args(words));
    let mut parts = BTreeMap::from([
        ("time", rfc3339(SystemClock.now())),
        ("agent", env!("CARGO_PKG_VERSION").to_owned()),
        // Every effective value with its origin; secrets stand in files of their own.
        ("configuration", of_daemon(&["check"])),
        ("doctor", of_daemon(&["doctor"])),
        ("status", of_daemon(&["status", "--json"])),
        ("disk", of_system(&["df", "-h"])),
        ("memory", of_system(&["free", "-m"])),
        ("system", of_system(&["uname", "-a"])),
        ("slots", format!("{:#?}", [Slot::Daemon, Slot::Agent].map(|slot| slots.facts(slot)))),
        ("agent-state", format!("{:#?}", StateFile::at(&update.folder).read())),
    ]);
    let progress = fs::read_to_string(update.folder.join(clearfilm::update::FILE));
    parts.insert("update", progress.unwrap_or_else(|error| error.to_string()));
    let mut show = vec!["systemctl", "show", "--no-pager"];
    show.extend(UNITS);
    parts.insert("services", of_system(&show));
    let mut log = vec!["journalctl", "--no-pager", "-o", "short-iso", "-n", LINES];
    log.extend(UNITS.iter().flat_map(|unit| ["-u", unit]));
    parts.insert("log", of_system(&log));
    let text = serde_json::to_vec_pretty(&parts).context("writing JSON")?;
    files::put(&support.out, &text, 0o600)?;
    Ok(format!("{}: {} bytes\n", support.out.display(), text.len()))
}

/// Everything that a program said, or why it cannot be asked.
fn said(command: &mut Command) -> String {
    match command.stdin(Stdio::null()).output() {
        Ok(Output { status, stdout, stderr }) => {
            let text = [stdout, stderr].concat();
            let end = text.len().saturating_sub(PART_MAX);
            format!("{}{status}\n", String::from_utf8_lossy(&text[end..]))
        }
        Err(error) => error.to_string(),
    }
}
