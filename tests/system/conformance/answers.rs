//! Rejections, statuses and aborts: every case that the statement names, with the codes it names.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use clearfilm::ingest::send;

use super::{DX, EXPLICIT, table};
use crate::associate::{
    Answer, Association, Proposal, Reply, associate, command, data_set, pdu, propose,
};
use crate::peers::{Broker, Process, Site, binary, small, wait_until};

// Command fields, PS3.7 E.1.
const C_STORE_RQ: u16 = 0x0001;
const C_FIND_RQ: u16 = 0x0020;
const C_ECHO_RQ: u16 = 0x0030;
const C_ECHO_RSP: u16 = 0x8030;
const C_CANCEL_RQ: u16 = 0x0FFF;

const VERIFICATION: &str = "1.2.840.10008.1.1";
const CR: &str = "1.2.840.10008.5.1.4.1.1.1";

/// Largest object of the unit that is asked, bytes.
const OBJECT_MAX: usize = 1 << 20;

/// What was observed, case by case.
type Observed = BTreeMap<String, String>;

/// The table's cases and the leading code of the columns behind them are what was observed.
#[track_caller]
fn check(head: &str, columns: usize, observed: &Observed) {
    let code = |cell: &String| cell.split(',').next().unwrap_or_default().to_owned();
    let stated: Observed = table(head)
        .into_iter()
        .map(|row| {
            (row[0].clone(), row[1..=columns].iter().map(code).collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(&stated, observed);
}

/// A unit with settings of its own, each a key and its value.
fn run(site: &Site, settings: &[(&str, &str)]) -> Process {
    let mut command = Command::new(binary());
    for (key, value) in settings {
        command.env(format!("CLEARFILM__{}", key.replace('.', "__").to_uppercase()), value);
    }
    site.run_by(&mut command)
}

/// What a proposal is rejected with.
fn rejected(site: &Site, proposal: &Proposal) -> String {
    match propose(site.address(), proposal) {
        Answer::Rejected([result, source, reason]) => format!("{result} {source} {reason}"),
        Answer::Accepted(_) => "accepted".into(),
        Answer::Aborted(_) => "aborted".into(),
        Answer::Closed => "closed".into(),
    }
}

#[test]
fn every_rejection_has_the_reason_that_the_statement_says() {
    let broker = Broker::start();
    let peers = "\n[[dicom.peers]]\nae_title = \"TEST\"\n\
                 [[dicom.peers]]\nae_title = \"ELSEWHERE\"\naddresses = [\"192.0.2.1\"]\n";
    let site = Site::new(broker.port, peers);
    let daemon = run(&site, &[("dicom.scp.unknown_peers", "reject")]);
    let plain = Proposal::of(&[VERIFICATION], &[EXPLICIT]);
    let mut observed = Observed::new();
    let mut add = |case: &str, proposal: Proposal| {
        observed.insert(case.into(), rejected(&site, &proposal));
    };
    add("the called title is not ours", Proposal { called: "PACS".into(), ..plain.clone() });
    add("the calling title is not known", Proposal { calling: "NOBODY".into(), ..plain.clone() });
    add(
        "the calling title is known at another address",
        Proposal { calling: "ELSEWHERE".into(), ..plain.clone() },
    );
    let context = "1.2.840.10008.3.1.1.2";
    add(
        "the application context is another",
        Proposal { application_context: context.into(), ..plain.clone() },
    );
    add("the protocol version is not 1", Proposal { version: 2, ..plain.clone() });
    daemon.terminate();
    for (key, case) in [
        ("max_associations", "max_associations are open"),
        ("max_associations_per_peer", "max_associations_per_peer of this address are open"),
        ("associations_per_minute", "associations_per_minute of this address have begun"),
    ] {
        let site = Site::new(broker.port, "");
        let daemon = run(&site, &[(&format!("dicom.scp.{key}"), "1")]);
        // The echo that showed that it listens was the only one of its minute, or is just over.
        let mut held: Option<Association> = None;
        if key != "associations_per_minute" {
            wait_until("a free place", || {
                if let Answer::Accepted(association) = propose(site.address(), &plain) {
                    held = Some(association);
                }
                held.is_some()
            });
        }
        observed.insert(case.into(), rejected(&site, &plain));
        drop(held);
        daemon.terminate();
    }
    check("| case | result | source |", 3, &observed);
}

/// Asks one thing over an association of its own; what comes back.
fn ask(site: &Site, class: &str, command: &[u8], data: Option<&[u8]>) -> String {
    let mut association = associate(site.address(), &Proposal::of(&[class], &[EXPLICIT]));
    association.command(1, command);
    if let Some(data) = data {
        association.data(1, data, true);
    }
    let answer = match association.reply() {
        Reply::Status(status) => format!("{status:04X}"),
        other @ (Reply::Aborted(_) | Reply::Closed) => format!("{other:?}"),
    };
    assert!(association.release(), "the association goes on after {answer}");
    answer
}

/// Sends a file as it is.
fn store(site: &Site, file: &[u8]) -> String {
    let status = send::store(site.address(), "CLEARFILM", "TEST", file);
    format!("{:04X}", status.expect("an answer"))
}

/// Where the value of a UID stands in an explicit data set: its own SOP Instance UID, for one.
fn uid_in(data: &[u8], group: u16, number: u16) -> (usize, String) {
    let header = [group.to_le_bytes(), number.to_le_bytes(), *b"UI"].concat();
    let at = data.windows(6).position(|w| w == header).expect("the attribute is there");
    let length = usize::from(u16::from_le_bytes([data[at + 6], data[at + 7]]));
    (at, crate::associate::text(&data[at + 8..at + 8 + length]))
}

/// The data set without one attribute of a short length.
fn without(data: &[u8], group: u16, number: u16) -> Vec<u8> {
    let (at, _) = uid_in(data, group, number);
    let length = usize::from(u16::from_le_bytes([data[at + 6], data[at + 7]]));
    [&data[..at], &data[at + 8 + length..]].concat()
}

#[test]
fn every_status_is_answered_in_the_case_that_the_statement_names() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = run(&site, &[("dicom.scp.max_object", &OBJECT_MAX.to_string())]);
    let mut observed = Observed::new();
    let mut add = |case: &str, answer: String| observed.insert(case.to_owned(), answer);
    let (file, _) = small(900);
    let data = data_set(&file);
    let (_, instance) = uid_in(data, 8, 0x18);
    let changed = [&file[..file.len() - 2], &[1, 2]].concat();
    let as_announced = command(C_STORE_RQ, Some(DX), Some(&instance), true);
    let echo = command(C_ECHO_RQ, Some(VERIFICATION), None, false);
    add("C-ECHO", ask(&site, VERIFICATION, &echo, None));
    add("a new instance", store(&site, &file));
    add("the same instance again, with the same bytes", store(&site, &file));
    add("the same instance again, with other bytes", store(&site, &changed));
    let other = command(C_STORE_RQ, Some(DX), Some("1.2.3.4.900"), true);
    add("the command names another instance than the data set", ask(&site, DX, &other, Some(data)));
    add(
        "the command names another class than the presentation context",
        ask(&site, CR, &as_announced, Some(data)),
    );
    let nameless = command(C_STORE_RQ, Some(DX), None, true);
    add("the command names no instance", ask(&site, DX, &nameless, Some(data)));
    let large = [data, &vec![0; OBJECT_MAX]].concat();
    add(
        "a data set of more than dicom.scp.max_object",
        ask(&site, DX, &as_announced, Some(&large)),
    );
    add(
        "a data set that is malformed or beyond dicom.limits",
        ask(&site, DX, &as_announced, Some(&data[..data.len() - 100])),
    );
    let (file, _) = small(901);
    let (_, instance) = uid_in(data_set(&file), 8, 0x18);
    let announced = command(C_STORE_RQ, Some(DX), Some(&instance), true);
    let homeless = without(data_set(&file), 0x20, 0x0d);
    add("a data set without a Study Instance UID", ask(&site, DX, &announced, Some(&homeless)));
    let find = command(C_FIND_RQ, Some(DX), None, true);
    add("any request but C-ECHO and C-STORE", ask(&site, DX, &find, Some(data)));
    let empty = command(C_STORE_RQ, Some(DX), Some(&instance), false);
    add("C-STORE without a data set", ask(&site, DX, &empty, None));
    // The folder that objects arrive in is gone, as with a disk that fell out.
    fs::remove_dir_all(site.storage().join("spool/tmp")).expect("removed");
    add("the disk does not take it", store(&site, &file));
    daemon.terminate();
    for (key, value, case) in [
        ("storage.free_min", "1000TiB", "less room on the disk than storage.free_min"),
        ("storage.inbox_rows", "0", "storage.inbox_rows instances are not read yet"),
        ("mqtt.outbox_rows", "0", "mqtt.outbox_rows messages are not delivered yet"),
    ] {
        let site = Site::new(broker.port, "");
        let daemon = run(&site, &[(key, value)]);
        add(case, store(&site, &file));
        assert_eq!(fs::read_dir(site.storage().join("spool/tmp")).expect("a folder").count(), 0);
        daemon.terminate();
    }
    check("| case | status |", 1, &observed);
}

#[test]
fn a_cancel_is_heard_and_the_association_goes_on() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let mut association = associate(site.address(), &Proposal::of(&[VERIFICATION], &[EXPLICIT]));
    association.command(1, &command(C_CANCEL_RQ, None, None, false));
    association.command(1, &command(C_ECHO_RQ, Some(VERIFICATION), None, false));
    assert_eq!(association.reply(), Reply::Status(0));
    assert!(association.release());
    daemon.terminate();
}

/// Source and reason of the abort that follows.
fn aborted(reply: &Reply) -> String {
    match reply {
        Reply::Aborted([source, reason]) => format!("{source} {reason}"),
        Reply::Status(_) | Reply::Closed => format!("{reply:?}"),
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_association_as_the_statement_says() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = run(&site, &[("dicom.scp.max_pdu", "8192"), ("dicom.scp.idle_timeout", "5s")]);
    let mut observed = Observed::new();
    let mut add = |case: &str, say: &dyn Fn(&mut Association)| {
        let mut association = associate(site.address(), &Proposal::of(&[DX], &[EXPLICIT]));
        say(&mut association);
        observed.insert(case.to_owned(), aborted(&association.reply()));
    };
    let echo = command(C_ECHO_RQ, Some(VERIFICATION), None, false);
    let begin = command(C_STORE_RQ, Some(DX), Some("1.2.3.4.910"), true);
    add("a presentation context that was not accepted", &|a| a.command(3, &echo));
    add("a data set without a command", &|a| a.data(1, &[0; 100], true));
    add("a command within a data set", &|a| {
        a.command(1, &begin);
        a.data(1, &[0; 100], false);
        a.command(1, &echo);
    });
    let response = command(C_ECHO_RSP, Some(VERIFICATION), None, false);
    add("a response that nobody asked for", &|a| a.command(1, &response));
    add("a command set that is malformed or longer than 16 KiB", &|a| a.command(1, &[0xff; 64]));
    // Its header is enough: it tells 9,000 bytes.
    add("a PDU of more than dicom.scp.max_pdu", &|a| a.raw(&[4, 0, 0, 0, 0x23, 0x28]));
    add("no whole PDU within dicom.scp.idle_timeout", &|_| {});
    for (case, bytes) in [
        ("data before an association", pdu(4, &[0, 0, 0, 4, 1, 3, 0, 0])),
        ("an unknown PDU before an association", pdu(0x77, &[0; 4])),
    ] {
        let mut association = Association::of_nothing(site.address());
        association.raw(&bytes);
        observed.insert(case.to_owned(), aborted(&association.reply()));
    }
    // A command set that never ends, in fragments that each fit.
    let mut association = associate(site.address(), &Proposal::of(&[DX], &[EXPLICIT]));
    let fragment = pdu(4, &[3002_u32.to_be_bytes().as_slice(), &[1, 1], &[0; 3000]].concat());
    (0..6).for_each(|_| association.raw(&fragment));
    assert_eq!(aborted(&association.reply()), "2 0");
    daemon.terminate();
    check("| case | source | reason |", 2, &observed);
}
