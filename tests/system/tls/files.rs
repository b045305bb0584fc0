//! Files that cannot be used: told by name, with what was expected and found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clearfilm::clock::{SystemClock, rfc3339};
use clearfilm::config::{ScpTls, TlsMode};
use clearfilm::tls::{Server, expires};

use super::certificates::{Authority, HERE, Valid};
use crate::peers::temporary;

/// What is said of these files; nothing where they can be used.
fn opened(cert: &Path, key: &Path, ca: &Path) -> String {
    let [cert_file, key_file, ca_file] = [cert, key, ca].map(PathBuf::from);
    let tls = ScpTls { mode: TlsMode::Mutual, cert_file, key_file, ca_file };
    Server::open(&tls, Arc::new(SystemClock)).err().map_or_else(String::new, |e| e.to_string())
}

#[test]
fn files_that_cannot_be_used_are_told_by_name() {
    let (ours, folder) = (Authority::new(), temporary());
    let (good, ca) = (ours.issue("north-dx-2", HERE, Valid::Now), ours.cert());
    let other = ours.issue("north-dx-3", HERE, Valid::Now);
    let with = |name: &str, content: &[u8], mode: u32| {
        let file = folder.path().join(name);
        fs::write(&file, content).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
        file
    };
    let key = fs::read(&good.key).expect("a key");
    let none = folder.path().join("none");
    let text = with("text", b"hunter2", 0o600);
    let half = with("half", &fs::read(&good.cert).expect("one")[..200], 0o600);
    let large = with("large", &vec![b'#'; (1 << 20) + 1], 0o600);
    let check = |cert: &Path, key: &Path, ca: &Path, file: &Path, found: &str| {
        let error = opened(cert, key, ca);
        assert!(error.contains(found) && error.contains(&*file.to_string_lossy()), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    };
    assert_eq!(opened(&good.cert, &good.key, &ca), "");
    check(&none, &good.key, &ca, &none, "reading certificate");
    check(&text, &good.key, &ca, &text, "expected PEM with BEGIN CERTIFICATE, found none");
    check(&half, &good.key, &ca, &half, "found PEM that is damaged");
    check(&large, &good.key, &ca, &large, "expected at most 1048576 bytes, found 1048577");
    check(&good.cert, &none, &ca, &none, "reading key");
    check(&good.cert, &text, &ca, &text, "expected PEM with BEGIN PRIVATE KEY");
    check(&good.cert, &other.key, &ca, &other.key, "found the key of another certificate");
    check(&good.cert, &good.key, &text, &text, "reading certificates of authorities");
    for mode in [0o604, 0o620, 0o602, 0o644] {
        let exposed = with("exposed", &key, mode);
        check(&good.cert, &exposed, &ca, &exposed, &format!("found {mode:04o}"));
    }
    // As Debian's group ssl-cert and systemd's credentials have them.
    for mode in [0o640, 0o400, 0o440] {
        let kept = with("kept", &key, mode);
        assert_eq!(opened(&good.cert, &kept, &ca), "", "{mode:04o}");
        fs::remove_file(kept).expect("removed");
    }
}

#[test]
fn a_file_of_certificates_can_be_used_until_the_first_of_them_expires() {
    let ours = Authority::new();
    let now = ours.issue("north-dx-2", HERE, Valid::Now).cert;
    let past = ours.issue("intermediate", HERE, Valid::Past).cert;
    let until = |file: &Path| rfc3339(expires(file).expect("a certificate"));
    assert_eq!(until(&now), "2049-01-01T00:00:00.000Z");
    let mut chain = fs::read(&now).expect("read");
    chain.extend(fs::read(&past).expect("read"));
    fs::write(&now, chain).expect("written");
    assert_eq!(until(&now), "2021-01-01T00:00:00.000Z");
}
