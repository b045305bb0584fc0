//! The sections of the configuration: what can be set, and what it means.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Who this device is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unit {
    /// Site, `[a-z0-9-]{1,32}`.
    pub site: String,
    /// Device id, `[a-z0-9-]{4,32}`, unique in the fleet.
    pub name: String,
    /// Room, free text; empty for none.
    pub room: String,
    /// What the results may be used for.
    #[serde(rename = "use")]
    pub intended: Use,
    /// The site secret; empty: `site.key` under the storage path.
    pub secret_file: PathBuf,
}

/// What the results may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// For research only.
    Research,
    /// Run beside the clinic, shown to nobody who treats.
    Shadow,
    /// In clinical use.
    Clinical,
}

/// The watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inbox {
    /// Files that come to rest here are taken as if they had been received; empty: none.
    pub folder: PathBuf,
    /// How often it is looked into.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// How long a file must not have changed.
    #[serde(with = "humantime_serde")]
    pub rest: Duration,
    /// Most files of one look.
    pub files: usize,
    /// Longest time that one look may take before the service counts as stuck.
    #[serde(with = "humantime_serde")]
    pub wall: Duration,
}

/// The DICOM side.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dicom {
    /// The receiver.
    pub scp: Scp,
    /// Limits of the structural gate.
    pub limits: DicomLimits,
    /// Application entities that may send.
    pub peers: Vec<Peer>,
}

/// The receiver (service class provider).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scp {
    /// Address and port.
    pub listen: SocketAddr,
    /// Our application entity title, at most 16 characters.
    pub ae_title: String,
    /// `CR`, `DX`, `DX-processing`, `SC`.
    pub sop_classes: Vec<SopClass>,
    /// Are application entities that are not in `dicom.peers` let in?
    pub unknown_peers: UnknownPeers,
    /// Associations at one time.
    pub max_associations: usize,
    /// Associations of one address at one time.
    pub max_associations_per_peer: usize,
    /// Associations of one address that may begin within a minute.
    pub associations_per_minute: usize,
    /// Longest time from a connection to the end of its negotiation (PS3.8 9.1.5).
    #[serde(with = "humantime_serde")]
    pub artim: Duration,
    /// Longest protocol data unit taken, bytes.
    pub max_pdu: u32,
    /// Longest wait for a whole protocol data unit before the association is aborted.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Longest wait for a peer to take what is written to it.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Largest data set taken.
    pub max_object: ByteSize,
    /// Encryption and proof of identity.
    pub tls: ScpTls,
}

/// TLS of the receiver, on its one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScpTls {
    /// `off`, `server` or `mutual`.
    pub mode: TlsMode,
    /// Our certificate, and those that it is issued by, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Authorities of senders' certificates, PEM; for `mutual`.
    pub ca_file: PathBuf,
}

/// Who proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Nobody: no TLS.
    Off,
    /// The receiver.
    Server,
    /// Receiver and sender.
    Mutual,
}

/// A SOP class that may be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SopClass {
    /// Computed Radiography Image Storage.
    #[serde(rename = "CR")]
    Cr,
    /// Digital X-Ray Image Storage, for presentation.
    #[serde(rename = "DX")]
    Dx,
    /// Digital X-Ray Image Storage, for processing.
    #[serde(rename = "DX-processing")]
    DxProcessing,
    /// Secondary Capture Image Storage (its pixels may carry text).
    #[serde(rename = "SC")]
    Sc,
}

/// What happens to an association of an unknown application entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPeers {
    /// A-ASSOCIATE-RJ.
    Reject,
    /// Let in.
    Accept,
}

/// An application entity that may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its calling application entity title.
    pub ae_title: String,
    /// The addresses that it may call from; empty: any.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// Limits of the structural gate, which every received object passes before it is acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DicomLimits {
    /// Deepest nesting of sequences.
    pub depth: usize,
    /// Most data set tokens (elements, items, delimiters).
    pub tokens: usize,
}

/// Limits of decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Most pixels (rows x columns).
    pub pixels: u64,
    /// Largest file read, and largest data set of a deflated one after inflating.
    pub inflated: ByteSize,
    /// Address space of the process that decodes.
    pub memory: ByteSize,
    /// Processor time of the process that decodes, whole seconds.
    #[serde(with = "humantime_serde")]
    pub cpu: Duration,
    /// Longest wait for the process that decodes.
    #[serde(with = "humantime_serde")]
    pub wall: Duration,
}

