//! What systemd does for a device's two services.

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm_fleet::agent::Slot;
use clearfilm_fleet::release::Sha256;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::machine::{CONDUCT, DURABLE, Inner, Kill, LOOK, TRACE, log};

/// To the process and, where strace watches it, to strace: that ignores what would end it alone.
fn signal(child: &Child, signal: Signal) {
    let sent = kill_process_group(Pid::from_child(child), signal);
    // It may have ended by itself.
    assert!(matches!(sent, Ok(()) | Err(Errno::SRCH)), "{sent:?}");
}

/// The services, by the lines of their units.
pub(crate) struct Services {
    inner: Arc<Inner>,
    agent: Option<Child>,
    /// When a daemon that crashes or hangs ends, and how.
    ends: Option<(Instant, &'static str)>,
    /// When an agent that is to be killed is.
    kill_at: Option<Instant>,
}

impl Services {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, agent: None, ends: None, kill_at: None }
    }

    pub(crate) fn run(mut self) {
        self.start_daemon();
        self.start_agent();
        while !self.inner.stopped() {
            for slot in [Slot::Daemon, Slot::Agent] {
                let request = self.inner.root.join(format!("agent/request.{}", slot.name()));
                if request.exists() {
                    self.inner.script("request", slot, "");
                    self.inner.check_whole(slot);
                }
            }
            if self.asked_for("clearfilm.service") {
                self.end_daemon("success");
            }
            if let Some((at, how)) = self.ends
                && SystemClock.monotonic() > at
            {
                self.end_daemon(how);
            }
            if self.asked_for("clearfilm-agent.service") {
                self.end_agent();
            }
            self.look_at_agent();
            std::thread::sleep(LOOK);
        }
        if let Some(mut agent) = self.agent.take() {
            signal(&agent, Signal::KILL);
            drop(agent.wait());
        }
    }

    fn asked_for(&self, unit: &str) -> bool {
        fs::remove_file(self.inner.root.join(format!("restart.{unit}"))).is_ok()
    }

    fn start_daemon(&mut self) {
        self.inner.script("starting", Slot::Daemon, "");
        self.inner.check_whole(Slot::Daemon);
        let folder = self.inner.slots().current(Slot::Daemon).expect("it names something");
        let conduct = fs::read_to_string(folder.join("app").join(CONDUCT)).expect("it has one");
        let release = match fs::read(folder.join("release.json")) {
            Ok(document) => Sha256::of(&document).to_string(),
            Err(_) => "factory".into(),
        };
        self.inner.receiver.forget();
        let soon = |ms| SystemClock.monotonic() + Duration::from_millis(ms);
        let (ends, up) = match conduct.as_str() {
            "crash" => (Some((soon(20), "exit-code")), None),
            "hang" => (Some((soon(300), "timeout")), None),
            "late" => (Some((soon(200), "signal")), Some(release)),
            _ => (None, Some(release)),
        };
        self.ends = ends;
        self.inner.set_up(up);
    }

    fn end_daemon(&mut self, how: &'static str) {
        self.inner.set_up(None);
        self.inner.script("stopped", Slot::Daemon, how);
        self.start_daemon();
    }

    fn start_agent(&mut self) {
        self.inner.script("starting", Slot::Agent, "");
        self.inner.check_whole(Slot::Agent);
        let program = self.inner.root.join("slots/agent/current/app/clearfilm-fleet");
        let mut kill = self.inner.kill.lock().unwrap_or_else(PoisonError::into_inner);
        let trace = format!("trace={DURABLE}");
        let strace = |file: &std::path::Path| {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-e", &trace, "-o"]).arg(file);
            strace
        };
        let mut command = match *kill {
            Kill::Call(n) => {
                let mut strace = strace("/dev/null".as_ref());
                let inject = format!("inject={DURABLE}:signal=KILL:when={n}");
                strace.args(["-e", &inject]).arg(program);
                strace
            }
            Kill::Count => {
                let mut strace = strace(&self.inner.root.join(TRACE));
                strace.arg(program);
                strace
            }
            Kill::After(time) => {
                self.kill_at = Some(SystemClock.monotonic() + time);
                Command::new(program)
            }
            Kill::None | Kill::Script(_) => Command::new(program),
        };
        if !matches!(*kill, Kill::Script(_)) {
            *kill = Kill::None;
        }
        command.args(["update", "run", "--config"]).arg(self.inner.root.join("config.toml"));
        command.process_group(0).stdout(Stdio::null()).stderr(log(&self.inner.root));
        self.agent = Some(command.spawn().expect("it starts"));
    }

    /// As `systemctl restart` ends it.
    fn end_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            signal(&agent, Signal::TERM);
            drop(agent.wait());
        }
        self.inner.script("stopped", Slot::Agent, "success");
        self.start_agent();
    }

    fn look_at_agent(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if self.kill_at.is_some_and(|at| SystemClock.monotonic() > at) {
            self.kill_at = None;
            signal(agent, Signal::KILL);
            drop(agent.wait());
        }
        let Ok(Some(status)) = agent.try_wait() else { return };
        if status.signal() == Some(9) {
            self.inner.killed.fetch_add(1, Ordering::SeqCst);
        } else {
            self.inner.tell(format!("the agent ended by itself: {status}"));
        }
        for slot in [Slot::Daemon, Slot::Agent] {
            self.inner.check_whole(slot);
        }
        self.inner.script("stopped", Slot::Agent, "signal");
        self.start_agent();
    }
}
