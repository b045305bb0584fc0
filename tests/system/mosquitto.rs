//! A real mosquitto and a real subscriber, waited for by event.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use clearfilm::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::peers::{DEADLINE, Process, free_port, says_nobody, temporary, wait_until};

/// Lines of a subscriber that may wait for the test.
const LINES_MAX: usize = 100_000;

/// A real mosquitto in a folder of its own; what it holds outlives a stop.
pub(crate) struct Broker {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    process: Option<Process>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// `more` is added to the broker's configuration, at the end: it may open another listener.
    pub(crate) fn start_with(more: &str) -> Self {
        let mut broker = Self { folder: temporary(), port: free_port(), process: None };
        let folder = broker.folder.path();
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nmax_queued_messages 100000\n{more}\n",
            broker.port,
            folder.display()
        );
        fs::write(folder.join("mosquitto.conf"), text).expect("written");
        // As root it would give up its rights, and with them its own folder.
        drop(Command::new("chmod").arg("777").arg(folder).status());
        broker.again();
        broker
    }

    /// Starts it again after a [`Broker::stop`].
    pub(crate) fn again(&mut self) {
        let conf = self.folder.path().join("mosquitto.conf");
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(conf)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(Process(child.expect("mosquitto is installed")));
        wait_until("a broker", || {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    /// A message of nobody's, behind everything that the broker has taken so far.
    pub(crate) fn publish(&self, topic: &str, text: &str) {
        let status = Command::new("mosquitto_pub")
            .args(["-V", "5", "-q", "1", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-t", topic, "-m", text])
            .status();
        assert!(status.expect("mosquitto_pub is installed").success(), "the broker takes it");
    }

    /// `SIGKILL`: what it had acknowledged and not written is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.terminate();
        }
    }
}

/// One message as `mosquitto_sub` saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) topic: String,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) envelope: Value,
}

impl Seen {
    /// The last level of the topic.
    pub(crate) fn kind(&self) -> &str {
        self.topic.rsplit('/').next().expect("a topic has levels")
    }

    /// The exam, of an exam message.
    pub(crate) fn exam(&self) -> Option<&str> {
        self.topic.split_once("/exam/").map(|(_, rest)| rest.split('/').next().expect("a key"))
    }

    pub(crate) fn id(&self) -> &str {
        self.envelope["id"].as_str().expect("an id")
    }
}

/// A `mosquitto_sub` with MQTT 5, at least once, on everything of Clearfilm.
pub(crate) struct Subscriber {
    process: Process,
    lines: Receiver<Seen>,
}

impl Subscriber {
    /// `more` are further arguments.
    pub(crate) fn start(port: u16, more: &[&str]) -> Self {
        let mut child = Self::command(port)
            .args(["-F", "%t\t%E\t%p"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub is installed");
        let out = child.stdout.take().expect("piped");
        let (sender, lines) = sync_channel(LINES_MAX);
        let reading = std::thread::Builder::new().name("subscriber".into()).spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, '\t');
                let topic = parts.next().unwrap_or_default().to_owned();
                let expiry_s = parts.next().and_then(|e| e.parse().ok());
                let envelope =
                    serde_json::from_str(parts.next().unwrap_or_default()).unwrap_or(Value::Null);
                if sender.send(Seen { topic, expiry_s, envelope }).is_err() {
                    return;
                }
            }
        });
        drop(reading.expect("a thread can be started"));
        Self { process: Process(child), lines }
    }

    fn command(port: u16) -> Command {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-V", "5", "-q", "1", "-h", "127.0.0.1", "-t", "clearfilm/v1/#", "-p"]);
        command.arg(port.to_string());
        command
    }

    /// Subscribes under a lasting session and leaves again: from then on the broker keeps for it.
    pub(crate) fn start_known(port: u16, more: &[&str]) {
        let status = Self::command(port).arg("-E").args(more).status();
        assert!(status.expect("mosquitto_sub is installed").success(), "a session is made");
    }

    /// Everything that arrives until `enough` of it has.
    #[track_caller]
    #[expect(clippy::panic, reason = "what does not arrive fails the test")]
    pub(crate) fn until(&self, what: &str, seen: &mut Vec<Seen>, enough: impl Fn(&[Seen]) -> bool) {
        let begun = SystemClock.monotonic();
        while !enough(seen) {
            let left = DEADLINE.saturating_sub(SystemClock.monotonic().duration_since(begun));
            match self.lines.recv_timeout(left) {
                Ok(message) => {
                    says_nobody("a topic", &message.topic);
                    says_nobody("a message", &message.envelope.to_string());
                    seen.push(message);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let kinds: Vec<String> = seen.iter().map(|s| s.topic.clone()).collect();
                    panic!(
                        "expected {what} within {DEADLINE:?}, found {} messages, the last {:?}",
                        seen.len(),
                        kinds.last()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("expected {what}, found that mosquitto_sub ended")
                }
            }
        }
    }

    /// What has arrived by now.
    pub(crate) fn so_far(&self, seen: &mut Vec<Seen>) {
        seen.extend(self.lines.try_iter());
    }

    pub(crate) fn end(self) {
        self.process.terminate();
    }
}

/// How many messages of a kind there are.
pub(crate) fn count(seen: &[Seen], kind: &str) -> usize {
    seen.iter().filter(|s| s.kind() == kind).count()
}

/// Exams that were told to be published.
pub(crate) fn published(seen: &[Seen]) -> usize {
    seen.iter()
        .filter(|s| s.kind() == "state" && s.envelope["payload"]["state"] == "published")
        .count()
}
