//! Signing keys: Ed25519, each held by one person, and the public half that roles are made of.
//!
//! A private key is one PKCS#8 file (DER, which is what `tough` reads) that is written once, for its
//! owner alone. Where it is kept, and that an offline key never meets a network, is the ceremony
//! of `docs/release.md`.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{Role, Signature};
use tough::sign::{Sign as _, SignKeyPair};

use crate::files;

/// Ending of the public half beside a private key.
const PUBLIC: &str = "pub";

/// Largest file that is read as a key: an Ed25519 key has some 80 bytes, an RSA key of 4,096 bits
/// 2.4 kB.
const SIZE_MAX: u64 = 16 * 1024;

/// Makes a private key at `path` and its public half beside it.
///
/// # Errors
/// A file that is there already: a key is never overwritten.
pub fn make(path: &Path) -> anyhow::Result<Public> {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("making a key: expected random numbers, found none"))?;
    write_new(path, pair.as_ref(), 0o600)?;
    let public = Public::of(path)?;
    let text = serde_json::to_vec_pretty(&public.0).context("writing a public key as JSON")?;
    write_new(&beside(path), &text, 0o644)?;
    Ok(public)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(PUBLIC);
    name.into()
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut options = std::fs::File::options();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("writing a key to {}", path.display()))
}

/// The half of a key that everybody may see.
#[derive(Debug, Clone, PartialEq)]
pub struct Public(pub(crate) Key);

impl Public {
    /// Reads a public key, or the public half of a private one.
    ///
    /// # Errors
    /// A file that holds neither.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("reading a key from {}", path.display());
        let bytes = files::read(path, SIZE_MAX).with_context(what)?;
        if let Ok(key) = serde_json::from_slice::<Key>(&bytes) {
            return Ok(Self(key));
        }
        let pair = parse(&bytes).with_context(what)?;
        Ok(Self(pair.tuf_key()))
    }

    /// Its identifier: SHA-256 of its canonical JSON (TUF 4.2), in hexadecimal.
    ///
    /// # Errors
    /// None that an Ed25519 key can give.
    pub fn id(&self) -> anyhow::Result<String> {
        Ok(data_encoding::HEXLOWER.encode(&self.key_id()?))
    }

    pub(crate) fn key_id(&self) -> anyhow::Result<Decoded<Hex>> {
        self.0.key_id().context("naming a key")
    }
}

/// A private key.
pub struct Private {
    /// Its identifier in metadata.
    pub(crate) id: Decoded<Hex>,
    pair: SignKeyPair,
}

impl Private {
    /// Reads a private key.
    ///
    /// # Errors
    /// A file that is no private key, or that others than its owner can read.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("reading a private key from {}", path.display());
        let mode = std::fs::metadata(path).with_context(what)?.permissions().mode() & 0o077;
        ensure!(
            mode == 0,
            "{}: expected a private key that its owner alone can read (0600), found {mode:03o} for others",
            path.display()
        );
        let pair = parse(&files::read(path, SIZE_MAX)?).with_context(what)?;
        let id = pair.tuf_key().key_id().with_context(what)?;
        Ok(Self { id, pair })
    }

    /// Signs the canonical form of a document.
    ///
    /// # Errors
    /// A document that has none.
    pub async fn sign<T: Role>(&self, document: &T) -> anyhow::Result<Signature> {
        let text = document.canonical_form().context("writing a document in canonical form")?;
        let signed = self.pair.sign(&text, &SystemRandom::new()).await;
        let signed = signed.map_err(|error| anyhow::anyhow!("signing a document: {error}"))?;
        Ok(Signature { keyid: self.id.clone(), sig: signed.into() })
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<SignKeyPair> {
    let pair = Ed25519KeyPair::from_pkcs8(bytes);
    let pair = pair.map_err(|e| anyhow::anyhow!("expected an Ed25519 key in PKCS#8 (DER): {e}"))?;
    Ok(SignKeyPair::ED25519(pair))
}
