//! Is `docs/dicom-conformance.md` true? Each row of its tables is held against a running unit.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clearfilm::config::Config;
use clearfilm_tests::text;

use crate::associate::{
    APPLICATION_CONTEXT, Negotiated, Proposal, associate, item, text as uid_of,
};
use crate::peers::{Broker, Site};

/// Contexts of one association: their ids are odd and have 8 bits (PS3.8 9.3.2.2).
const CONTEXTS_MAX: usize = 128;

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DX: &str = "1.2.840.10008.5.1.4.1.1.1.1";

/// Services that modalities and archives ask for (PS3.6 A): storage commitment, worklist, performed
/// procedure step, query and retrieve, print, unified procedure step, instance availability.
const SERVICES: [&str; 17] = [
    "1.2.840.10008.1.20.1",
    "1.2.840.10008.1.3.10",
    "1.2.840.10008.3.1.2.3.3",
    "1.2.840.10008.3.1.2.3.5",
    "1.2.840.10008.5.1.1.9",
    "1.2.840.10008.5.1.1.14",
    "1.2.840.10008.5.1.1.18",
    "1.2.840.10008.5.1.4.1.2.1.1",
    "1.2.840.10008.5.1.4.1.2.1.2",
    "1.2.840.10008.5.1.4.1.2.1.3",
    "1.2.840.10008.5.1.4.1.2.2.1",
    "1.2.840.10008.5.1.4.1.2.2.2",
    "1.2.840.10008.5.1.4.1.2.2.3",
    "1.2.840.10008.5.1.4.31",
    "1.2.840.10008.5.1.4.33",
    "1.2.840.10008.5.1.4.34.6.1",
    "1.2.840.10008.5.1.4.34.6.3",
];

/// The rows of the table with these first titles, cells without code marks.
fn table(head: &str) -> Vec<Vec<String>> {
    let document = text("docs/dicom-conformance.md");
    let mut lines = document.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some() && lines.next().is_some(), "expected a table {head}");
    let rows = lines.take_while(|line| line.starts_with('|')).map(cells);
    let rows: Vec<Vec<String>> = rows.collect();
    assert!(!rows.is_empty(), "expected rows under {head}");
    rows
}

fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()
}

/// SOP classes of the statement: UID, word of the configuration, default.
fn classes() -> Vec<[String; 3]> {
    let rows = table("| SOP class | UID |").into_iter();
    rows.map(|row| [row[1].clone(), row[3].clone(), row[4].clone()]).collect()
}

fn syntaxes() -> Vec<String> {
    table("| transfer syntax | UID |").into_iter().map(|row| row[1].clone()).collect()
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Proposes abstract and transfer syntaxes, one a context, and gives the result of each.
fn results(site: &Site, contexts: &[(String, Vec<String>)]) -> Vec<Negotiated> {
    let mut results = Vec::new();
    for contexts in contexts.chunks(CONTEXTS_MAX) {
        let proposal = Proposal { contexts: contexts.into(), ..Proposal::of(&[], &[]) };
        let association = associate(site.address(), &proposal);
        assert_eq!(association.contexts.len(), contexts.len());
        for (id, answer) in (1_u8..=255).step_by(2).zip(&association.contexts) {
            assert_eq!(answer.id, id);
        }
        results.extend(association.contexts);
    }
    results
}

/// UIDs that begin with `root` and end in one number.
fn under(root: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| format!("{root}.{number}")).collect()
}

#[test]
fn every_class_of_the_statement_is_accepted_in_every_syntax_of_it() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let syntaxes = syntaxes();
    for [class, ..] in classes() {
        let proposal = Proposal::of(&[&class], &strs(&syntaxes));
        let association = associate(site.address(), &proposal);
        let accepted = association.contexts.iter().filter(|c| c.result == 0);
        let accepted: Vec<&str> = accepted.map(|c| c.transfer_syntax.as_str()).collect();
        assert_eq!(accepted, strs(&syntaxes), "{class}");
        assert!(association.release(), "a release is answered");
    }
    let read = clearfilm::ingest::syntax::all().filter(|s| s.offered).map(|s| s.uid);
    assert_eq!(read.collect::<BTreeSet<_>>(), strs(&syntaxes).into_iter().collect());
    daemon.terminate();
}

#[test]
fn no_other_class_and_no_other_syntax_is_accepted() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    // Storage SOP classes have these roots (PS3.6 A): all of them, and what may come.
    let storage = "1.2.840.10008.5.1.4.1.1";
    let others = under(storage, 1..=700)
        .into_iter()
        .chain((1..=20).flat_map(|n| under(&format!("{storage}.{n}"), 1..=20)))
        .chain(under(&format!("{storage}.1.1"), 1..=20))
        .chain(under(&format!("{storage}.88"), 1..=80))
        .chain(SERVICES.map(Into::into));
    let known: Vec<String> = classes().into_iter().map(|[uid, ..]| uid).collect();
    let others: Vec<(String, Vec<String>)> = others
        .filter(|uid| !known.contains(uid))
        .map(|uid| (uid, vec![EXPLICIT.to_owned()]))
        .collect();
    assert!(others.len() > 1000, "{}", others.len());
    for (answer, (class, _)) in results(&site, &others).iter().zip(&others) {
        assert_eq!(answer.result, 3, "{class}: abstract syntax not supported");
    }
    let root = "1.2.840.10008.1.2";
    let syntaxes = syntaxes();
    let others = under(root, 1..=10)
        .into_iter()
        .chain(under(&format!("{root}.1"), 1..=120))
        .chain(under(&format!("{root}.4"), 1..=300))
        .chain(under(&format!("{root}.7"), 1..=10))
        .chain(["1.2.840.113619.5.2".into(), "1.2.3".into()]);
    let others: Vec<(String, Vec<String>)> = others
        .filter(|uid| !syntaxes.contains(uid))
        .map(|uid| (DX.to_owned(), vec![uid]))
        .collect();
    assert!(others.len() > 400, "{}", others.len());
    for (answer, (_, syntax)) in results(&site, &others).iter().zip(&others) {
        assert_eq!(answer.result, 4, "{syntax:?}: transfer syntaxes not supported");
    }
    daemon.terminate();
}

