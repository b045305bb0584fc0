//! The order of system calls: synced before acknowledged, committed before published.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use clearfilm::ingest::send;

use crate::peers::{Broker, Site, Subscriber, count, published, small};

/// What one system call did, in the order of completion for syncs and of beginning for writes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    /// A file or folder was synced.
    Synced(String),
    /// Bytes were written to a socket: local or remote port, and their beginning.
    Wrote(String, String),
}

/// Reads what `strace -f -yy` wrote: `PID CALL(FD<PATH>, ...) = RESULT`, or in two halves.
fn calls(trace: &str) -> Vec<Call> {
    let mut halves: HashMap<&str, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("fsync(") || rest.starts_with("fdatasync(") {
            let file = target(rest);
            if rest.contains("<unfinished") {
                halves.insert(pid, file);
            } else if rest.ends_with("= 0") {
                calls.push(Call::Synced(file));
            }
        } else if rest.starts_with("<... fsync resumed")
            || rest.starts_with("<... fdatasync resumed")
        {
            calls.extend(halves.remove(pid).filter(|_| rest.ends_with("= 0")).map(Call::Synced));
        } else if ["write(", "writev(", "sendto(", "sendmsg("]
            .iter()
            .any(|call| rest.starts_with(call))
        {
            calls.push(Call::Wrote(target(rest), rest.to_owned()));
        }
    }
    calls
}

/// What stands between `<` and `>` behind the descriptor.
fn target(call: &str) -> String {
    let from = call.find('<').map_or(0, |at| at + 1);
    // `TCP:[127.0.0.1:1->127.0.0.1:2]` has an arrow of its own.
    let end = call[from..]
        .find(">,")
        .or_else(|| call[from..].find(">)"))
        .or_else(|| call[from..].find("> "));
    call[from..].get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[test]
fn an_object_is_synced_before_its_response_and_a_reading_before_its_publish() {
    let broker = Broker::start();
    let site = Site::new(broker.port, "");
    let subscriber = Subscriber::start(broker.port, &[]);
    let trace = site.folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-qq",
            "-yy",
            "-s",
            "100000",
            "-e",
            "trace=fsync,fdatasync,write,writev,sendto,sendmsg",
            "-o",
        ])
        .arg(&trace)
        .arg(crate::peers::binary());
    let daemon = site.run_by(&mut strace);
    let mut seen = Vec::new();
    subscriber.until("the daemon's birth", &mut seen, |seen| count(seen, "about") > 0);
    let (file, _) = small(1);
    let begin = calls(&fs::read_to_string(&trace).expect("a trace")).len();
    assert_eq!(send::store(site.address(), "CLEARFILM", "TEST", &file).expect("sent"), 0);
    subscriber.until("the exam published", &mut seen, |seen| published(seen) == 1);
    daemon.end_child("-TERM");
    let calls = calls(&fs::read_to_string(&trace).expect("a trace")).split_off(begin);
    let storage = site.storage().display().to_string();
    let dicom = format!("127.0.0.1:{}->", site.port);
    let mqtt = format!("->127.0.0.1:{}", broker.port);
    let find = |from: usize, what: &str, is: &dyn Fn(&Call) -> bool| {
        let at = calls[from..].iter().position(is);
        from + at.unwrap_or_else(|| {
            panic!("expected {what} after call {from}, found none in {calls:#?}")
        })
    };
    let synced =
        |file: String| move |call: &Call| matches!(call, Call::Synced(f) if f.starts_with(&file));
    let spooled = find(0, "a sync of the spool file", &synced(format!("{storage}/spool/tmp/")));
    let folder = find(spooled, "a sync of the spool folder", &|c| {
        *c == Call::Synced(format!("{storage}/spool"))
    });
    let kept = find(folder, "a sync of the store", &synced(format!("{storage}/store/db")));
    let answered =
        find(spooled, "the response", &|c| matches!(c, Call::Wrote(to, _) if to.contains(&dicom)));
    assert!(
        spooled < folder && folder < kept && kept < answered,
        "{spooled} {folder} {kept} {answered}"
    );
    let told = find(
        answered,
        "the findings",
        &|c| matches!(c, Call::Wrote(to, bytes) if to.contains(&mqtt) && bytes.contains("/findings")),
    );
    let commits =
        calls[kept + 1..told].iter().filter(|c| synced(format!("{storage}/store/db"))(c)).count();
    // One sync for the attempt's counter and one for the reading.
    assert!(
        commits >= 2,
        "expected the attempt and the reading to be synced before the findings, found {commits} syncs"
    );
}

#[test]
fn the_trace_is_read_as_strace_writes_it() {
    let trace = "10 fsync(7</s/spool/tmp/a>) = 0\n\
                 11 fsync(8</s/store/db> <unfinished ...>\n\
                 10 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"x\", 1, 0, NULL, 0) = 1\n\
                 11 <... fsync resumed>) = 0\n";
    let wrote = calls(trace);
    assert_eq!(wrote[0], Call::Synced("/s/spool/tmp/a".into()));
    assert!(matches!(&wrote[1], Call::Wrote(to, _) if to == "TCP:[127.0.0.1:1->127.0.0.1:2]"));
    assert_eq!(wrote[2], Call::Synced("/s/store/db".into()));
}
