//! Bytes of a peer into the whole receiver, over loopback: negotiation, commands, data sets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clearfilm::clock::SystemClock;
use clearfilm::config::{DicomLimits, Scp, SopClass, UnknownPeers};
use clearfilm::ingest::{self, Accepted, Receiver, Spool, probe, send, syntax};
use clearfilm::metrics::Metrics;
use clearfilm::pulse::Pulses;

use crate::seeds;
use crate::targets::Target;

/// Longest silence of the receiver: its own limits are longer, so it has to end by itself when its
/// peer is done.
const SILENCE: Duration = Duration::from_secs(20);

/// Most that is heard of the receiver: answers to an input of echoes are as long as the input.
const HEARD_MAX: u64 = 1 << 20;

/// (0000,0100) of a C-STORE response (PS3.7 9.3.1.2).
const STORE_RESPONSE: &[u8] = b"\0\0\x00\x01\x02\0\0\0\x01\x80";
/// (0000,0900) of success (PS3.7 C).
const SUCCESS: &[u8] = b"\0\0\x00\x09\x02\0\0\0\x00\x00";

/// What the receiver's surroundings noticed.
#[derive(Default)]
struct Custody {
    taken: AtomicU64,
    distrusted: AtomicBool,
}

/// Every peer is answered in whole PDUs, told of success only for what was taken, and let go.
pub(crate) fn target() -> Target {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let custody = Arc::new(Custody::default());
    let receiver = receiver(folder.path(), &custody);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("bound");
    runtime.spawn(ingest::serve(listener, Arc::new(receiver), std::future::pending::<()>()));
    let echo = |called| recorded(address, |proxy| drop(send::echo(proxy, called, "FUZZ")));
    let store = |file: &Vec<u8>| {
        recorded(address, |proxy| drop(send::store(proxy, "CLEARFILM", "FUZZ", file)))
    };
    // Files in syntaxes that are not offered end at the negotiation.
    let offered = seeds::files().into_iter().take(2 * syntax::all().filter(|s| s.offered).count());
    let stored = offered.map(|file| store(&file));
    // Every tenth stands for its kind: each is a whole association.
    let bad = seeds::bad_files();
    let more = bad.iter().step_by(10).map(store).chain([echo("NOBODY")]).collect();
    let seeds = [echo("CLEARFILM")].into_iter().chain(stored).collect();
    let execute = move |bytes: &[u8]| {
        // Both live as long as the target.
        let (_runtime, _folder) = (&runtime, &folder);
        let before = custody.taken.load(Ordering::SeqCst);
        let heard = associate(address, bytes)?;
        let told = answers(&heard)?;
        let taken = custody.taken.load(Ordering::SeqCst) - before;
        if told.successes > taken {
            return Err(format!("told {} successes, took {taken} instances", told.successes));
        }
        if custody.distrusted.load(Ordering::SeqCst) {
            return Err("expected syncs that succeed, found one that failed".into());
        }
        Ok(told.words)
    };
    Target { seeds, honest: " 0000", more, execute: Box::new(execute) }
}

/// The receiver as it is configured by default, but for who may call and how often.
fn receiver(folder: &Path, custody: &Arc<Custody>) -> Receiver {
    let (taking, distrusting) = (Arc::clone(custody), Arc::clone(custody));
    Receiver {
        scp: Scp {
            unknown_peers: UnknownPeers::Accept,
            sop_classes: vec![SopClass::Cr, SopClass::Dx, SopClass::DxProcessing, SopClass::Sc],
            max_associations: 64,
            max_associations_per_peer: 64,
            associations_per_minute: usize::MAX,
            artim: 2 * SILENCE,
            idle_timeout: 2 * SILENCE,
            write_timeout: 2 * SILENCE,
            ..Scp::default()
        },
        peers: Vec::new(),
        tls: None,
        limits: DicomLimits::default(),
        inflated_max: 1 << 20,
        spool: Spool::open(folder).expect("a spool in an empty folder"),
        admit: Box::new(|| Ok(())),
        // A duplicate's file is removed at once, so that the folder stays empty.
        accept: Box::new(move |_| {
            taking.taken.fetch_add(1, Ordering::SeqCst);
            Ok(Accepted::Duplicate)
        }),
        distrust: Box::new(move || distrusting.distrusted.store(true, Ordering::SeqCst)),
        metrics: Arc::new(Metrics::new("", "", "")),
        pulse: Pulses::new(Arc::new(SystemClock)).of("receiver"),
        clock: Arc::new(SystemClock),
    }
}

