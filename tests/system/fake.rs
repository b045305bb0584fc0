//! A broker of few lines that misbehaves on purpose (MQTT 5, OASIS 2019). What it takes it keeps,
//! so that a test can ask what arrived.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::peers::wait_until;

/// CONNACK: no session, success, no properties.
pub(crate) const WELCOME: [u8; 5] = [0x20, 3, 0, 0, 0];

/// Reason codes of a PUBACK (MQTT 5 3.4.2.1).
pub(crate) const SUCCESS: u8 = 0x00;
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;

/// A PUBLISH at least once, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) topic: String,
    pub(crate) body: Vec<u8>,
    /// Which connection it came by, from 0.
    pub(crate) connection: usize,
}

impl Published {
    pub(crate) fn kind(&self) -> &str {
        self.topic.rsplit('/').next().expect("a topic has levels")
    }

    pub(crate) fn envelope(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What the broker does with a message.
pub(crate) enum Reaction {
    /// PUBACK with this reason code.
    Answer(u8),
    /// Nothing, ever.
    Silence,
    /// Bytes, whatever they are.
    Say(Vec<u8>),
    /// The connection ends.
    HangUp,
}

/// What the broker says to a CONNECT, by connection.
type Greeting = dyn Fn(usize) -> Vec<u8> + Send + Sync;
/// What it does with a message.
type Temper = dyn Fn(&Published) -> Reaction + Send + Sync;

/// What it has seen.
#[derive(Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    pings: AtomicUsize,
    taken: Mutex<Vec<Published>>,
}

impl Seen {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn pings(&self) -> usize {
        self.pings.load(Ordering::SeqCst)
    }

    fn take(&self, message: Published) {
        self.taken.lock().expect("no panic holds it").push(message);
    }

    /// What was acknowledged with success.
    pub(crate) fn taken(&self) -> Vec<Published> {
        self.taken.lock().expect("no panic holds it").clone()
    }

    /// Exams that were told to be published.
    pub(crate) fn published(&self) -> usize {
        let told = |p: &&Published| p.envelope()["payload"]["state"] == "published";
        let taken = self.taken();
        let mut exams: Vec<&str> = taken.iter().filter(told).map(|p| p.topic.as_str()).collect();
        exams.sort_unstable();
        exams.dedup();
        exams.len()
    }

    #[track_caller]
    pub(crate) fn wait_published(&self, exams: usize) {
        wait_until("every exam published", || self.published() == exams);
    }
}

/// Starts one on a port of loopback; it ends with the test's process.
pub(crate) fn broker(
    greeting: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    temper: impl Fn(&Published) -> Reaction + Send + Sync + 'static,
) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::new(Seen::default());
    let (greeting, temper): (Arc<Greeting>, Arc<Temper>) = (Arc::new(greeting), Arc::new(temper));
    let kept = seen.clone();
    let accepting = std::thread::Builder::new().name("fake-broker".into()).spawn(move || {
        for socket in listener.incoming().flatten() {
            let number = seen.connections.fetch_add(1, Ordering::SeqCst);
            let (seen, greeting, temper) = (seen.clone(), greeting.clone(), temper.clone());
            let talk = move || drop(converse(socket, number, &seen, &*greeting, &*temper));
            let talking = std::thread::Builder::new().name("fake-connection".into()).spawn(talk);
            drop(talking.expect("a thread can be started"));
        }
    });
    drop(accepting.expect("a thread can be started"));
    (port, kept)
}

fn converse(
    mut socket: TcpStream,
    connection: usize,
    seen: &Seen,
    greeting: &Greeting,
    temper: &Temper,
) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    loop {
        let (kind, body) = packet(&mut socket)?;
        match kind >> 4 {
            // CONNECT
            1 => socket.write_all(&greeting(connection))?,
            // PUBLISH
            3 => {
                let at_least_once = kind & 0b0110 != 0;
                let (message, id) = publish(&body, at_least_once, connection);
                if !at_least_once {
                    continue;
                }
                match temper(&message) {
                    Reaction::Answer(reason) => {
                        if reason == SUCCESS {
                            seen.take(message);
                        }
                        let [high, low] = id.to_be_bytes();
                        socket.write_all(&[0x40, 3, high, low, reason])?;
                    }
                    Reaction::Silence => {}
                    Reaction::Say(bytes) => socket.write_all(&bytes)?,
                    Reaction::HangUp => return Ok(()),
                }
            }
            // PINGREQ
            12 => {
                seen.pings.fetch_add(1, Ordering::SeqCst);
                socket.write_all(&[0xd0, 0])?;
            }
            // DISCONNECT
            14 => return Ok(()),
            _ => {}
        }
    }
}

/// One packet: its first byte, and what follows the length.
fn packet(socket: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    socket.read_exact(&mut byte)?;
    let kind = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        socket.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((kind, body))
}

/// Topic, packet id and payload of a PUBLISH (MQTT 5 3.3).
fn publish(body: &[u8], at_least_once: bool, connection: usize) -> (Published, u16) {
    let short = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let mut at = 2 + usize::from(short(0));
    let topic = String::from_utf8_lossy(&body[2..at]).into_owned();
    let mut id = 0;
    if at_least_once {
        id = short(at);
        at += 2;
    }
    let (mut properties, mut shift) = (0_usize, 0);
    loop {
        let byte = body[at];
        at += 1;
        properties |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (Published { topic, body: body[at + properties..].to_vec(), connection }, id)
}
