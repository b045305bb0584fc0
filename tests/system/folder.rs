//! The second door: files that are put into a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use clearfilm::phantom::{Encoding, Photometric};

use crate::corpus;
use crate::peers::{
    Broker, Process, Site, Subscriber, binary, files_in, phantom, published, radiographs, small,
    wait_until,
};

fn run(site: &Site, folder: &Path) -> Process {
    let mut command = Command::new(binary());
    command
        .env("CLEARFILM__INBOX__FOLDER", folder)
        .env("CLEARFILM__INBOX__EVERY", "100ms")
        .env("CLEARFILM__INBOX__REST", "300ms");
    site.run_by(&mut command)
}

/// Files of a folder, without its subfolders.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_file())).count()
}

#[test]
fn files_of_a_folder_are_read_and_removed_and_what_is_none_is_set_aside_with_the_reason() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let folder = site.folder.path().join("inbox");
    fs::create_dir(&folder).expect("made");
    let daemon = run(&site, &folder);
    let subscriber = Subscriber::start(broker.port, &[]);
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("written");
    for seed in 0..3 {
        put(&format!("PHANTOM^{seed}.dcm"), &small(seed).0);
    }
    put("the same again.dcm", &small(0).0);
    // What is no object, what is hidden, and what is no file.
    put("note.txt", b"PHANTOM^1 was here");
    put("empty.dcm", b"");
    put("cut.dcm", &small(4).0[..300]);
    put(".hidden.dcm", &small(5).0);
    fs::create_dir(folder.join("folder.dcm")).expect("made");
    symlink("/etc/hostname", folder.join("link.dcm")).expect("linked");
    let mut seen = Vec::new();
    subscriber.until("three exams", &mut seen, |seen| published(seen) == 3);
    let refused = folder.join("refused");
    wait_until("three files set aside", || refused.is_dir() && files(&refused) == 6);
    let reason = fs::read_to_string(refused.join("note.txt.reason.txt")).expect("a reason");
    assert!(reason.contains("expected preamble and prefix DICM"), "{reason}");
    assert_eq!(files(&folder), 1, "the hidden one");
    assert_eq!(site.ask(&["status", "--json"])["readings"], 3, "the same bytes once");
    daemon.terminate();
    subscriber.end();
}

#[test]
fn bad_files_of_a_folder_stop_no_good_one() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let folder = site.folder.path().join("inbox");
    fs::create_dir(&folder).expect("made");
    let cases = corpus::cases();
    for (at, case) in cases.iter().enumerate() {
        fs::write(folder.join(format!("{at}.dcm")), &case.file).expect("written");
    }
    fs::write(folder.join("good.dcm"), small(1).0).expect("written");
    let daemon = run(&site, &folder);
    let subscriber = Subscriber::start(broker.port, &[]);
    let mut seen = Vec::new();
    let exam = site.exam(&small(1).1);
    subscriber.until("the good one", &mut seen, |seen| {
        seen.iter().any(|s| s.exam() == Some(&exam) && s.kind() == "report")
    });
    wait_until("an empty folder", || files(&folder) == 0);
    let aside = files(&folder.join("refused")) / 2;
    eprintln!("{} bad files, {aside} set aside in the folder", cases.len());
    assert!(aside > cases.len() / 2);
    daemon.terminate();
    subscriber.end();
}

#[test]
fn a_file_waits_in_its_folder_while_there_is_no_room() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let folder = site.folder.path().join("inbox");
    fs::create_dir(&folder).expect("made");
    let encoding =
        Encoding { rows: 64, columns: 64, bits_stored: 8, photometric: Photometric::Monochrome1 };
    fs::write(folder.join("one.dcm"), phantom(1, &encoding).0).expect("written");
    let mut command = Command::new(binary());
    command.env("CLEARFILM__INBOX__FOLDER", &folder).env("CLEARFILM__STORAGE__FREE_MIN", "900PB");
    let daemon = site.run_by(&mut command);
    wait_until("a file that has to wait", || {
        fs::read_to_string(site.log()).is_ok_and(|log| log.contains("has to wait"))
    });
    assert_eq!(files(&folder), 1);
    daemon.terminate();
    let daemon = run(&site, &folder);
    wait_until("an empty folder", || files(&folder) == 0);
    daemon.terminate();
}

#[test]
fn deflated_and_big_endian_files_come_in_by_the_folder() {
    let Some(data) = radiographs("the watched folder") else { return };
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let folder = site.folder.path().join("inbox");
    fs::create_dir(&folder).expect("made");
    let files_there = files_in(&data.join("dicom-wrapped"), "dcm");
    for file in &files_there {
        fs::copy(file, folder.join(file.file_name().expect("a name"))).expect("copied");
    }
    let daemon = run(&site, &folder);
    wait_until("an empty folder", || files(&folder) == 0);
    assert!(!folder.join("refused").exists(), "every encoding is taken");
    let wanted = files_there.len() as u64;
    wait_until("all read", || site.ask(&["status", "--json"])["readings"] == wanted);
    assert_eq!(files_in(&site.storage().join("quarantine"), "dcm").len(), 0);
    daemon.terminate();
}
