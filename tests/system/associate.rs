//! A peer whose associations and messages are written byte by byte (PS3.8 9.3, PS3.7 6.3 and E):
//! it can propose and say what no library would, and sees every field of the answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::peers::DEADLINE;

/// DICOM's only application context (PS3.7 A.2.1).
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Data of one PDU: less than the least maximum length that the configuration allows.
const PIECE: usize = 4000;

/// What an A-ASSOCIATE-RQ asks for.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) called: String,
    pub(crate) calling: String,
    pub(crate) application_context: String,
    pub(crate) version: u16,
    /// Abstract syntax and transfer syntaxes; ids are 1, 3, 5.. in this order, so at most 128.
    pub(crate) contexts: Vec<(String, Vec<String>)>,
    /// Further items of the user information, whole.
    pub(crate) items: Vec<u8>,
}

impl Proposal {
    /// One context for each abstract syntax in each transfer syntax.
    pub(crate) fn of(classes: &[&str], syntaxes: &[&str]) -> Self {
        let each = |class: &&str| {
            let class = (*class).to_owned();
            syntaxes.iter().map(move |syntax| (class.clone(), vec![(*syntax).to_owned()]))
        };
        Self {
            called: "CLEARFILM".into(),
            calling: "TEST".into(),
            application_context: APPLICATION_CONTEXT.into(),
            version: 1,
            contexts: classes.iter().flat_map(each).collect(),
            items: Vec::new(),
        }
    }

    /// PS3.8 9.3.2.
    fn bytes(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([0, 0]);
        for title in [&self.called, &self.calling] {
            body.extend(format!("{title:16}").as_bytes());
        }
        body.extend([0; 32]);
        body.extend(item(0x10, self.application_context.as_bytes()));
        for (id, (class, syntaxes)) in (1_u8..=255).step_by(2).zip(&self.contexts) {
            let mut context = [vec![id, 0, 0, 0], item(0x30, class.as_bytes())].concat();
            context.extend(syntaxes.iter().flat_map(|syntax| item(0x40, syntax.as_bytes())));
            body.extend(item(0x20, &context));
        }
        let own =
            [item(0x51, &16_384_u32.to_be_bytes()), item(0x52, b"1.2.3.4.5.6"), self.items.clone()];
        body.extend(item(0x50, &own.concat()));
        pdu(1, &body)
    }
}

/// What comes back for a proposal.
pub(crate) enum Answer {
    Accepted(Association),
    /// Result, source and reason (PS3.8 9.3.4).
    Rejected([u8; 3]),
    /// Source and reason (PS3.8 9.3.8).
    Aborted([u8; 2]),
    Closed,
}

/// What comes back for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Status (0000,0900).
    Status(u16),
    /// Source and reason.
    Aborted([u8; 2]),
    Closed,
}

/// One presentation context of an A-ASSOCIATE-AC.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) id: u8,
    /// 0 accepted, 3 abstract syntax not supported, 4 transfer syntaxes not supported.
    pub(crate) result: u8,
    pub(crate) transfer_syntax: String,
}

/// An accepted association.
pub(crate) struct Association {
    socket: TcpStream,
    pub(crate) contexts: Vec<Negotiated>,
    /// Type and value of each item of the user information.
    pub(crate) items: Vec<(u8, Vec<u8>)>,
}

/// A connection on which nothing was said.
fn connect(peer: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(peer).expect("a connection");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    socket
}

/// Proposes, and gives the answer.
pub(crate) fn propose(peer: SocketAddr, proposal: &Proposal) -> Answer {
    let mut socket = connect(peer);
    socket.write_all(&proposal.bytes()).expect("it listens");
    match receive(&mut socket) {
        Some((2, body)) => Answer::Accepted(accepted(socket, &body)),
        Some((3, body)) => Answer::Rejected([body[1], body[2], body[3]]),
        Some((7, body)) => Answer::Aborted([body[2], body[3]]),
        _ => Answer::Closed,
    }
}

/// Proposes, and is accepted.
#[track_caller]
#[expect(clippy::panic, reason = "what is not accepted fails the test")]
pub(crate) fn associate(peer: SocketAddr, proposal: &Proposal) -> Association {
    match propose(peer, proposal) {
        Answer::Accepted(association) => association,
        Answer::Rejected(why) => panic!("expected an association, found rejection {why:?}"),
        Answer::Aborted(why) => panic!("expected an association, found abort {why:?}"),
        Answer::Closed => panic!("expected an association, found a closed connection"),
    }
}

/// PS3.8 9.3.3.
fn accepted(socket: TcpStream, body: &[u8]) -> Association {
    let mut association = Association { socket, contexts: Vec::new(), items: Vec::new() };
    for (kind, value) in items(&body[68..]) {
        match kind {
            0x21 => association.contexts.push(Negotiated {
                id: value[0],
                result: value[2],
                transfer_syntax: text(&value[8..]),
            }),
            0x50 => association.items = items(value).map(|(k, v)| (k, v.to_vec())).collect(),
            _ => {}
        }
    }
    association
}

