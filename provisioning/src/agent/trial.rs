//! What a release has to do before it stays: its self-test before it is started, and what the
//! running daemon has to show for as long as the trial lasts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clearfilm::clock::Clock;
use clearfilm::config::{Config, TlsMode};
use clearfilm::ingest::{TRIAL_AE, send};
use clearfilm::phantom::{Encoding, Phantom, Projection, Variant};
use uuid::Uuid;

use super::install::{Install, Look};
use super::slots::Slot;
use super::unit::Unit;

/// Pause between two looks at a program that is running.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a release's own self-test on its own bundle.
///
/// # Errors
/// Says how it failed.
pub(super) fn selftest(
    folder: &Path,
    config: &Config,
    file: &Path,
    clock: &dyn Clock,
) -> Result<(), String> {
    let program = folder.join("app").join(Slot::Daemon.program());
    let mut command = Command::new(&program);
    command.arg("selftest").arg("--config").arg(file).arg("--bundle").arg(folder.join("bundle"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let failed =
        |error: std::io::Error| format!("self-test: starting {}: {error}", program.display());
    let mut child = command.spawn().map_err(failed)?;
    let begun = clock.monotonic();
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("self-test: {status}")),
            None if clock.monotonic() - begun > config.update.selftest => {
                // It may end by itself meanwhile, which is as good.
                drop((child.kill(), child.wait()));
                let most = humantime::format_duration(config.update.selftest);
                return Err(format!("self-test: expected an end within {most}, found none"));
            }
            None => std::thread::sleep(LOOK),
        }
    }
}

/// The look at a release on trial, since this process has looked.
///
/// An agent that is started anew begins the time anew: a clock may have jumped meanwhile, and a
/// trial that lasts longer does no harm.
#[derive(Debug)]
pub(super) struct Trial {
    /// Since when it has not been ready.
    waiting: Option<Instant>,
    /// When it was ready for the first time.
    ready: Option<Instant>,
    sent: bool,
}

impl Trial {
    /// Begins now.
    #[must_use]
    pub(super) fn begin(clock: &dyn Clock) -> Self {
        Self { waiting: Some(clock.monotonic()), ready: None, sent: false }
    }

    /// Looks at the daemon.
    pub(super) fn look(&mut self, install: &Install, config: &Config, clock: &dyn Clock) -> Look {
        let (now, update) = (clock.monotonic(), &config.update);
        let unit = match seen(install, config) {
            Ok(unit) => unit,
            // It may be busy for a moment, also after it was ready.
            Err(reason) => {
                let late = now - *self.waiting.get_or_insert(now) > update.ready_within;
                return if late { Look::Failed(reason) } else { Look::Going };
            }
        };
        self.waiting = None;
        let ready = *self.ready.get_or_insert(now);
        // With TLS it would need the certificate of a modality, which this unit is not.
        let sends = config.dicom.scp.tls.mode == TlsMode::Off;
        if sends && !self.sent {
            if let Err(reason) = send_phantom(config) {
                return Look::Failed(reason);
            }
            self.sent = true;
        }
        if unit.trials.1 > 0 {
            return Look::Failed("phantom: expected it to be read, found it was not".into());
        }
        if now - ready < update.trial {
            return Look::Going;
        }
        if sends && unit.trials.0 == 0 {
            let late = now - ready > update.trial + update.ready_within;
            let reason = "phantom: expected it to be read by now, found it was not";
            return if late { Look::Failed(reason.into()) } else { Look::Going };
        }
        engine(install, config, &unit)
    }
}

/// Where the daemon's page is, for somebody on the device itself.
///
/// # Errors
/// The configuration switches it off.
pub(super) fn page(config: &Config) -> Result<SocketAddr, String> {
    let listen = &config.http.listen;
    let address: SocketAddr = listen
        .parse()
        .map_err(|_| format!("http.listen: expected an address, found {listen:?}"))?;
    Ok(on_this_device(address))
}

fn on_this_device(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    }
}

/// The daemon, where it is the release's and ready.
fn seen(install: &Install, config: &Config) -> Result<Unit, String> {
    let unit = Unit::ask(page(config)?)?;
    let (expected, found) = (format!("sha256:{}", install.release), unit.release.clone());
    if found.as_deref() != Some(expected.as_str()) {
        let found = found.unwrap_or_else(|| "none".into());
        return Err(format!("expected a daemon of release {expected}, found {found}"));
    }
    unit.ready.clone().map_err(|reason| format!("not ready: {reason}"))?;
    Ok(unit)
}

/// Is its engine as good as the one before?
fn engine(install: &Install, config: &Config, unit: &Unit) -> Look {
    let order: Vec<&str> = config.engine.order.iter().map(|choice| choice.name()).collect();
    let rank = |name: &str| order.iter().position(|known| *known == name);
    let (Some(before), false) = (install.engine.as_deref(), install.worse) else {
        return Look::Passed;
    };
    let (Some(expected), found) = (rank(before), unit.engine.as_deref().and_then(rank)) else {
        // It ran with an engine that the configuration names no longer.
        return Look::Passed;
    };
    if found.is_some_and(|found| found <= expected) {
        return Look::Passed;
    }
    // A better one may still be built; the daemon's own limit on that ends it.
    if unit.trying.iter().filter_map(|name| rank(name)).any(|rank| rank <= expected) {
        return Look::Going;
    }
    let found = unit.engine.as_deref().unwrap_or("none");
    Look::Failed(format!("engine: expected {before} or a better one, found {found}"))
}

/// A drawn radiograph through the DICOM port: C-ECHO, then C-STORE.
fn send_phantom(config: &Config) -> Result<(), String> {
    let peer = on_this_device(config.dicom.scp.listen);
    let called = &config.dicom.scp.ae_title;
    let expected_success = |what: &str, status: u16| match status {
        0 => Ok(()),
        status => Err(format!("{what}: expected status 0000, found {status:04X}")),
    };
    let failed = |error: send::SendError| error.to_string();
    expected_success("C-ECHO", send::echo(peer, called, TRIAL_AE).map_err(failed)?)?;
    // Its UIDs follow from the seed; the same ones again would be a duplicate.
    let seed = Uuid::now_v7().as_u64_pair().0;
    let phantom = Phantom { seed, projection: Projection::Pa, variant: Variant::ALL[0] };
    let file = phantom.to_dicom(&Encoding::default());
    let file = file.map_err(|error| format!("drawing a phantom: {error}"))?;
    expected_success("C-STORE", send::store(peer, called, TRIAL_AE, &file).map_err(failed)?)
}
