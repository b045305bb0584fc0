//! An update that is interrupted anywhere: a device runs the old release or the new one, whole, and
//! comes to the new one in the end; a release that fails is left, wherever that is interrupted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clearfilm_fleet::agent::Slot;
use clearfilm_fleet::release::Sha256;

use crate::machine::{Kill, Machine, TRACE, programs};
use crate::office::Office;

/// Devices at a time: most of the time each waits for a trial.
const AT_ONCE: usize = 4;

/// Interruptions of one run of the tests; `CLEARFILM_TEST_KILLS` asks for more.
const KILLS: u32 = 100;

fn kills() -> u32 {
    let asked = std::env::var("CLEARFILM_TEST_KILLS").ok();
    asked.map_or(KILLS, |asked| asked.parse().expect("a number"))
}

/// An office whose second release behaves in this way, and the digest of that release.
fn office(conduct: &str) -> (Office, Sha256) {
    let office = Office::open();
    programs(&office, 1, "good");
    programs(&office, 2, conduct);
    office.draft(2, "");
    office.publish();
    let release = std::fs::read_dir(office.repository().join("targets/release"))
        .expect("a folder")
        .flatten()
        .map(|entry| std::fs::read(entry.path()).expect("read"))
        .next()
        .expect("one release");
    (office, Sha256::of(&release))
}

/// Interrupts one device; gives how often it was.
fn interrupt(office: &Office, kill: Kill, ends: impl Fn(&Machine) -> bool) -> u64 {
    let machine = Machine::start(office, kill);
    machine.until(&format!("{kill:?}"), ends);
    machine.killed()
}

/// Interrupts devices in these ways, some at a time; gives how often in all.
fn interrupt_all(office: &Office, kills: Vec<Kill>, ends: impl Fn(&Machine) -> bool + Sync) -> u32 {
    let (left, count) = (Mutex::new(kills), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("nobody panicked").pop();
                    let Some(kill) = next else { return };
                    let killed = interrupt(office, kill, &ends);
                    count.fetch_add(u32::try_from(killed).expect("few"), Ordering::SeqCst);
                }
            });
        }
    });
    count.into_inner()
}

/// Calls of a device that is not interrupted.
fn calls(office: &Office, ends: impl Fn(&Machine) -> bool) -> u32 {
    let machine = Machine::start(office, Kill::Count);
    machine.until("no interruption", ends);
    let trace =
        std::fs::read_to_string(machine.folder.path().join(TRACE)).expect("strace wrote it");
    u32::try_from(trace.lines().count()).expect("some hundred")
}

/// Every so many of a device's calls, and moments of root's script and of the agent, of which some
/// come too late: so there are more than are asked for.
fn ways(calls: u32, count: u32) -> Vec<Kill> {
    let (at_calls, count) = (count, count * 22 / 10);
    let step = |n: u32| Kill::Call(1 + n * calls.saturating_sub(1) / at_calls.max(1));
    let script = |n: u32| Kill::Script(Duration::from_millis(u64::from(n * 3 % 40)));
    let after = |n: u32| Kill::After(Duration::from_millis(u64::from(n * 137 % 1500)));
    let rest = count - at_calls;
    let others = (0..rest).map(|n| if n % 2 == 0 { script(n) } else { after(n) });
    (0..at_calls).map(step).chain(others).collect()
}

#[test]
fn an_update_that_is_interrupted_anywhere_ends_whole_and_new() {
    let (office, release) = office("good");
    let ends = |machine: &Machine| machine.runs(Some(release));
    let calls = calls(&office, ends);
    let count = kills() * 6 / 10;
    let mut killed = interrupt_all(&office, ways(calls, count), ends);
    // On a busy machine more moments come too late: then there are some more, of which each counts.
    for n in (killed..count).map(|n| 1 + n % calls) {
        killed += interrupt_all(&office, vec![Kill::Call(n)], ends);
    }
    eprintln!("updates: {killed} interruptions over {calls} calls");
    assert!(killed >= count, "expected {count} interruptions, found {killed}");
}

/// A release that fails in its trial: the old one runs, and the new one is not tried again.
#[track_caller]
fn check_left(conduct: &str, count: u32) {
    let (office, release) = office(conduct);
    let ends = |machine: &Machine| {
        let bad = machine.state().is_some_and(|state| {
            state.install.is_none() && state.bad.iter().any(|bad| bad.release == release && bad.ran)
        });
        bad && machine.runs(None) && machine.current(Slot::Daemon).is_none()
    };
    let calls = calls(&office, ends);
    let mut killed = interrupt_all(&office, ways(calls, count), ends);
    // On a busy machine more moments come too late: then there are some more, of which each counts.
    for n in (killed..count).map(|n| 1 + n % calls) {
        killed += interrupt_all(&office, vec![Kill::Call(n)], ends);
    }
    eprintln!("{conduct}: {killed} interruptions over {calls} calls");
    assert!(killed >= count, "expected {count} interruptions, found {killed}");
}

#[test]
fn a_release_that_crashes_at_its_start_is_left_wherever_that_is_interrupted() {
    check_left("crash", kills() * 2 / 10);
}

#[test]
fn a_release_that_hangs_at_its_start_is_left() {
    check_left("hang", kills() / 10);
}

#[test]
fn a_release_that_crashes_in_its_trial_is_left() {
    check_left("late", kills() / 10);
}
