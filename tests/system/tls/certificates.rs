//! Authorities and what they issue, made fresh for a test by OpenSSL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::peers::temporary;

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(super) enum Valid {
    Now,
    Past,
    Future,
}

impl Valid {
    /// From and until, as `openssl ca` takes them.
    fn range(self) -> [&'static str; 2] {
        match self {
            Self::Now => ["20200101000000Z", "20490101000000Z"],
            Self::Past => ["20200101000000Z", "20210101000000Z"],
            Self::Future => ["20480101000000Z", "20490101000000Z"],
        }
    }
}

/// Names of the machine that the tests run on.
pub(super) const HERE: &str = "DNS:localhost,IP:127.0.0.1";

/// A certificate and its key on disk.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    /// Takes the place of another pair, one file after the other, each at once.
    pub(super) fn replace(&self, other: &Self) {
        for (from, to) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            replace(from, to);
        }
    }
}

/// One file in place of another, at once; mode and owner come with it.
pub(super) fn replace(from: &Path, to: &Path) {
    let new = to.with_extension("new");
    fs::copy(from, &new).expect("copied");
    fs::rename(new, to).expect("renamed");
}

/// An authority in a folder of its own.
pub(super) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let folder = temporary();
        let at = folder.path().display();
        let text = format!(
            "[req]\ndistinguished_name = name\nx509_extensions = authority\n[name]\n\
             [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
             subjectKeyIdentifier = hash\n\
             [ca]\ndefault_ca = here\n\
             [here]\ndatabase = {at}/issued\nnew_certs_dir = {at}\ncertificate = {at}/ca.crt\nprivate_key = {at}/ca.key\n\
             default_md = sha256\npolicy = any\nrand_serial = yes\nunique_subject = no\nemail_in_dn = no\ncopy_extensions = copy\n\
             [any]\ncommonName = supplied\n"
        );
        fs::write(folder.path().join("conf"), text).expect("written");
        fs::write(folder.path().join("issued"), "").expect("written");
        // Authorities are told apart by their names.
        let unique = folder.path().file_name().expect("a name").display();
        let name = format!("/CN=authority {unique}");
        let authority = Self { folder };
        let mut command = authority.openssl("req");
        command.args(["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", &name]);
        command.args(["-keyout", "ca.key", "-out", "ca.crt"]);
        succeed(&mut command);
        authority
    }

    /// Its own certificate.
    pub(super) fn cert(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A certificate for both sides of a connection.
    pub(super) fn issue(&self, common_name: &str, names: &str, valid: Valid) -> Pair {
        let made = fs::read_dir(self.folder.path()).expect("a folder").count();
        let at = |ending: &str| self.folder.path().join(format!("{made}.{ending}"));
        let pair = Pair { cert: at("crt"), key: at("key") };
        let mut request = self.openssl("req");
        request.args(["-new", "-newkey", "rsa:2048", "-nodes", "-addext"]);
        request.arg(format!("subjectAltName={names}"));
        request.args(["-subj", &format!("/CN={common_name}"), "-keyout"]).arg(&pair.key);
        succeed(request.arg("-out").arg(at("csr")));
        let [from, until] = valid.range();
        let mut sign = self.openssl("ca");
        sign.args(["-batch", "-notext", "-startdate", from, "-enddate", until, "-in"]);
        succeed(sign.arg(at("csr")).arg("-out").arg(&pair.cert));
        pair
    }

    fn openssl(&self, verb: &str) -> Command {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args([verb, "-config", "conf"]);
        command
    }
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("openssl is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
