//! A device around the shipped agent and the shipped script of root: what systemd does for them, by
//! the lines of their units, and in the daemon's place one that starts as fast as a test needs it.
//! The system tests boot the real ones.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm_fleet::agent::{Facts, Slot, Slots, State};
use clearfilm_fleet::release::{Release, Sha256};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::office::{Office, binary, copy, write_program};
use crate::receiver::Receiver;
use crate::services::Services;

/// What a release's daemon does when it is started; a file beside its programs says it.
pub(crate) const CONDUCT: &str = "conduct";

/// Pause between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Longest time that anything takes: far more than a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// System calls that make something durable, or give or take a name.
pub(crate) const DURABLE: &str = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,\
                                  link,linkat,symlink,symlinkat,mkdir,mkdirat,ftruncate,flock";

/// Where the calls of [`Kill::Count`] are written down.
pub(crate) const TRACE: &str = "trace";

/// Programs of a release whose daemon behaves in this way.
pub(crate) fn programs(office: &Office, number: u32, conduct: &str) {
    let app = office.path(&format!("app-{number}"));
    fs::create_dir_all(&app).expect("made");
    write_program(&app.join("clearfilm"), "exit 0");
    fs::write(app.join(CONDUCT), conduct).expect("written");
    fs::hard_link(small_binary(office), app.join("clearfilm-fleet")).expect("linked");
}

/// The fleet's program without its symbols: it is hashed at every turn of the tests.
fn small_binary(office: &Office) -> PathBuf {
    let small = office.path("clearfilm-fleet");
    if !small.exists() {
        let done = Command::new("strip").arg("-o").arg(&small).arg(binary()).status();
        assert!(done.expect("every linker comes with strip").success());
    }
    small
}

/// Where and when the agent is killed the first time that it is started.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kill {
    /// Never.
    None,
    /// Never, and its calls are written down.
    Count,
    /// At its nth system call of [`DURABLE`].
    Call(u32),
    /// After so much time.
    After(Duration),
    /// Root's script after so much time, each time until it was killed once.
    Script(Duration),
}

/// A device that runs.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

/// The device itself, for whoever works on it.
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) kill: Mutex<Kill>,
    /// Interruptions so far.
    pub(crate) killed: AtomicU64,
    /// The release whose daemon answers.
    up: Mutex<Option<String>>,
    pub(crate) receiver: Receiver,
    stop: AtomicBool,
    /// What was seen and must not be.
    wrong: Mutex<Vec<String>>,
}

