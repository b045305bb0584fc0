//! Senders at the DICOM port: who is heard, who is not, and what the log says of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Logged;
use super::certificates::{Authority, HERE, Pair, Valid};
use crate::peers::{
    Broker, DEADLINE, Seen, Site, Subscriber, published, small, temporary, wait_until,
};

/// A sender that shows nothing.
pub(super) const NOTHING: Option<&Pair> = None;

/// The section of the receiver's TLS, behind the broker's.
pub(super) fn section(mode: &str, own: &Pair, ca: &Path) -> String {
    format!(
        "[dicom.scp.tls]\nmode = {mode:?}\ncert_file = {:?}\nkey_file = {:?}\nca_file = {ca:?}\n",
        own.cert, own.key
    )
}

/// DCMTK over TLS: with a certificate or without, trusting one authority.
pub(super) fn dcmtk(program: &str, site: &Site, own: Option<&Pair>, ca: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-aec", "CLEARFILM", "-aet", "TEST"]);
    match own {
        Some(Pair { cert, key }) => command.arg("+tls").arg(key).arg(cert),
        None => command.arg("+tla"),
    };
    command.arg("+cf").arg(ca).args(["127.0.0.1", &site.port.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(super) fn succeeds(command: &mut Command) -> bool {
    command.status().expect("the peer is installed").success()
}

/// OpenSSL as a client; succeeds where the handshake does.
fn openssl(site: &Site, ca: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-verify_return_error",
        "-connect",
        &format!("127.0.0.1:{}", site.port),
    ]);
    command.arg("-CAfile").arg(ca).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Sends one object after the other, each of a study of its own.
pub(super) struct Sender<'a> {
    pub(super) site: &'a Site,
    pub(super) folder: tempfile::TempDir,
    pub(super) sent: usize,
}

impl<'a> Sender<'a> {
    pub(super) fn new(site: &'a Site) -> Self {
        Self { site, folder: temporary(), sent: 0 }
    }

    fn next(&mut self) -> PathBuf {
        self.sent += 1;
        let file = self.folder.path().join(format!("{}.dcm", self.sent));
        fs::write(&file, small(70_000 + self.sent as u64).0).expect("written");
        file
    }

    /// Sends the next one; it has to be taken.
    #[track_caller]
    pub(super) fn send(&mut self, own: Option<&Pair>, ca: &Path) {
        let file = self.next();
        let mut command = dcmtk("storescu", self.site, own, ca);
        assert!(succeeds(command.arg("-xe").arg(file)), "a good object is taken");
    }
}

/// Waits until every exam that was sent is published.
#[track_caller]
pub(super) fn all_published(subscriber: &Subscriber, seen: &mut Vec<Seen>, sent: usize) {
    subscriber.until("every exam published", seen, |seen| published(seen) == sent);
}

#[test]
fn only_senders_with_a_certificate_of_our_authority_are_heard() {
    let (ours, other) = (Authority::new(), Authority::new());
    let room = |authority: &Authority, valid| authority.issue("dxroom2", HERE, valid);
    let (good, ca) = (room(&ours, Valid::Now), ours.cert());
    let broker = Broker::start();
    let unit = ours.issue("north-dx-2", HERE, Valid::Now);
    let site = Site::new(broker.port, &section("mutual", &unit, &ca));
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = Logged::start(&site);
    let echo = |own: Option<&Pair>| dcmtk("echoscu", &site, own, &ca);
    wait_until("an answer to C-ECHO", || succeeds(&mut echo(Some(&good))));
    let shown = |pair: &Pair, version: &str| {
        let mut command = openssl(&site, &ca, &[version, "-ign_eof"]);
        command.arg("-cert").arg(&pair.cert).arg("-key").arg(&pair.key);
        command
    };
    let (past, future) = (room(&ours, Valid::Past), room(&ours, Valid::Future));
    let stranger = room(&other, Valid::Now);
    let mut plain = Command::new("echoscu");
    plain.args(["-aec", "CLEARFILM", "127.0.0.1", &site.port.to_string()]);
    let old = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let expired = "the peer's certificate has expired";
    let refused = [
        (echo(Some(&past)), expired),
        (shown(&past, "-tls1_2"), expired),
        (echo(Some(&future)), "the peer's certificate is not valid yet"),
        (echo(Some(&stranger)), "the peer's certificate is of an unknown authority"),
        (echo(NOTHING), "expected the peer's certificate, found none"),
        (openssl(&site, &ca, &old), "expected TLS 1.2 or 1.3"),
        (plain, "expected TLS, found something else"),
    ];
    let (mut seen, mut sender) = (Vec::new(), Sender::new(&site));
    for (mut command, reason) in refused {
        let before = daemon.said().len();
        assert!(!succeeds(command.stderr(Stdio::null())), "{reason}: {command:?}");
        daemon.says(before, reason);
        sender.send(Some(&good), &ca);
        all_published(&subscriber, &mut seen, sender.sent);
    }
    for version in ["-tls1_2", "-tls1_3"] {
        // Nothing is said after the handshake: the end of the input is the end.
        let mut command = openssl(&site, &ca, &[version]);
        command.arg("-cert").arg(&good.cert).arg("-key").arg(&good.key);
        assert!(succeeds(&mut command), "{version}");
    }
    daemon.process.terminate();
}

#[test]
fn a_handshake_that_is_never_finished_holds_its_place_only_until_the_timer_ends() {
    let ours = Authority::new();
    let (unit, ca) = (ours.issue("north-dx-2", HERE, Valid::Now), ours.cert());
    let broker = Broker::start();
    let site = Site::new(broker.port, &section("server", &unit, &ca));
    let daemon = Logged::start(&site);
    let echo = || dcmtk("echoscu", &site, NOTHING, &ca);
    wait_until("an answer to C-ECHO", || succeeds(&mut echo()));
    // More of them than there are places: nobody else comes in, and then somebody does.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let mut mute: Vec<TcpStream> = Vec::new();
    let turned_away = (0..3).any(|_| {
        mute = (0..40).map(|_| TcpStream::connect(site.address()).expect("a connection")).collect();
        mute.iter_mut().for_each(|peer| drop(peer.write_all(hello)));
        !succeeds(&mut echo())
    });
    assert!(turned_away, "no place is left");
    wait_until("a free place", || succeeds(&mut echo()));
    for peer in &mut mute {
        peer.set_read_timeout(Some(DEADLINE)).expect("set");
        let closed = peer.read_to_end(&mut Vec::new());
        let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(closed.as_ref().map_or_else(reset, |_| true), "{closed:?}");
    }
    daemon.says(0, "one association too many: closed");
    daemon.process.terminate();
}

#[test]
fn a_sender_that_refuses_our_certificate_is_told_in_the_log_and_a_right_one_needs_no_restart() {
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = ours.cert();
    let broker = Broker::start();
    let unit = ours.issue("north-dx-2", HERE, Valid::Past);
    let site = Site::new(broker.port, &section("server", &unit, Path::new("")));
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = Logged::start(&site);
    daemon.says(0, "own certificate is not valid now");
    let echo = |ca: &Path| dcmtk("echoscu", &site, NOTHING, ca);
    wait_until("a refusal", || {
        assert!(!succeeds(&mut echo(&ca)), "an expired certificate");
        daemon.said().contains("the peer refused: CertificateExpired")
    });
    ours.issue("north-dx-2", HERE, Valid::Now).replace(&unit);
    let (mut seen, mut sender) = (Vec::new(), Sender::new(&site));
    let renamed = ["-verify_hostname", "another.example"];
    let refused =
        [(echo(&other.cert()), "UnknownCA"), (openssl(&site, &ca, &renamed), "BadCertificate")];
    for (mut command, reason) in refused {
        let before = daemon.said().len();
        assert!(!succeeds(&mut command), "{reason}: {command:?}");
        daemon.says(before, &format!("the peer refused: {reason}"));
        sender.send(NOTHING, &ca);
        all_published(&subscriber, &mut seen, sender.sent);
    }
    daemon.process.terminate();
}
