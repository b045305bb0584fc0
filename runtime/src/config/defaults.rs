//! The default of every section; `docs/config.toml` says the same with reasons (tested).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::sections::*;

impl Default for Unit {
    fn default() -> Self {
        Self {
            site: "site".into(),
            name: "unit-1".into(),
            room: String::new(),
            intended: Use::Research,
            secret_file: PathBuf::new(),
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            every: Duration::from_secs(1),
            rest: Duration::from_secs(2),
            files: 1_000,
            wall: Duration::from_secs(600),
        }
    }
}

impl Default for Scp {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 11112)),
            ae_title: "CLEARFILM".into(),
            sop_classes: vec![SopClass::Cr, SopClass::Dx, SopClass::DxProcessing],
            unknown_peers: UnknownPeers::Reject,
            max_associations: 32,
            max_associations_per_peer: 16,
            associations_per_minute: 600,
            artim: Duration::from_secs(30),
            max_pdu: 131_072,
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            max_object: ByteSize::mib(256),
            tls: ScpTls::default(),
        }
    }
}

impl Default for ScpTls {
    fn default() -> Self {
        Self {
            mode: TlsMode::Off,
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
        }
    }
}

impl Default for DicomLimits {
    fn default() -> Self {
        Self { depth: 64, tokens: 200_000 }
    }
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            pixels: 67_108_864,
            inflated: ByteSize::mib(256),
            memory: ByteSize::gib(1),
            cpu: Duration::from_secs(20),
            wall: Duration::from_secs(30),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/clearfilm"),
            free_min: ByteSize::gib(2),
            cache: ByteSize::mib(32),
            inbox_rows: 10_000,
            attempts: 2,
            trials: 8,
            trial_wall: Duration::from_secs(300),
            keep_images: Duration::from_secs(72 * 3600),
            keep_quarantine: Duration::from_secs(30 * 24 * 3600),
            keep_records: Duration::from_secs(400 * 24 * 3600),
        }
    }
}

impl Default for BundleChoice {
    fn default() -> Self {
        Self { path: PathBuf::new(), max_file: ByteSize::gib(1), unvalidated: false }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            modalities: vec!["DX".into(), "CR".into()],
            views: vec!["PA".into(), "AP".into()],
            min_age: 18,
            ood: OodPolicy::Withhold,
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self { language: "en".into() }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".into(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            root: "clearfilm/v1".into(),
            phi: Phi::None,
            keep_alive: Duration::from_secs(30),
            will_delay: Duration::from_secs(30),
            session_expiry: Duration::from_secs(60),
            exam_expiry: Duration::from_secs(86_400),
            health_period: Duration::from_secs(60),
            inflight: 64,
            max_packet: ByteSize::mib(1),
            retry_first: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(30),
            denied_retry_max: Duration::from_secs(60),
            receipts: Vec::new(),
            receipt_wait: Duration::from_secs(60),
            outbox_rows: 100_000,
            drain: Duration::from_secs(5),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        // A page takes milliseconds: the time is for a slow peer, and so is the room for others.
        Self { listen: "127.0.0.1:8080".into(), connections: 32, timeout: Duration::from_secs(10) }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { metrics: "127.0.0.1:9464".into(), log: "info".into(), log_format: LogFormat::Pretty }
    }
}