impl Association {
    /// A connection on which no association was asked for.
    pub(crate) fn of_nothing(peer: SocketAddr) -> Self {
        Self { socket: connect(peer), contexts: Vec::new(), items: Vec::new() }
    }

    /// A command set, whole.
    pub(crate) fn command(&mut self, context: u8, command: &[u8]) {
        self.send(context, 3, command);
    }

    /// Fragments of a data set; `end` says whether the last of them is the last of all.
    pub(crate) fn data(&mut self, context: u8, bytes: &[u8], end: bool) {
        let pieces = bytes.chunks(PIECE).count();
        for (at, piece) in bytes.chunks(PIECE).enumerate() {
            self.send(context, if end && at + 1 == pieces { 2 } else { 0 }, piece);
        }
    }

    /// One P-DATA-TF of one value (PS3.8 9.3.5 and E.2); a peer that has hung up is noticed later.
    fn send(&mut self, context: u8, control: u8, bytes: &[u8]) {
        let length = u32::try_from(bytes.len() + 2).expect("short").to_be_bytes();
        self.raw(&pdu(4, &[length.as_slice(), &[context, control], bytes].concat()));
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        drop(self.socket.write_all(bytes));
    }

    /// Waits for what the peer says next.
    pub(crate) fn reply(&mut self) -> Reply {
        match receive(&mut self.socket) {
            Some((4, body)) => Reply::Status(status(&body[6..])),
            Some((7, body)) => Reply::Aborted([body[2], body[3]]),
            _ => Reply::Closed,
        }
    }

    /// A-RELEASE-RQ; is it answered?
    pub(crate) fn release(mut self) -> bool {
        self.raw(&pdu(5, &[0; 4]));
        matches!(receive(&mut self.socket), Some((6, _)))
    }

    /// A-ABORT by the service user.
    pub(crate) fn abort(mut self) {
        self.raw(&pdu(7, &[0; 4]));
    }
}

/// A command set (PS3.7 E): the elements that are given, by rising number, and their length.
pub(crate) fn command(
    field: u16,
    class: Option<&str>,
    instance: Option<&str>,
    data_set: bool,
) -> Vec<u8> {
    let uid = |text: &str| [text.as_bytes(), &vec![0; text.len() % 2]].concat();
    let number = |value: u16| value.to_le_bytes().to_vec();
    let elements = [
        (0x0002, class.map(uid)),
        (0x0100, Some(number(field))),
        (0x0110, Some(number(1))),
        (0x0700, data_set.then(|| number(0))),
        (0x0800, Some(number(if data_set { 0 } else { 0x0101 }))),
        (0x1000, instance.map(uid)),
    ];
    let present = elements.iter().filter_map(|(number, value)| Some((*number, value.as_ref()?)));
    let body: Vec<u8> = present.flat_map(|(number, value)| element(number, value)).collect();
    let length = u32::try_from(body.len()).expect("short").to_le_bytes();
    [element(0, &length), body].concat()
}

/// A data set of a Part 10 file: what stands behind its meta group (PS3.10 7.1).
pub(crate) fn data_set(file: &[u8]) -> &[u8] {
    let length: [u8; 4] = file[140..144].try_into().expect("four bytes");
    &file[144 + usize::try_from(u32::from_le_bytes(length)).expect("short")..]
}

fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("short").to_le_bytes();
    [&[0, 0], number.to_le_bytes().as_slice(), &length, value].concat()
}

fn status(mut command: &[u8]) -> u16 {
    while let [_, _, low, high, a, b, c, d, rest @ ..] = command {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).expect("short");
        if u16::from_le_bytes([*low, *high]) == 0x0900 {
            return u16::from_le_bytes([rest[0], rest[1]]);
        }
        command = &rest[length..];
    }
    u16::MAX
}

/// An item or sub-item with a length of 16 bits.
pub(crate) fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    [&[kind, 0], length.as_slice(), value].concat()
}

fn items(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, _, high, low, after @ ..] = rest else { return None };
        let (value, behind) = after.split_at(u16::from_be_bytes([*high, *low]).into());
        rest = behind;
        Some((*kind, value))
    })
}

/// A protocol data unit.
pub(crate) fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[kind, 0], length.as_slice(), body].concat()
}

/// The next PDU; none where the connection ends before it does.
fn receive(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 6];
    socket.read_exact(&mut header).ok()?;
    let [kind, _, length @ ..] = header;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?];
    socket.read_exact(&mut body).ok()?;
    Some((kind, body))
}

/// A UID or name, without its padding.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()
}