impl Machine {
    /// A device from the factory, told to update from an office, which is killed once.
    pub(crate) fn start(office: &Office, kill: Kill) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let receiver = Receiver::start(&root.join("spool"));
        let pages = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        furnish(&root, office, pages.local_addr().expect("bound").port(), receiver.port);
        let inner = Arc::new(Inner {
            root,
            kill: Mutex::new(kill),
            killed: AtomicU64::new(0),
            up: Mutex::default(),
            receiver,
            stop: AtomicBool::new(false),
            wrong: Mutex::default(),
        });
        let (server, manager) = (inner.clone(), inner.clone());
        pages.set_nonblocking(true).expect("set");
        let threads = vec![
            thread("pages", move || server.serve(&pages)),
            thread("services", move || Services::new(manager).run()),
        ];
        Self { folder, inner, threads }
    }

    /// Interruptions so far.
    pub(crate) fn killed(&self) -> u64 {
        self.inner.killed.load(Ordering::SeqCst)
    }

    /// What the agent's state says, where it can be read.
    pub(crate) fn state(&self) -> Option<State> {
        let file = clearfilm_fleet::agent::StateFile::at(&self.folder.path().join("agent"));
        file.read().ok()
    }

    /// The release that a slot starts: none is the factory's.
    pub(crate) fn current(&self, slot: Slot) -> Option<Sha256> {
        self.inner.slots().facts(slot).expect("read").current
    }

    /// Waits until both services run one release, and nothing is on its way.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = SystemClock.monotonic();
        while !done(self) {
            let wrong = self.inner.wrong();
            assert!(wrong.is_empty(), "{what}: {wrong:?}");
            assert!(
                SystemClock.monotonic() - begun < PATIENCE,
                "{what}: {:?}\n{}",
                self.state(),
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Nothing on its way, and this release committed in both slots.
    ///
    /// An agent that is killed in its own trial has failed it: then the one before goes on.
    pub(crate) fn runs(&self, release: Option<Sha256>) -> bool {
        let settled = self.state().is_some_and(|state| state.install.is_none());
        let facts = |slot| self.inner.slots().facts(slot).expect("read");
        let (daemon, agent) = (facts(Slot::Daemon), facts(Slot::Agent));
        let on = |facts: &Facts| facts.current == release && facts.trial.is_none();
        let left = release.is_some_and(|release| agent.rolled_back(&release).is_some());
        let up = release.map_or_else(|| "factory".to_owned(), |release| release.to_string());
        settled && on(&daemon) && (on(&agent) || left) && self.inner.up() == Some(up)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // What it found stands in `wrong`.
            drop(thread.join());
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).expect("a thread")
}

/// Files of a new device.
fn furnish(root: &Path, office: &Office, pages: u16, dicom: u16) {
    let factory = root.join("factory");
    copy(&office.path("bundle"), &factory.join("bundle"));
    copy(&office.path("app-1"), &factory.join("app"));
    fs::create_dir(root.join("agent")).expect("made");
    fs::copy(office.repository().join("metadata/1.root.json"), root.join("root.json"))
        .expect("copied");
    let text = format!(
        "[unit]\nsite = \"north\"\nname = \"north-dx-2\"\n\
         [http]\nlisten = \"127.0.0.1:{pages}\"\n\
         [dicom.scp]\nlisten = \"127.0.0.1:{dicom}\"\n\
         [update]\nsource = {:?}\nfolder = {:?}\nroot_file = {:?}\nslots = {:?}\n\
         free_min = \"1MiB\"\napprove_bundle = false\nquiet = \"0s\"\ntrial = \"300ms\"\n\
         ready_within = \"5s\"\npoll = \"1s\"\n",
        office.repository(),
        root.join("agent"),
        root.join("root.json"),
        root.join("slots"),
    );
    fs::write(root.join("config.toml"), text).expect("written");
    let bin = root.join("bin");
    fs::create_dir(&bin).expect("made");
    let restart = format!("for unit; do :; done; : >'{}'/restart.\"$unit\"", root.display());
    write_program(&bin.join("systemctl"), &restart);
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/switch/switch"), bin.join("switch"))
        .expect("linked");
}

impl Inner {
    pub(crate) fn slots(&self) -> Slots {
        Slots::at(&self.root.join("slots"), &self.root.join("agent"))
    }

    fn up(&self) -> Option<String> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_up(&self, release: Option<String>) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = release;
    }

    fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Pages of the daemon, while one is up.
    fn serve(&self, pages: &TcpListener) {
        while !self.stopped() {
            match (pages.accept(), self.up()) {
                // Gone again, and asked again.
                (Ok((socket, _)), Some(release)) => drop(self.answer(socket, &release)),
                (Ok(_), None) => {}
                (Err(_), _) => std::thread::sleep(LOOK),
            }
        }
    }

    fn answer(&self, mut socket: TcpStream, release: &str) -> std::io::Result<()> {
        socket.set_nonblocking(false)?;
        let mut request = [0; 1024];
        let n = socket.read(&mut request)?;
        let request = String::from_utf8_lossy(&request[..n]).into_owned();
        let page = match request.split(' ').nth(1) {
            Some("/api/v1/about") => format!(
                "{{\"software\":{{\"release\":\"sha256:{release}\"}},\"engines\":[{{\"name\":\"tract\",\"verdict\":\"running\"}}]}}"
            ),
            Some("/api/v1/status") => format!(
                "{{\"store_version\":1,\"trials\":{{\"read\":{},\"failed\":0}}}}",
                self.receiver.received()
            ),
            _ => "{\"ready\":true,\"checks\":[]}".into(),
        };
        write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        )
    }

    /// What is seen and must not be ends the test.
    pub(crate) fn tell(&self, problem: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }

    /// Is what a slot starts whole?
    pub(crate) fn check_whole(&self, slot: Slot) {
        let folder = self.slots().current(slot).expect("a slot names something");
        let problem = if folder.starts_with(self.root.join("agent")) {
            whole(&folder).err()
        } else {
            (folder != self.root.join("factory")).then(|| format!("starts {}", folder.display()))
        };
        if let Some(problem) = problem {
            self.tell(format!("{}: {problem}", slot.name()));
        }
    }

    /// The script of root; whether it came to its end.
    pub(crate) fn script(&self, step: &str, slot: Slot, result: &str) -> bool {
        let mut command = Command::new(self.root.join("bin/switch"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args([step, slot.name()])
            .env("PATH", format!("{}:{path}", self.root.join("bin").display()))
            .env("CLEARFILM_SLOTS", self.root.join("slots"))
            .env("CLEARFILM_AGENT", self.root.join("agent"))
            .env("CLEARFILM_FACTORY", self.root.join("factory"))
            .env("SERVICE_RESULT", result)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(log(&self.root));
        let mut child = command.spawn().expect("sh is there");
        let mut kill = self.kill.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Kill::Script(after), "request") = (*kill, step) {
            std::thread::sleep(after);
            if child.try_wait().expect("ours").is_none() {
                kill_process_group(Pid::from_child(&child), Signal::KILL).expect("ours");
                self.killed.fetch_add(1, Ordering::SeqCst);
                *kill = Kill::None;
            }
        }
        drop(kill);
        child.wait().expect("ours").success()
    }
}

/// Is everything of this release there, and as it was signed?
fn whole(folder: &Path) -> Result<(), String> {
    let bytes = fs::read(folder.join("release.json")).map_err(|e| e.to_string())?;
    if folder.file_name().and_then(|name| name.to_str()) != Some(&Sha256::of(&bytes).to_string()) {
        return Err("its document is another one's".into());
    }
    let release = Release::parse(&bytes).map_err(|e| e.to_string())?;
    for (part, path, entry) in release.files(std::env::consts::ARCH).map_err(|e| e.to_string())? {
        let file = folder.join(part.folder()).join(path);
        let open = fs::File::open(&file).map_err(|e| format!("{path}: {e}"))?;
        let found = Sha256::of_reader(open).map_err(|e| e.to_string())?;
        if found != (entry.sha256, entry.length) {
            return Err(format!("{path} is not what was signed"));
        }
    }
    Ok(())
}

pub(crate) fn log(root: &Path) -> fs::File {
    fs::File::options().append(true).create(true).open(root.join("log")).expect("made")
}
