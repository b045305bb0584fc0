//! `clearfilm run`: the service.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clearfilm::clock::SystemClock;
use clearfilm::config::Config;
use clearfilm::health::Health;
use clearfilm::pipeline::{Appliance, PipelineError};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::{Configured, INVALID, log, runtime};

pub(super) fn run(configured: &Configured) -> anyhow::Result<ExitCode> {
    let config = match configured.load() {
        Ok(loaded) => loaded.config,
        Err(error) => {
            anstream::eprintln!("clearfilm: {error:#}");
            return Ok(ExitCode::from(INVALID));
        }
    };
    log::start(&config.telemetry)?;
    few_arenas();
    serve(config)
}

/// Arenas of the allocator. glibc makes eight a core, and memory that threads free in each other's
/// stays where it is: after 2,000 images the daemon is 112 MB large with 16 arenas, 102 MB with 2.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Before the first thread, so that memory stays flat over days.
#[cfg(target_env = "gnu")]
fn few_arenas() {
    #[expect(unsafe_code, reason = "no safe wrapper; an allocator that declines stays as it is")]
    // SAFETY: sets a number of the allocator; no other thread runs yet.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    if set == 0 {
        tracing::debug!("the allocator keeps its number of arenas");
    }
}

/// Other allocators have no arenas that grow in number.
#[cfg(not(target_env = "gnu"))]
fn few_arenas() {}

fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let appliance = match Appliance::open(config, Arc::new(SystemClock)) {
        Ok(appliance) => appliance,
        Err(error @ PipelineError::Bundle(_)) => {
            anstream::eprintln!("clearfilm: {error}");
            return Ok(ExitCode::from(INVALID));
        }
        Err(error) => return Err(error.into()),
    };
    let ended = end_at_a_panic();
    let health = appliance.health();
    runtime()?.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let watchdog = tokio::spawn(feed(health));
        let result = appliance.run(|_| tell(&[NotifyState::Ready]), stop).await;
        watchdog.abort();
        tell(&[NotifyState::Stopping]);
        ended.store(true, Ordering::SeqCst);
        result?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Tells the service manager, where there is one.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Feeds the watchdog of the service manager while every loop turns; a stuck one starves it, and
/// the service is started again.
async fn feed(health: Arc<Health>) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    // Twice within its time, as sd_watchdog_enabled(3) advises.
    let mut tick = tokio::time::interval(within / 2);
    loop {
        tick.tick().await;
        let stuck = health.pulses.stuck();
        if stuck.is_empty() {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(loops = stuck.join(", "), "stuck: the watchdog is not fed");
        }
    }
}

/// A panic in a task would end that task only, and the service would go on with half a state (sled
/// panics where the disk fails in its own threads). The service manager starts it again, and
/// nothing that was accepted is lost by that. Once the flag is set the service has ended, and what
/// its last tasks say while they are torn down does not count.
fn end_at_a_panic() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let (tell, over) = (std::panic::take_hook(), Arc::clone(&ended));
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !over.load(Ordering::SeqCst) {
            std::process::abort();
        }
    }));
    ended
}
