//! Names for things: our own identifiers, digests, and DICOM UIDs that were checked before use.
//!
//! Nothing here identifies a patient: an [`ExamKey`] is a keyed hash of the Study Instance UID.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Why a text is not the identifier that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct InvalidId {
    expected: &'static str,
    found: String,
}

/// One received DICOM instance (or file), by a UUIDv7 of ours: also its file name in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(Uuid);

impl InstanceId {
    /// A new id; ids made later sort later.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The 16 bytes that stand as key in the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// When the id was made, seconds since 1970; none where it is no UUIDv7.
    #[must_use]
    pub fn made_at_s(&self) -> Option<u64> {
        self.0.get_timestamp().map(|t| t.to_unix().0)
    }
}

impl Default for InstanceId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InstanceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let expected = "a UUID as instance id";
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { expected, found: text.into() })
    }
}

/// The id of a message on the wire; consumers drop duplicates by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

/// Namespace of the ids of exam messages: UUIDv5 of our schema URN under the URL namespace.
const MESSAGE_NAMESPACE: &str = "urn:clearfilm:message";

impl MessageId {
    /// The id of an exam message: the same reading has the same id however often it is formed.
    ///
    /// UUIDv5 of unit, kind, exam key, revision and the sha256 of the payload's bytes.
    #[must_use]
    pub fn of_exam(unit: &str, kind: &str, exam: &ExamKey, revision: u32, payload: &[u8]) -> Self {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, MESSAGE_NAMESPACE.as_bytes());
        let name = format!("{unit}\n{kind}\n{exam}\n{revision}\n{}", Digest::of(payload));
        Self(Uuid::new_v5(&namespace, name.as_bytes()))
    }

    /// The id of a message that belongs to no exam (status, about, health): a UUIDv7.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for MessageId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Characters of an exam key: 26 base32 digits hold 130 bits of the keyed hash.
const EXAM_KEY_LENGTH: usize = 26;

/// Our keyed, de-identified handle of a study; 26 characters of `[a-z2-7]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExamKey(String);

impl ExamKey {
    /// First 26 characters of lower-case base32 of HMAC-SHA-256(site secret, Study Instance UID).
    #[must_use]
    pub fn of_study(secret: &SiteSecret, study: &Uid) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0)
            .expect("HMAC-SHA-256 takes a key of any length");
        mac.update(study.as_str().as_bytes());
        let mut text = BASE32_NOPAD.encode(&mac.finalize().into_bytes()).to_ascii_lowercase();
        text.truncate(EXAM_KEY_LENGTH);
        Self(text)
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ExamKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = text.len() == EXAM_KEY_LENGTH
            && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        let expected = "an exam key of 26 characters [a-z2-7]";
        if fits { Ok(Self(text.into())) } else { Err(InvalidId { expected, found: text.into() }) }
    }
}

/// The secret that exam keys are made with; made once per site, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteSecret([u8; 32]);

impl SiteSecret {
    /// Takes the 32 bytes of a secret file.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SiteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiteSecret([secret])")
    }
}

/// A DICOM unique identifier: 1 to 64 characters of digits and dots (PS3.5 section 9.1).
///
/// Longer or otherwise malformed text never becomes a `Uid`, so that no UID from outside can
/// name a path or overrun a field. UIDs of instances and studies count as identifiers of a
/// patient: their `Debug` form is hidden.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

impl Uid {
    /// The UID's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uid {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // PS3.5 6.2 VR UI: padded with one trailing NUL to even length; some writers use a space.
        let text = text.trim_end_matches(['\0', ' ']);
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && text.split('.').all(|part| !part.is_empty());
        let expected = "a DICOM UID of 1 to 64 digits and dots";
        // What was found may come from a patient's object: only its length is told.
        let found = || format!("{} bytes", text.len());
        if fits { Ok(Self(text.into())) } else { Err(InvalidId { expected, found: found() }) }
    }
}

impl TryFrom<String> for Uid {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uid([phi])")
    }
}

/// A SHA-256, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest that was computed elsewhere, piece by piece.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix("sha256:")
            .and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| InvalidId {
                expected: "sha256: and 64 lower-case hexadecimal digits",
                found: text.into(),
            })
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A digest of bytes that arrive piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hashing(Sha256);

impl Hashing {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces in their order.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// One of the SAE's `d_sae` coordinates, named or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LatentIndex(pub u32);

impl LatentIndex {
    /// The index as a position in a slice.
    #[must_use]
    pub fn position(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for LatentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exam_key_is_keyed_and_has_26_characters() {
        let study: Uid = "1.2.840.10008.1".parse().expect("valid");
        let one = ExamKey::of_study(&SiteSecret::from_bytes([1; 32]), &study);
        let two = ExamKey::of_study(&SiteSecret::from_bytes([2; 32]), &study);
        assert_eq!(one.as_str().parse::<ExamKey>().expect("round trip"), one);
        assert_ne!(one, two);
        // Checked with Python: base64.b32encode(hmac.digest(bytes([1]*32), b"1.2.840.10008.1", "sha256"))
        assert_eq!(one.as_str(), "h3gs66os6zqi77xfygghltvdzd");
    }

    #[test]
    fn a_uid_that_could_name_a_path_is_refused() {
        let long = "1".repeat(65);
        for text in ["", "../etc", "1.2/3", "1..2", ".1", "1.", "1.2\0x", "1.2.é", long.as_str()] {
            assert!(text.parse::<Uid>().is_err(), "{text:?}");
        }
        assert_eq!("1.2.840\0".parse::<Uid>().expect("padded").as_str(), "1.2.840");
    }

    #[test]
    fn the_same_reading_has_the_same_message_id_and_other_bytes_another() {
        let key: ExamKey = "abcdefghijklmnopqrstuvwxyz".parse().expect("valid");
        let id = |payload: &[u8]| MessageId::of_exam("unit-1", "findings", &key, 1, payload);
        assert_eq!(id(b"{}"), id(b"{}"));
        assert_ne!(id(b"{}"), id(b"{ }"));
    }

    #[test]
    fn a_digest_round_trips_and_names_what_was_expected() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse::<Digest>().expect("round trip"), digest);
        let error = "sha1:00".parse::<Digest>().expect_err("not a digest").to_string();
        assert!(error.contains("sha256:") && error.contains("sha1:00"), "{error}");
    }
}
