//! The service files of a device.

use std::path::Path;

use anyhow::ensure;

/// Oldest systemd that a unit is rendered for: JetPack 5's (Ubuntu 20.04).
pub(crate) const OLDEST: u32 = 245;

/// Directives that came after [`OLDEST`], with the version that brought them (systemd's NEWS). An
/// older systemd would ignore them with a warning at each start.
const NEWER: [(&str, u32); 2] = [("ProtectProc", 247), ("ProcSubset", 247)];

/// Which service file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Unit {
    /// What receives and reads.
    Daemon,
    /// What brings releases.
    Agent,
    /// What root does for the agent.
    Switch,
    /// What wakes it.
    SwitchPath,
}

impl Unit {
    fn template(self) -> &'static str {
        match self {
            Self::Daemon => include_str!("../systemd/clearfilm.service"),
            Self::Agent => include_str!("../systemd/clearfilm-agent.service"),
            Self::Switch => include_str!("../systemd/clearfilm-switch@.service"),
            Self::SwitchPath => include_str!("../systemd/clearfilm-switch@.path"),
        }
    }
}

/// Where things lie on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paths<'a> {
    /// What each service starts.
    pub(crate) slots: &'a Path,
    /// The script that root runs.
    pub(crate) switch: &'a Path,
    /// The configuration.
    pub(crate) config: &'a Path,
}

/// A service file for a version of systemd.
///
/// # Errors
/// A path that is not absolute, or that systemd would read as something else; a systemd that is too
/// old.
pub(crate) fn render(unit: Unit, paths: Paths<'_>, systemd: u32) -> anyhow::Result<String> {
    ensure!(systemd >= OLDEST, "--systemd: expected {OLDEST} or newer, found {systemd}");
    let mut text = unit.template().to_owned();
    let paths = [("slots", paths.slots), ("switch", paths.switch), ("config", paths.config)];
    for (what, path) in paths {
        let plain = path.to_str().filter(|p| {
            p.starts_with('/')
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b))
        });
        ensure!(
            plain.is_some(),
            "--{what}: expected an absolute path of [A-Za-z0-9/._+-], found {}",
            path.display()
        );
        text = text.replace(&format!("@{what}@"), plain.unwrap_or_default());
    }
    let newer = |line: &str| {
        NEWER.iter().any(|(name, since)| {
            *since > systemd && line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
        })
    };
    Ok(text.lines().filter(|line| !newer(line)).flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Unit; 4] = [Unit::Daemon, Unit::Agent, Unit::Switch, Unit::SwitchPath];

    fn paths(config: &str) -> Paths<'_> {
        let (slots, switch) = (Path::new("/var/s"), Path::new("/usr/lib/c/switch"));
        Paths { slots, switch, config: Path::new(config) }
    }

    #[test]
    fn a_unit_runs_what_is_current_and_leaves_nothing_open() {
        for unit in ALL {
            let text = render(unit, paths("/etc/c.toml"), 252).expect("rendered");
            // @system-service and @privileged are systemd's own.
            for open in ["@slots@", "@switch@", "@config@"] {
                assert!(!text.contains(open), "{text}");
            }
        }
        let text = render(Unit::Daemon, paths("/etc/c.toml"), 252).expect("rendered");
        let start = "\nExecStart=/var/s/daemon/current/app/clearfilm run --config /etc/c.toml\n";
        assert!(text.contains(start), "{text}");
        assert!(text.contains("\nExecStartPre=+/usr/lib/c/switch starting daemon\n"), "{text}");
    }

    #[track_caller]
    fn check_refused(config: &str) {
        let error = render(Unit::Daemon, paths(config), 252).expect_err("refused").to_string();
        assert!(error.starts_with("--config: expected an absolute path"), "{error}");
    }

    #[test]
    fn a_path_that_systemd_would_read_as_something_else_is_refused() {
        check_refused("config.toml");
        check_refused("/etc/%h/config.toml");
        check_refused("/etc/config.toml\nUser=root");
    }

    /// Directives that systemd had before 230, and those that it got later, with their version (its
    /// NEWS and manual). One that is used and stands in neither has to be looked up first.
    const OLD: &str = "After CapabilityBoundingSet Description ExecStart ExecStartPre ExecStopPost Group \
        IOSchedulingClass LimitCORE LimitNOFILE Nice NoNewPrivileges PathExists PrivateDevices \
        PrivateNetwork PrivateTmp ProtectHome ProtectSystem Restart RestartSec \
        RestrictAddressFamilies StartLimitIntervalSec SupplementaryGroups \
        SystemCallArchitectures SystemCallErrorNumber SystemCallFilter TasksMax TimeoutStartSec \
        TimeoutStopSec Type UMask User WantedBy Wants WatchdogSec";
    const SINCE: &str = "IPAddressDeny=235 KeyringMode=235 LockPersonality=235 MemoryDenyWriteExecute=231 \
        MemoryMax=231 OOMPolicy=243 PrivateUsers=232 ProcSubset=247 ProtectClock=245 \
        ProtectControlGroups=232 ProtectHostname=242 ProtectKernelLogs=244 \
        ProtectKernelModules=232 ProtectKernelTunables=232 ProtectProc=247 ReadWritePaths=231 \
        RemoveIPC=232 RestrictNamespaces=233 RestrictRealtime=231 RestrictSUIDSGID=242 \
        StateDirectory=235 StateDirectoryMode=235";

    fn since(name: &str) -> Option<u32> {
        let newer = |entry: &str| {
            let (known, since) = entry.split_once('=')?;
            (known == name).then(|| since.parse().expect("a version"))
        };
        let old = OLD.split_whitespace().any(|known| known == name);
        if old { Some(0) } else { SINCE.split_whitespace().find_map(newer) }
    }

    #[test]
    fn each_systemd_knows_every_directive_that_it_is_given() {
        for systemd in [245, 249, 255] {
            for unit in ALL {
                let text = render(unit, paths("/etc/c.toml"), systemd).expect("rendered");
                for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
                    let Some((name, _)) = line.split_once('=') else { continue };
                    let came = since(name).unwrap_or_else(|| panic!("{name} is in no table"));
                    assert!(came <= systemd, "{name} came with {came}, after {systemd}");
                }
            }
        }
        for (name, came) in NEWER {
            assert_eq!(since(name), Some(came), "{name}");
        }
    }
}
