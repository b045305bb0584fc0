//! A broker that demands a certificate, and everything that can be wrong on either side: nothing is
//! published, nothing is lost, the log says why, and with the right files all of it arrives.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clearfilm::ingest::send;

use super::Logged;
use super::certificates::{Authority, HERE, Pair, Valid, replace};
use crate::peers::{
    Broker, Seen, Site, Subscriber, binary, free_port, published, small, wait_until,
};

/// A subscriber for which the broker keeps everything while it is away.
pub(super) const AWAY: [&str; 5] = ["-c", "-i", "away", "-x", "3600"];

/// What one side has and trusts.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) own: Pair,
    pub(super) ca: PathBuf,
}

impl Side {
    /// A certificate of one authority and trust in another.
    pub(super) fn new(own: Pair, trusted: &Authority) -> Self {
        // A copy: the authority's own file stays what it is.
        let ca = own.cert.with_extension("trusted");
        replace(&trusted.cert(), &ca);
        Self { own, ca }
    }

    /// Takes the place of another.
    pub(super) fn replace(&self, other: &Self) {
        self.own.replace(&other.own);
        replace(&self.ca, &other.ca);
    }
}

pub(super) fn good_unit(ours: &Authority) -> Side {
    Side::new(ours.issue("north-dx-2", HERE, Valid::Now), ours)
}

pub(super) fn good_broker(ours: &Authority) -> Side {
    Side::new(ours.issue("broker", HERE, Valid::Now), ours)
}

/// A real mosquitto that takes units by their certificate, and lets anybody read on a plain port.
pub(super) struct Secure {
    pub(super) broker: Broker,
    pub(super) port: u16,
}

impl Secure {
    pub(super) fn start(side: &Side) -> Self {
        let port = free_port();
        let rules = side.own.cert.with_extension("acl");
        // Who writes is the unit that its certificate names.
        let text = "topic read clearfilm/#\n\nuser north-dx-2\ntopic readwrite clearfilm/#\n";
        fs::write(&rules, text).expect("written");
        let Pair { cert, key } = &side.own;
        // As root it would give up its rights, and with them its key.
        let more = format!(
            "acl_file {}\nuser root\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n",
            rules.display(),
            side.ca.display(),
            cert.display(),
            key.display()
        );
        Self { broker: Broker::start_with(&more), port }
    }

    /// A site that publishes here.
    pub(super) fn site(&self, unit: &Side) -> Site {
        let Pair { cert, key } = &unit.own;
        let more = format!("cert_file = {cert:?}\nkey_file = {key:?}\nca_file = {:?}\n", unit.ca);
        let site = Site::new(self.broker.port, &more);
        self.rewrite(&site, &format!("mqtt://127.0.0.1:{}", self.broker.port), &self.url());
        site
    }

    fn url(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.port)
    }

    /// The configuration with one text in place of another.
    fn rewrite(&self, site: &Site, from: &str, to: &str) {
        let config = site.folder.path().join("config.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        assert!(text.contains(from), "{from} in {text}, for {}", self.port);
        fs::write(&config, text.replace(from, to)).expect("written");
    }
}

/// Starts a daemon whose DICOM port is plain, and waits until it answers.
pub(super) fn ready(site: &Site) -> Logged {
    let daemon = Logged::start(site);
    wait_until("an answer to C-ECHO", || {
        send::echo(site.address(), "CLEARFILM", "TEST").is_ok_and(|s| s == 0)
    });
    daemon
}

/// Every message of every exam arrived, told apart by id.
#[track_caller]
pub(super) fn everything(seen: &[Seen], exams: usize) {
    let kinds = [("state", 4 * exams), ("gate", exams), ("findings", exams), ("report", exams)];
    for (kind, expected) in kinds {
        let ids: BTreeSet<&str> = seen.iter().filter(|s| s.kind() == kind).map(Seen::id).collect();
        assert_eq!(ids.len(), expected, "{kind} of {exams} exams");
    }
}

/// Objects come while the broker is not to be had; all arrive once `correct` has put it right.
#[track_caller]
fn check(
    mut secure: Secure,
    site: &Site,
    reason: &str,
    correct: impl FnOnce(&mut Secure, Logged) -> Logged,
) {
    const IMAGES: usize = 3;
    let port = secure.broker.port;
    Subscriber::start_known(port, &AWAY);
    let watching = Subscriber::start(port, &[]);
    let daemon = ready(site);
    for seed in 0..IMAGES as u64 {
        let status = send::store(site.address(), "CLEARFILM", "TEST", &small(80_000 + seed).0);
        assert_eq!(status.expect("sent"), 0);
    }
    daemon.says(0, reason);
    daemon.says(daemon.said().len(), "not publishing");
    let mut seen = Vec::new();
    watching.so_far(&mut seen);
    assert!(seen.is_empty(), "expected nothing published, found {seen:?}");
    watching.end();
    let daemon = correct(&mut secure, daemon);
    let back = Subscriber::start(port, &AWAY);
    back.until("every exam published", &mut seen, |seen| published(seen) == IMAGES);
    everything(&seen, IMAGES);
    daemon.process.terminate();
}

