//! A repository on web servers that forget, that say nothing, that are behind a proxy, or somebody
//! else's.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::office::{Device, SCENE, binary, run};

/// Where a connection ends, bytes: less than the bundle's largest file, so that it takes several.
const CUT: u64 = 1 << 18;

/// A web server of plain files.
struct Server {
    address: SocketAddr,
    told: Arc<Told>,
}

/// How it behaves, and what it did.
#[derive(Default)]
struct Told {
    /// Bytes of a body after which the connection ends; 0: all.
    cut: AtomicU64,
    /// Does it ignore ranges?
    whole: std::sync::atomic::AtomicBool,
    /// Bytes of bodies that were sent.
    sent: AtomicU64,
    /// Requests for a range.
    ranges: AtomicU64,
}

impl Server {
    fn start(folder: PathBuf) -> Self {
        Self::start_with(folder, None)
    }

    fn start_with(folder: PathBuf, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let told = Arc::new(Told::default());
        let serving = Arc::clone(&told);
        let thread = std::thread::Builder::new().name("web".into()).spawn(move || {
            for mut connection in listener.incoming().flatten() {
                // A client that left is its own affair.
                drop(match &tls {
                    None => answer(&mut connection, &folder, &serving),
                    Some(tls) => {
                        let session = ServerConnection::new(Arc::clone(tls)).expect("a session");
                        let mut secure = StreamOwned::new(session, connection);
                        let answered = answer(&mut secure, &folder, &serving);
                        secure.conn.send_close_notify();
                        answered.and(secure.flush())
                    }
                });
            }
        });
        drop(thread.expect("a thread"));
        Self { address, told }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn sent(&self) -> u64 {
        self.told.sent.swap(0, Ordering::SeqCst)
    }
}

/// One request, one answer.
fn answer(connection: &mut (impl Read + Write), folder: &Path, told: &Told) -> std::io::Result<()> {
    let head = head_of(connection)?;
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let begin = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
    told.ranges.fetch_add(u64::from(range.is_some()), Ordering::SeqCst);
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let Ok(bytes) = fs::read(folder.join(path)) else {
        let gone = b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return connection.write_all(gone);
    };
    let partial = begin > 0 && !told.whole.load(Ordering::SeqCst);
    let body = if partial { &bytes[begin..] } else { &bytes[..] };
    let status = if partial { "206 Part" } else { "200 OK" };
    let length = body.len();
    write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n")?;
    if partial {
        write!(connection, "content-range: bytes {begin}-{}/{}\r\n", bytes.len() - 1, bytes.len())?;
    }
    connection.write_all(b"\r\n")?;
    // Documents are whole, so that the files are what is cut.
    let cut = usize::try_from(told.cut.load(Ordering::SeqCst)).unwrap_or(0);
    let sent = if cut > 0 && path.starts_with("targets/models") { length.min(cut) } else { length };
    told.sent.fetch_add(sent as u64, Ordering::SeqCst);
    connection.write_all(&body[..sent])?;
    connection.flush()
}

/// A request up to its empty line, its names in lower case.
fn head_of(connection: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    let (request, fields) = text.split_once("\r\n").unwrap_or((&text, ""));
    Ok(format!("{request}\n{}", fields.to_ascii_lowercase().replace('\r', "")))
}

/// Asks and fetches with these settings.
fn fetch(device: &Device, settings: &[(&str, &str)]) -> Result<String, String> {
    let mut command = Command::new(binary());
    command.args(["update", "fetch", "--config"]).arg(device.folder.path().join("config.toml"));
    for (key, value) in settings {
        command.env(format!("CLEARFILM__UPDATE__{key}"), value);
    }
    run(&mut command)
}

fn new_device() -> Device {
    Device::shipped(&SCENE.first.join("metadata/1.root.json"))
}

#[test]
fn what_was_interrupted_goes_on_where_it_ended() {
    let server = Server::start(SCENE.office.repository());
    let device = new_device();
    let settings = [("SOURCE", server.url())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let total: u64 = {
        fetch(&device, &settings).expect("it installs");
        server.sent()
    };
    for whole in [false, true] {
        let device = new_device();
        server.told.whole.store(whole, Ordering::SeqCst);
        server.told.cut.store(CUT, Ordering::SeqCst);
        let mut ended = 0;
        while let Err(said) = fetch(&device, &settings) {
            assert!(said.contains("unreachable: ") || said.contains("content: "), "{said}");
            ended += 1;
            assert!(ended < 100, "it goes on: {said}");
            if whole {
                // A server without ranges sends all of it again; it gets further when it is let.
                server.told.cut.store(0, Ordering::SeqCst);
            }
        }
        assert!(ended > 0, "it was interrupted");
        let sent = server.sent();
        if !whole {
            assert!(server.told.ranges.swap(0, Ordering::SeqCst) > 0, "it asked for the rest");
            // Nothing of the files came twice; the documents did, each time.
            assert!(sent < total + (ended + 1) * 200_000, "{sent} of {total} in {ended}");
        }
    }
}

#[test]
fn a_second_release_brings_only_what_is_new() {
    let first = Server::start(SCENE.first.clone());
    let second = Server::start(SCENE.office.repository());
    let device = new_device();
    fetch(&device, &[("SOURCE", &first.url())]).expect("it installs");
    let bundle = first.sent();
    fetch(&device, &[("SOURCE", &second.url())]).expect("it installs");
    let update = second.sent();
    assert!(update * 20 < bundle, "{update} bytes after {bundle}");
}

#[test]
fn nobodys_server_and_a_wrong_one_say_so() {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("bound");
    let said = fetch(&new_device(), &[("SOURCE", &format!("http://{port}"))]).expect_err("refused");
    assert!(said.contains("unreachable: "), "{said}");
    let empty = tempfile::tempdir().expect("a folder");
    let server = Server::start(empty.path().into());
    let said = fetch(&new_device(), &[("SOURCE", &server.url())]).expect_err("refused");
    assert!(said.contains("not-there: "), "{said}");
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let said = fetch(&new_device(), &[("SOURCE", &url), ("WAIT", "1s")]).expect_err("it is left");
    assert!(said.contains("unreachable: "), "{said}");
}

/// A certificate of its own for localhost, and what a server needs to show it.
fn tls(folder: &Path) -> (PathBuf, Arc<ServerConfig>) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let config = folder.join("openssl.cnf");
    let text = "[req]\ndistinguished_name = name\nprompt = no\nx509_extensions = what\n\
                [name]\nCN = localhost\n\
                [what]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n";
    fs::write(&config, text).expect("written");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-days", "2", "-config"])
        .arg(config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl is installed").success());
    let shown = CertificateDer::from_pem_file(&certificate).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&key).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![shown], key);
    (certificate, Arc::new(config.expect("a certificate and its key")))
}

