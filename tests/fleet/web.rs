//! A repository on web servers that are slow, forgetful, behind a proxy or somebody else's.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::office::{Device, SCENE, binary, run};

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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let told = Arc::new(Told::default());
        let serving = Arc::clone(&told);
        let thread = std::thread::Builder::new().name("web".into()).spawn(move || {
            for connection in listener.incoming().flatten() {
                // A client that left is its own affair.
                drop(answer(connection, &folder, &serving));
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
#[expect(clippy::unwrap_in_result, reason = "only a client that left is no failure")]
fn answer(connection: TcpStream, folder: &Path, told: &Told) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut begin = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            told.ranges.fetch_add(1, Ordering::SeqCst);
            begin = range.trim_end_matches('-').parse().expect("a number");
        }
    }
    let mut connection = connection;
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let Ok(bytes) = fs::read(folder.join(path)) else {
        return connection
            .write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let partial = begin > 0 && !told.whole.load(Ordering::SeqCst);
    let body = if partial { &bytes[begin..] } else { &bytes[..] };
    let status = if partial { "206 Part" } else { "200 OK" };
    write!(
        connection,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    )?;
    if partial {
        write!(connection, "content-range: bytes {begin}-{}/{}\r\n", bytes.len() - 1, bytes.len())?;
    }
    connection.write_all(b"\r\n")?;
    let cut = usize::try_from(told.cut.load(Ordering::SeqCst)).expect("small");
    // Documents are whole, so that the files are what is cut.
    let body = if cut > 0 && path.starts_with("targets/models") {
        &body[..cut.min(body.len())]
    } else {
        body
    };
    told.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
    connection.write_all(body)
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
        server.told.cut.store(1 << 20, Ordering::SeqCst);
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

/// `openssl s_server` over a repository, with a certificate of its own for localhost.
struct Tls {
    child: Child,
    port: u16,
    certificate: PathBuf,
    _folder: tempfile::TempDir,
}

impl Tls {
    fn start(repository: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
                "-days",
                "2",
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl is installed").success());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = port.local_addr().expect("bound").port();
        let child = Command::new("openssl")
            .args(["s_server", "-WWW", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-key"])
            .arg(&key)
            .arg("-cert")
            .arg(&certificate)
            .current_dir(repository)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let listening = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let waited = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            listening()
        });
        assert!(waited, "openssl listens");
        Self { child, port, certificate, _folder: folder }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn only_the_sites_own_authority_is_believed_and_a_proxy_is_gone_through() {
    let tls = Tls::start(&SCENE.first);
    let url = format!("https://localhost:{}", tls.port);
    let said = fetch(&new_device(), &[("SOURCE", &url)]).expect_err("an unknown authority");
    assert!(said.contains("unreachable: "), "{said}");
    let ca = tls.certificate.to_str().expect("UTF-8");
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
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
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