/// Where things are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Root of spool, store and quarantine.
    pub path: PathBuf,
    /// Free space below which C-STORE answers 0xA700.
    pub free_min: ByteSize,
    /// Memory that the store may use as cache.
    pub cache: ByteSize,
    /// Instances accepted but not yet read, at which C-STORE answers 0xA700.
    pub inbox_rows: usize,
    /// Attempts to read one instance in the daemon; the next is made in a process of its own.
    pub attempts: u32,
    /// Attempts in a process of its own before the instance is set aside.
    pub trials: u32,
    /// Longest such attempt, the start of an engine included.
    #[serde(with = "humantime_serde")]
    pub trial_wall: Duration,
    /// How long the bytes of an instance that was read are kept.
    #[serde(with = "humantime_serde")]
    pub keep_images: Duration,
    /// How long the bytes of an instance that was set aside are kept.
    #[serde(with = "humantime_serde")]
    pub keep_quarantine: Duration,
    /// How long records (readings, exams, revisions) are kept.
    #[serde(with = "humantime_serde")]
    pub keep_records: Duration,
}

/// Which model bundle reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BundleChoice {
    /// A bundle folder; empty: the one that was installed with the program, else the embedded demo bundle.
    pub path: PathBuf,
    /// Largest file of a bundle folder.
    pub max_file: ByteSize,
    /// Show findings that were validated on phantoms only?
    pub unvalidated: bool,
}

/// May an image be read at all?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Modalities read (0008,0060).
    pub modalities: Vec<String>,
    /// View positions read (0018,5101).
    pub views: Vec<String>,
    /// Youngest patient read, years, where the header tells the age.
    pub min_age: u32,
    /// What happens to an image unlike those that the bundle was measured on.
    pub ood: OodPolicy,
}

/// What happens to an image unlike those that the bundle was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OodPolicy {
    /// No findings, no draft, only the reason.
    Withhold,
    /// Findings with a caveat.
    Flag,
}

/// How drafts are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// Language tag; the bundle must hold templates in it.
    pub language: String,
}

/// The broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// `mqtt://host:port`, or `mqtts://host:port` with TLS.
    pub url: String,
    /// Authorities of the broker's certificate, PEM; empty: the system's.
    pub ca_file: PathBuf,
    /// Our certificate, and those that it is issued by, PEM; empty: none is shown.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Root of the topic tree.
    pub root: String,
    /// Which identifiers of the exam messages carry.
    pub phi: Phi,
    /// Keep-alive of the connection.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// How long the broker waits before it publishes the will.
    #[serde(with = "humantime_serde")]
    pub will_delay: Duration,
    /// How long the broker keeps the publishing session; longer than `will_delay`.
    #[serde(with = "humantime_serde")]
    pub session_expiry: Duration,
    /// Expiry of exam messages (retained ones vanish after it).
    #[serde(with = "humantime_serde")]
    pub exam_expiry: Duration,
    /// Period of the health message.
    #[serde(with = "humantime_serde")]
    pub health_period: Duration,
    /// Most messages on the wire without an acknowledgement.
    pub inflight: u16,
    /// Largest packet sent or taken.
    pub max_packet: ByteSize,
    /// First wait before connecting again; doubles, with jitter.
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    /// Longest wait before connecting again.
    #[serde(with = "humantime_serde")]
    pub retry_max: Duration,
    /// Longest wait for the acknowledgement of a message before the connection is given up.
    #[serde(with = "humantime_serde")]
    pub ack_timeout: Duration,
    /// Longest wait before a message that the broker denied is tried again; doubles up to it.
    #[serde(with = "humantime_serde")]
    pub denied_retry_max: Duration,
    /// Consumers whose receipt a findings or report message waits for.
    pub receipts: Vec<String>,
    /// How long a receipt may take before the message is sent again.
    #[serde(with = "humantime_serde")]
    pub receipt_wait: Duration,
    /// Outbox rows at which C-STORE answers 0xA700.
    pub outbox_rows: usize,
    /// How long a clean stop waits for the broker to take what is left.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// Which identifiers of the exam messages carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phi {
    /// The exam key only.
    None,
    /// Also accession number and UIDs; nothing is retained.
    Accession,
}

/// Pages about the unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port; empty: none.
    pub listen: String,
    /// Connections at once, of each port with pages or metrics; others wait.
    pub connections: usize,
    /// The most that a connection takes, from its first byte to its last.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

/// Logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Address and port of `/metrics`; empty: none.
    pub metrics: String,
    /// Filter, as `RUST_LOG` takes it.
    pub log: String,
    /// How a line looks.
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}
