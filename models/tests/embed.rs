//! `embed` as it is used: worker processes that are killed, shards that are damaged, runs that are
//! cut off, and always the same bytes in the end.

mod place;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use place::{Place, succeeds};
use rustix::process::{Pid, Signal, kill_process};

/// A line that says which process makes which shard, up to its number.
fn process_in(line: &str, before: &str) -> Option<Pid> {
    let number = line.split(before).nth(1)?.split_whitespace().next()?;
    Pid::from_raw(number.parse().ok()?)
}

/// Reads lines until the first process is at work on a shard, and kills that process.
fn kill_first(child: &mut Child, before: &str) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut read = Vec::new();
    let mut killed = false;
    for line in &mut lines {
        let line = line.expect("text");
        if !killed && line.contains("at work") {
            let process = process_in(&line, before).expect("a process");
            // It may have ended by itself in between; then no attempt is lost, and the test fails.
            kill_process(process, Signal::KILL).expect("killed");
            killed = true;
        }
        read.push(line);
    }
    assert!(killed, "{read:?}");
    read
}

fn flip_a_byte(file: &Path) {
    let mut bytes = fs::read(file).expect("a shard");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn a_killed_worker_and_a_damaged_shard_change_no_byte() {
    let place = Place::new();
    let whole = place.run("whole", 1);
    let out = place.out("hurt");
    let mut run = place.embed("run", &out);
    run.args(["--workers", "2"]).args(place.what()).stdout(Stdio::piped());
    let mut child = run.spawn().expect("started");
    let lines = kill_first(&mut child, "process ");
    assert!(child.wait().expect("ended").success(), "{lines:?}");
    let lost = lines.iter().any(|line| line.contains("attempt 1 ended by signal: 9"));
    assert!(lost, "{lines:?}");
    assert_eq!(place.bytes(&out), whole);

    flip_a_byte(&out.join("shards/000001.safetensors"));
    let mut finish = place.command("finish");
    let refused = finish.arg("--out").arg(&out).output().expect("ran");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("missing or damaged: 1"), "{said}");
    assert_eq!(place.run("hurt", 2), whole);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let whole = place.run("whole", 1);
    let out = place.out("cut");
    let mut run = place.embed("run", &out);
    run.args(["--workers", "2"]).args(place.what()).stdout(Stdio::piped());
    let mut child = run.spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let at_work = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("at work")));
    at_work.expect("a worker").expect("text");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!out.join("manifest.json").exists());
    assert_eq!(place.run("cut", 2), whole);
}

#[test]
fn another_plan_in_the_same_folder_is_refused_by_the_name_of_what_differs() {
    let place = Place::new();
    let out = place.out("planned");
    succeeds(place.embed("plan", &out).args(place.what()));
    let mut other = place.embed("plan", &out);
    let refused = other.args(place.what()).args(["--seed", "9"]).output().expect("ran");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(said.contains(r#"views: planned {"count":32,"flip":false,"seed":0}"#), "{said}");
}

#[test]
fn shards_are_made_in_any_order_by_processes_that_know_nothing_of_each_other() {
    let place = Place::new();
    let whole = place.run("whole", 1);
    let out = place.out("apart");
    succeeds(place.embed("plan", &out).args(place.what()));
    for index in ["2", "0", "1"] {
        succeeds(place.embed("shard", &out).args(["--index", index]));
    }
    succeeds(place.command("finish").arg("--out").arg(&out));
    assert_eq!(place.bytes(&out), whole);
    let mut beyond = place.embed("shard", &out);
    let refused = beyond.args(["--index", "3"]).output().expect("ran");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a number below 3, found 3"));
}

#[test]
fn ray_makes_the_same_bytes_though_a_process_a_worker_and_a_shard_are_hurt() {
    let python = std::env::var("CLEARFILM_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_ray = Command::new(&python).args(["-c", "import ray"]).output();
    if !has_ray.is_ok_and(|output| output.status.success()) {
        println!("!! SKIPPED: expected ray in the Python of CLEARFILM_TEST_PYTHON, found none");
        return;
    }
    let place = Place::new();
    let whole = place.run("whole", 1);
    let out = place.out("ray");
    let ray = || {
        let mut ray = Command::new(&python);
        ray.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scale/ray_embed.py"));
        // Every line as it comes, and nothing left in the user's home.
        ray.env("RAY_DEDUP_LOGS", "0").env("RAY_AUTH_MODE", "disabled");
        ray.env("RAY_TMPDIR", place.out("tmp"));
        ray.args(["--cpus", "2", "--binary", env!("CARGO_BIN_EXE_clearfilm-models")]);
        ray.arg("--root").arg(&place.root).arg("--out").arg(&out).stdout(Stdio::piped());
        ray
    };
    succeeds(place.embed("plan", &out).args(place.what()));
    // The process that makes a shard.
    let mut child = ray().spawn().expect("started");
    let lines = kill_first(&mut child, "process ");
    assert!(child.wait().expect("ended").success(), "{lines:?}");
    succeeds(place.command("finish").arg("--out").arg(&out));
    assert_eq!(place.bytes(&out), whole);
    // Ray's own worker, and a damaged shard beside one that is missing.
    flip_a_byte(&out.join("shards/000001.safetensors"));
    fs::remove_file(out.join("shards/000002.done")).expect("removed");
    let mut child = ray().spawn().expect("started");
    let lines = kill_first(&mut child, "of worker ");
    assert!(child.wait().expect("ended").success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("1 of 3 shards are valid already")), "{lines:?}");
    succeeds(place.command("finish").arg("--out").arg(&out));
    assert_eq!(place.bytes(&out), whole);
}