/// The unit's files are wrong in the beginning.
#[track_caller]
fn check_unit(wrong: impl FnOnce(&Authority, &Authority) -> Side, reason: &str) {
    let (ours, other) = (Authority::new(), Authority::new());
    let (unit, secure) = (wrong(&ours, &other), Secure::start(&good_broker(&ours)));
    let site = secure.site(&unit);
    check(secure, &site, reason, |_, daemon| {
        good_unit(&ours).replace(&unit);
        daemon
    });
}

/// The broker's files are wrong in the beginning.
#[track_caller]
fn check_broker(names: &str, valid: Valid, reason: &str) {
    let ours = Authority::new();
    let broker = Side::new(ours.issue("broker", names, valid), &ours);
    let secure = Secure::start(&broker);
    let site = secure.site(&good_unit(&ours));
    check(secure, &site, reason, |secure, daemon| {
        secure.broker.stop();
        good_broker(&ours).replace(&broker);
        secure.broker.again();
        daemon
    });
}

#[test]
fn a_unit_with_an_expired_certificate_keeps_its_messages() {
    let expired = |ours: &Authority, _: &Authority| {
        Side::new(ours.issue("north-dx-2", HERE, Valid::Past), ours)
    };
    check_unit(expired, "received fatal alert: CertificateExpired");
}

#[test]
fn a_unit_with_a_certificate_of_another_authority_keeps_its_messages() {
    let of_another = |ours: &Authority, other: &Authority| {
        Side::new(other.issue("north-dx-2", HERE, Valid::Now), ours)
    };
    check_unit(of_another, "received fatal alert: UnknownCA");
}

#[test]
fn a_unit_that_trusts_another_authority_tells_the_broker_nothing() {
    let trusting_another = |ours: &Authority, other: &Authority| {
        Side::new(ours.issue("north-dx-2", HERE, Valid::Now), other)
    };
    check_unit(trusting_another, "invalid peer certificate: UnknownIssuer");
}

#[test]
fn a_unit_with_the_key_of_another_certificate_keeps_its_messages() {
    let mixed = |ours: &Authority, _: &Authority| {
        let mut unit = good_unit(ours);
        unit.own.key = good_unit(ours).own.key;
        unit
    };
    check_unit(mixed, "found the key of another certificate");
}

#[test]
fn a_unit_whose_key_others_can_read_keeps_its_messages() {
    let exposed = |ours: &Authority, _: &Authority| {
        let unit = good_unit(ours);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&unit.own.key, mode).expect("set");
        unit
    };
    check_unit(exposed, "found 0644");
}

#[test]
fn a_unit_without_the_certificate_that_is_demanded_keeps_its_messages() {
    let ours = Authority::new();
    let (unit, secure) = (good_unit(&ours), Secure::start(&good_broker(&ours)));
    let site = secure.site(&unit);
    let Pair { cert, key } = &unit.own;
    let shown = format!("cert_file = {cert:?}\nkey_file = {key:?}\n");
    secure.rewrite(&site, &shown, "");
    check(secure, &site, "received fatal alert: CertificateRequired", |secure, daemon| {
        daemon.process.terminate();
        secure.rewrite(&site, "[mqtt]\n", &format!("[mqtt]\n{shown}"));
        ready(&site)
    });
}

#[test]
fn the_authorities_of_the_system_are_trusted_where_no_file_is_named() {
    let ours = Authority::new();
    let (unit, secure) = (good_unit(&ours), Secure::start(&good_broker(&ours)));
    let site = secure.site(&unit);
    secure.rewrite(&site, &format!("ca_file = {:?}\n", unit.ca), "");
    let subscriber = Subscriber::start(secure.broker.port, &[]);
    let birth = |seen: &[Seen]| seen.iter().any(|s| s.kind() == "about");
    let daemon = Logged::start(&site);
    daemon.says(0, "invalid peer certificate: UnknownIssuer");
    let mut seen = Vec::new();
    subscriber.so_far(&mut seen);
    assert!(!birth(&seen), "nothing is published");
    daemon.process.terminate();
    // Where the system looks is said as OpenSSL says it.
    let mut command = Command::new(binary());
    let daemon = Logged::start_by(&site, command.env("SSL_CERT_FILE", &unit.ca));
    subscriber.until("a birth", &mut seen, birth);
    daemon.process.terminate();
}

#[test]
fn a_broker_with_an_expired_certificate_is_told_nothing() {
    check_broker(HERE, Valid::Past, "certificate expired");
}

#[test]
fn a_broker_with_another_name_is_told_nothing() {
    check_broker("DNS:other.example", Valid::Now, "certificate not valid for name");
}