#[test]
fn only_the_sites_own_authority_is_believed_and_a_proxy_is_gone_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, tls) = tls(folder.path());
    let server = Server::start_with(SCENE.first.clone(), Some(tls));
    let url = format!("https://localhost:{}", server.address.port());
    let said = fetch(&new_device(), &[("SOURCE", &url)]).expect_err("an unknown authority");
    assert!(said.contains("unreachable: "), "{said}");
    let ca = certificate.to_str().expect("UTF-8");
    let proxy = Proxy::start();
    let address = format!("http://{}", proxy.address);
    let settings = [("SOURCE", url.as_str()), ("CA_FILE", ca), ("PROXY", &address)];
    let told = fetch(&new_device(), &settings).expect("it installs");
    assert!(told.starts_with("run 0.1.0\n"), "{told}");
    assert!(proxy.tunnels.load(Ordering::SeqCst) > 5, "by the proxy");
}

/// A proxy that makes tunnels (RFC 9110 9.3.6) to where it is told.
struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicU64>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let tunnels = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&tunnels);
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let tunnel = std::thread::Builder::new().name("tunnel".into());
                drop(tunnel.spawn(move || tunnel_of(client)).expect("a thread"));
            }
        });
        drop(thread.expect("a thread"));
        Self { address, tunnels }
    }
}

fn tunnel_of(mut client: TcpStream) -> std::io::Result<()> {
    let head = head_of(&mut client)?;
    let target = head.split(' ').nth(1).unwrap_or_default().replace("localhost", "127.0.0.1");
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::Builder::new()
        .name("up".into())
        .spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)?;
    drop(up?.join());
    Ok(())
}