#[test]
fn the_receiver_says_who_it_is_and_negotiates_nothing_more() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let class = |value: &[u8]| [&[0, 27], DX.as_bytes(), value].concat();
    // Asynchronous operations, roles, extended negotiation of storage, and a user identity.
    let items = [
        item(0x53, &[0, 8, 0, 8]),
        item(0x54, &class(&[1, 1])),
        item(0x56, &class(&[2, 0, 0, 0, 0, 0])),
        item(0x58, &[1, 1, 0, 4, b'n', b'a', b'm', b'e', 0, 0]),
    ];
    let proposal = Proposal { items: items.concat(), ..Proposal::of(&[DX], &[EXPLICIT]) };
    let association = associate(site.address(), &proposal);
    let kinds: Vec<u8> = association.items.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x51, 0x52, 0x55]);
    let stated: BTreeMap<String, String> =
        table("| what | value |").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let [longest, class, version] = [0, 1, 2].map(|at: usize| association.items[at].1.clone());
    assert_eq!(stated["implementation class UID"], uid_of(&class));
    assert_eq!(stated["implementation version name"], uid_of(&version));
    let longest = u32::from_be_bytes(longest.try_into().expect("four bytes"));
    let document = text("docs/dicom-conformance.md");
    assert!(document.contains(&format!("`dicom.scp.max_pdu` bytes, by default {longest}.")));
    assert!(document.contains(&format!("The application context is {APPLICATION_CONTEXT}.")));
    daemon.terminate();
}

#[test]
fn of_several_syntaxes_the_first_that_is_listed_is_taken() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let daemon = site.run();
    let big_endian = "1.2.840.10008.1.2.2".to_owned();
    for listed in [syntaxes(), syntaxes().into_iter().rev().collect()] {
        let proposed = [[big_endian.clone()].as_slice(), &listed].concat();
        let contexts = vec![(DX.to_owned(), proposed); 2];
        let association =
            associate(site.address(), &Proposal { contexts, ..Proposal::of(&[], &[]) });
        for context in &association.contexts {
            assert_eq!((context.result, &context.transfer_syntax), (0, &listed[0]));
        }
    }
    daemon.terminate();
}

#[test]
fn the_default_classes_are_those_that_are_marked() {
    let marked: BTreeSet<String> = classes()
        .into_iter()
        .filter(|[_, _, default]| default == "yes")
        .map(|[uid, ..]| uid)
        .collect();
    let words: Vec<String> = serde_json::to_value(Config::default().dicom.scp.sop_classes)
        .and_then(serde_json::from_value)
        .expect("words");
    let chosen: BTreeSet<String> = classes()
        .into_iter()
        .filter(|[_, word, _]| word == "always" || words.contains(word))
        .map(|[uid, ..]| uid)
        .collect();
    assert_eq!(chosen, marked);
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let file = site.folder.path().join("config.toml");
    let config = fs::read_to_string(&file).expect("written");
    let others = config.lines().filter(|line| !line.starts_with("sop_classes"));
    fs::write(&file, others.collect::<Vec<_>>().join("\n")).expect("written");
    let daemon = site.run();
    let proposed: Vec<(String, Vec<String>)> =
        classes().into_iter().map(|[uid, ..]| (uid, vec![EXPLICIT.to_owned()])).collect();
    let accepted = results(&site, &proposed);
    let accepted = proposed.iter().zip(accepted).filter(|(_, answer)| answer.result == 0);
    assert_eq!(accepted.map(|((uid, _), _)| uid.clone()).collect::<BTreeSet<_>>(), marked);
    daemon.terminate();
}

#[test]
fn every_parameter_has_the_default_that_the_statement_says() {
    let mut defaults = BTreeMap::new();
    let mut section = String::new();
    for line in text("docs/config.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.split(" #").next().unwrap_or_default().trim().trim_matches('"');
            defaults.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    let stated: BTreeMap<String, String> = table("| key | default |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    for (key, stated) in stated.iter().filter(|(key, _)| *key != "dicom.scp.sop_classes") {
        assert_eq!(defaults.get(key), Some(stated), "{key}");
    }
    let ours = |key: &&String| {
        let section = key.rsplit_once('.').map(|(section, _)| section);
        matches!(section, Some("dicom" | "dicom.scp" | "dicom.limits"))
    };
    let missed: Vec<&String> =
        defaults.keys().filter(ours).filter(|key| !stated.contains_key(*key)).collect();
    assert!(missed.is_empty(), "keys that the statement does not name: {missed:?}");
}
