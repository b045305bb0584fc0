//! The daemon of this device, as it shows itself on its loopback page.

use std::net::SocketAddr;
use std::time::Duration;

use clearfilm::id::Digest;
use serde::Deserialize;

/// Longest wait for the daemon's page: it answers within milliseconds, also under load.
const WAIT: Duration = Duration::from_secs(5);

/// Longest page.
const PAGE_MAX: u64 = 1 << 20;

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// The release that it was started from.
    pub release: Option<String>,
    /// Can images be received and read? Otherwise why not.
    pub ready: Result<(), String>,
    /// Digest of its bundle.
    pub bundle: Option<Digest>,
    /// The engine that reads, by the configuration's name.
    pub engine: Option<String>,
    /// Engines that are being tried.
    pub trying: Vec<String>,
    /// Version of its store.
    pub store: Option<u32>,
    /// How long no image has come, where one came since it was started.
    pub idle: Option<Duration>,
    /// How the last image of a trial went, counted since the start: read, and not.
    pub trials: (u64, u64),
}

#[derive(Deserialize)]
struct About {
    software: Software,
    bundle: Option<Bundle>,
    engines: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Software {
    #[serde(default)]
    release: Option<String>,
}

#[derive(Deserialize)]
struct Bundle {
    digest: String,
}

#[derive(Deserialize)]
struct Verdict {
    name: String,
    verdict: String,
}

#[derive(Deserialize)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    ok: bool,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    store_version: Option<u32>,
    #[serde(default)]
    idle_s: Option<u64>,
    #[serde(default)]
    trials: Trials,
}

#[derive(Deserialize, Default)]
struct Trials {
    read: u64,
    failed: u64,
}

impl Unit {
    /// Asks the daemon's page.
    ///
    /// # Errors
    /// Says why it cannot be asked: it may not run.
    pub(super) fn ask(page: SocketAddr) -> Result<Self, String> {
        let about: About = get(page, "/api/v1/about")?;
        let status: Status = get(page, "/api/v1/status")?;
        let ready: Ready = get(page, "/readyz")?;
        let with = |verdict: &str| {
            let found = about.engines.iter().filter(move |engine| engine.verdict == verdict);
            found.map(|engine| engine.name.clone()).collect::<Vec<_>>()
        };
        let wrong = ready.checks.iter().filter(|check| !check.ok);
        let wrong: Vec<String> = wrong
            .map(|check| match &check.reason {
                Some(reason) => format!("{}: {reason}", check.name),
                None => check.name.clone(),
            })
            .collect();
        Ok(Self {
            release: about.software.release,
            ready: if ready.ready { Ok(()) } else { Err(wrong.join("; ")) },
            bundle: about.bundle.and_then(|bundle| bundle.digest.parse().ok()),
            engine: with("running").into_iter().next(),
            trying: with("probing"),
            store: status.store_version,
            idle: status.idle_s.map(Duration::from_secs),
            trials: (status.trials.read, status.trials.failed),
        })
    }
}

fn get<T: serde::de::DeserializeOwned>(page: SocketAddr, path: &str) -> Result<T, String> {
    let address = format!("http://{page}{path}");
    let failed = |error: &dyn std::fmt::Display| format!("asking {address}: {error}");
    // A unit that is not ready says so with 503, and says why in the page.
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(WAIT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .new_agent();
    let mut answer = agent.get(&address).call().map_err(|error| failed(&error))?;
    let text = answer.body_mut().with_config().limit(PAGE_MAX).read_to_string();
    let text = text.map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}
