//! `clearfilm run`: the service.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clearfilm::clock::SystemClock;
use clearfilm::config::Config;
use clearfilm::pipeline::{Appliance, PipelineError};
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
    serve(config)
}

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
    runtime()?.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let result = appliance.run(|_| {}, stop).await;
        ended.store(true, Ordering::SeqCst);
        result?;
        Ok(ExitCode::SUCCESS)
    })
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
