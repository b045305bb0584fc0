//! Orthanc as the sender: an archive that routes what it was given on to this unit.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::peers::{
    Broker, DEADLINE, Process, Seen, Site, Subscriber, files_in, free_port, published, small,
    temporary, wait_until,
};
use crate::senders::syntax_of;

/// What it is given: explicit little endian and JPEG Lossless.
const SYNTAXES: [&str; 2] = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"];

/// A real Orthanc with a folder of its own, that knows one modality: this unit.
struct Orthanc {
    _folder: tempfile::TempDir,
    port: u16,
    _process: Process,
}

impl Orthanc {
    fn start(site: &Site) -> Self {
        let (folder, port) = (temporary(), free_port());
        let storage = folder.path().join("storage");
        let settings = json!({
            "Name": "archive",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": port,
            "DicomServerEnabled": false,
            "DicomAet": "ARCHIVE",
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "DicomModalities": { "clearfilm": ["CLEARFILM", "127.0.0.1", site.port] },
        });
        let file = folder.path().join("orthanc.json");
        fs::write(&file, settings.to_string()).expect("written");
        let child =
            Command::new("Orthanc").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let orthanc =
            Self { _folder: folder, port, _process: Process(child.expect("Orthanc is installed")) };
        wait_until("an archive", || {
            orthanc.exchange("GET", "/system", b"").is_some_and(|(status, _)| status == 200)
        });
        orthanc
    }

    /// One request over a connection of its own: status and body; none where nobody answers.
    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        socket.set_read_timeout(Some(DEADLINE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).ok()?;
        socket.write_all(body).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// A request that is answered with success; its body.
    #[track_caller]
    fn post(&self, path: &str, body: &[u8]) -> Value {
        let (status, body) = self.exchange("POST", path, body).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Gives it an object and has it sent to the unit: status and answer of the sending.
    #[track_caller]
    fn send_on(&self, file: &[u8]) -> (u16, Value) {
        let stored = self.post("/instances", file);
        assert_eq!(stored["Status"], "Success", "{stored}");
        let id = stored["ID"].as_str().expect("an instance of Orthanc's");
        self.exchange("POST", "/modalities/clearfilm/store", id.as_bytes()).expect("an answer")
    }
}

#[test]
fn orthanc_sends_on_what_it_was_given_and_it_is_read() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let daemon = site.run();
    let orthanc = Orthanc::start(&site);
    orthanc.post("/modalities/clearfilm/echo", b"{}");
    let folder = temporary();
    let (plain, study) = small(800);
    let (other, other_study) = small(801);
    let studies = [study, other_study];
    let (from, to) = (folder.path().join("from.dcm"), folder.path().join("to.dcm"));
    fs::write(&from, other).expect("written");
    let coded = Command::new("dcmcjpeg").arg("+e1").args([&from, &to]).status();
    assert!(coded.expect("DCMTK is installed").success());
    for file in [plain, fs::read(&to).expect("a file")] {
        let (status, sent) = orthanc.send_on(&file);
        assert_eq!((status, &sent["FailedInstancesCount"]), (200, &json!(0)), "{sent}");
    }
    let mut seen = Vec::new();
    subscriber.until("both exams published", &mut seen, |seen| published(seen) == 2);
    let findings = seen.iter().filter(|s| s.kind() == "findings");
    let read: BTreeSet<&str> = findings.filter_map(Seen::exam).collect();
    let exams = studies.map(|study| site.exam(&study));
    assert_eq!(read, exams.iter().map(String::as_str).collect());
    let spool = files_in(&site.storage().join("spool"), "dcm");
    let kept = spool.iter().map(|file| syntax_of(&fs::read(file).expect("a file")));
    assert_eq!(kept.collect::<BTreeSet<_>>(), SYNTAXES.map(Into::into).into(), "each in its own");
    // What this unit does not take is told as failed, so a success above is one.
    let class = b"1.2.840.10008.5.1.4.1.1.1.1\0".as_slice();
    let mammography = b"1.2.840.10008.5.1.4.1.1.1.2\0";
    let mut mammogram = small(802).0;
    while let Some(at) = mammogram.windows(class.len()).position(|w| w == class) {
        mammogram[at..at + class.len()].copy_from_slice(mammography);
    }
    assert_ne!(orthanc.send_on(&mammogram).0, 200, "a mammogram is not accepted");
    daemon.terminate();
    subscriber.end();
}