/// What our own sender says in a conversation with the receiver.
fn recorded(server: SocketAddr, talk: impl FnOnce(SocketAddr)) -> Vec<u8> {
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = proxy.local_addr().expect("bound");
    thread::scope(|scope| {
        let recording = scope.spawn(move || {
            let (mut client, _) = proxy.accept().expect("our sender calls");
            let mut up = TcpStream::connect(server).expect("the receiver listens");
            let mut back = client.try_clone().expect("a handle");
            let mut down = up.try_clone().expect("a handle");
            let answering = thread::Builder::new().name("answers".into()).spawn(move || {
                // Ends with the receiver's last word; who is gone needs no more of it.
                drop(std::io::copy(&mut down, &mut back));
                drop(back.shutdown(Shutdown::Both));
            });
            let (mut said, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(length @ 1..) = client.read(&mut piece) {
                said.extend(&piece[..length]);
                if up.write_all(&piece[..length]).is_err() {
                    break;
                }
            }
            drop(up.shutdown(Shutdown::Write));
            drop(answering.map(thread::JoinHandle::join));
            said
        });
        talk(address);
        recording.join().expect("the recorder ends")
    })
}

/// Says everything at once, hangs up, and hears the receiver out.
fn associate(address: SocketAddr, bytes: &[u8]) -> Result<Heard, String> {
    let mut socket = loop {
        match TcpStream::connect(address) {
            Ok(socket) => break socket,
            // Every port waits for its last connection to be forgotten.
            Err(e) if e.kind() == ErrorKind::AddrNotAvailable => thread::yield_now(),
            Err(error) => return Err(format!("expected a receiver that listens, found {error}")),
        }
    };
    for limit in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        limit(&socket, Some(SILENCE)).map_err(|e| e.to_string())?;
    }
    // A receiver that has heard enough closes while we still speak.
    let said = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    let silent =
        |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    if said.as_ref().is_err_and(silent) {
        return Err(format!("expected a receiver that listens, found none within {SILENCE:?}"));
    }
    let mut heard = Vec::new();
    match socket.take(HEARD_MAX).read_to_end(&mut heard) {
        Ok(_) => Ok(Heard { bytes: heard, reset: false }),
        Err(error) if silent(&error) => {
            Err(format!("expected the end of the association, found none within {SILENCE:?}"))
        }
        // Closed with something of ours unread: what was on its way to us is lost too.
        Err(_) => Ok(Heard { bytes: heard, reset: true }),
    }
}

/// What the receiver said; after a reset perhaps not all of it.
struct Heard {
    bytes: Vec<u8>,
    reset: bool,
}

/// The receiver's answers: kinds of PDU and statuses, and how many stores succeeded.
struct Told {
    words: String,
    successes: u64,
}

/// Most answers that tell one conversation from another.
const WORDS_MAX: usize = 8;

/// Takes the receiver's answers apart: whole PDUs of kinds that an acceptor sends (PS3.8 9.3).
fn answers(heard: &Heard) -> Result<Told, String> {
    let mut words = Vec::new();
    let mut successes = 0;
    let mut rest = heard.bytes.as_slice();
    while let Some((&[kind, _, l0, l1, l2, l3], after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let Some((body, next)) =
            usize::try_from(length).ok().and_then(|l| after.split_at_checked(l))
        else {
            break;
        };
        rest = next;
        let word = match (kind, body) {
            (2 | 6, _) => format!("{kind}:{length}"),
            // Result or reserved, source, reason.
            (3 | 7, [_, result, source, reason]) => format!("{kind}:{result}.{source}.{reason}"),
            // One value of one command fragment (PS3.8 9.3.5.1).
            (4, [_, _, _, _, _, _, command @ ..]) => {
                let status = probe::status(command)?;
                let holds = |what: &[u8]| command.windows(what.len()).any(|w| w == what);
                successes += u64::from(holds(STORE_RESPONSE) && holds(SUCCESS));
                format!("{status:04x}")
            }
            _ => return Err(format!("expected an answer of an acceptor, found PDU type {kind}")),
        };
        words.push(word);
    }
    if !rest.is_empty() && !heard.reset {
        return Err(format!("expected whole PDUs, found {} bytes at the end", rest.len()));
    }
    words.truncate(WORDS_MAX);
    Ok(Told { words: words.join(" "), successes })
}
