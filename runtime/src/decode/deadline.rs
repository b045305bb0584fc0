//! Child processes and their time: what takes too long is killed.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Does the work, and kills the child that it waits for once `wall` has passed. Says whether it
/// had to.
///
/// The child must not be waited for within `work`, so that its number stays its own.
pub(crate) fn within<T>(wall: Duration, child: Pid, work: impl FnOnce() -> T) -> (T, bool) {
    let (ended, waiting) = mpsc::sync_channel::<()>(0);
    thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let late = waiting.recv_timeout(wall) == Err(RecvTimeoutError::Timeout);
            late && kill(child)
        });
        let done = work();
        drop(ended);
        (done, watchdog.join().unwrap_or(false))
    })
}

/// Kills a child that was not waited for yet.
pub(crate) fn kill(child: Pid) -> bool {
    kill_process(child, Signal::KILL).is_ok()
}
