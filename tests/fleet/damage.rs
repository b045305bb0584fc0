//! What a device believed, damaged or taken away, and keys that were rotated: no way back opens.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::attacks::refuses;
use crate::office::{Device, Office, SCENE, copy, run};
use crate::signing::Mirror;

/// A device that has seen the second publication.
fn device() -> Device {
    let device = Device::like(&SCENE.device);
    device.fetch(&SCENE.office.repository()).expect("it installs");
    device
}

/// Files of the folder that hold what was believed.
fn believed(device: &Device) -> Vec<PathBuf> {
    let folder = device.agent().join("metadata");
    fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect()
}

#[test]
fn damaged_metadata_is_no_way_back() {
    let seen = device();
    assert_eq!(believed(&seen).len(), 4, "root, timestamp, snapshot and their digests");
    for file in believed(&seen) {
        let name = file.file_name().expect("a name").to_owned();
        let damage = |change: &dyn Fn(&Path)| {
            for mirror in [Mirror::of(&SCENE.first), Mirror::new()] {
                let device = Device::like(&seen);
                change(&device.agent().join("metadata").join(&name));
                refuses(&device, &mirror, "store-damaged");
            }
        };
        let length = fs::metadata(&file).expect("there").len();
        for part in [0, 1, length / 2, length - 1] {
            damage(&|file| {
                let open = fs::File::options().write(true).open(file).expect("opened");
                open.set_len(part).expect("torn");
            });
        }
        damage(&|file| {
            let mut bytes = fs::read(file).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).expect("written");
        });
        damage(&|file| fs::remove_file(file).expect("removed"));
        // Half of what was believed before.
        let old = SCENE.device.agent().join("metadata").join(&name);
        if fs::read(&old).expect("there") != fs::read(&file).expect("there") {
            damage(&|file| {
                fs::copy(&old, file).expect("copied");
            });
        }
    }
}

#[test]
fn metadata_or_state_that_was_taken_away_is_no_way_back() {
    let seen = device();
    for mirror in [Mirror::of(&SCENE.first), Mirror::new()] {
        let device = Device::like(&seen);
        fs::remove_dir_all(device.agent().join("metadata")).expect("removed");
        refuses(&device, &mirror, "store-missing");
        let device = Device::like(&seen);
        for at in 0..2 {
            // One of them may not be written yet.
            drop(fs::remove_file(device.agent().join(format!("state.{at}"))));
        }
        refuses(&device, &mirror, "state-missing");
        let device = Device::like(&seen);
        for at in 0..2 {
            fs::write(device.agent().join(format!("state.{at}")), "torn").expect("written");
        }
        refuses(&device, &mirror, "state-damaged");
    }
    // What was believed first, whole, in the place of what was believed last.
    let device = Device::like(&seen);
    fs::remove_dir_all(device.agent().join("metadata")).expect("removed");
    copy(&SCENE.device.agent().join("metadata"), &device.agent().join("metadata"));
    refuses(&device, &Mirror::of(&SCENE.first), "rollback");
    device.fetch(&SCENE.office.repository()).expect("what is new still installs");
}

#[test]
fn after_a_rebuild_from_the_shipped_root_nothing_older_is_believed() {
    let device = device();
    fs::remove_dir_all(device.agent().join("metadata")).expect("removed");
    let rebuild = |device: &Device| {
        let mut command = std::process::Command::new(crate::office::binary());
        command.args(["update", "rebuild-trust", "--config"]);
        run(command.arg(device.folder.path().join("config.toml"))).expect("set aside");
    };
    rebuild(&device);
    refuses(&device, &Mirror::of(&SCENE.first), "rollback");
    rebuild(&device);
    device.fetch(&SCENE.office.repository()).expect("what is new installs");
}

/// An office whose timestamp key was stolen and replaced, its repository before that, and a device
/// that has seen both.
fn robbed() -> (Office, Mirror, Device) {
    let office = Office::open();
    office.release(1, "");
    office.publish();
    let before = Mirror::of(&office.repository());
    office.new_key("timestamp-2");
    office.hold(&[("timestamp", "timestamp-2")]);
    office.sign(&["root-1", "root-2"]);
    let keys = ["snapshot", "timestamp-2"].iter().flat_map(|k| ["--key".into(), office.key(k)]);
    office.repo("publish", &keys.collect::<Vec<PathBuf>>());
    let device = Device::shipped(&before.metadata("1.root.json"));
    device.fetch(&office.repository()).expect("it installs");
    (office, before, device)
}

#[test]
fn a_key_that_was_taken_away_signs_nothing_any_more() {
    let (office, before, device) = robbed();
    // What it signed while it was good, and what a thief signs with it now; the new root withheld.
    refuses(&device, &before, "signature");
    let stolen = before.read("timestamp.json")["signed"].clone();
    let sign = |version: u64| {
        let mut signed = stolen.clone();
        signed["version"] = json!(version);
        crate::signing::sign(&office, "timestamp", &signed, &["timestamp"])
    };
    before.write("timestamp.json", &sign(99));
    refuses(&device, &before, "signature");
    // With the new root in view.
    let mirror = Mirror::of(&office.repository());
    mirror.write("timestamp.json", &sign(99));
    refuses(&device, &mirror, "signature");
    // Without anything that was believed but the marks: the shipped root still trusts that key.
    fs::remove_dir_all(device.agent().join("metadata")).expect("removed");
    let mut command = std::process::Command::new(crate::office::binary());
    command.args(["update", "rebuild-trust", "--config"]);
    run(command.arg(device.folder.path().join("config.toml"))).expect("set aside");
    refuses(&device, &before, "rollback");
    device.fetch(&office.repository()).expect("what is new installs");
}

#[test]
fn roots_that_are_left_out_or_named_wrongly_are_refused() {
    let (office, _, _) = robbed();
    let root = |mirror: &Mirror| mirror.metadata("1.root.json");
    // The second root is gone: what the new key signed is not believed.
    let mirror = Mirror::of(&office.repository());
    fs::remove_file(mirror.metadata("2.root.json")).expect("there");
    refuses(&new_device(&root(&mirror)), &mirror, "signature");
    // It is called the second and is another one.
    for version in [1, 3] {
        let mirror = Mirror::of(&office.repository());
        let mut signed = mirror.read("2.root.json")["signed"].clone();
        signed["version"] = json!(version);
        let document = crate::signing::sign(&office, "root", &signed, &["root-1", "root-2"]);
        mirror.write("2.root.json", &document);
        refuses(&new_device(&root(&mirror)), &mirror, "rollback");
    }
}

/// A device that has seen nothing, with its first state.
fn new_device(root: &Path) -> Device {
    let device = Device::shipped(root);
    // It asks an empty folder first: that writes the state that a comparison begins with.
    let nothing = tempfile::tempdir().expect("a folder");
    device.fetch(nothing.path()).expect_err("nothing is there");
    device
}

#[test]
fn a_fleet_recovers_after_a_thief_signed_a_version_without_an_end() {
    let office = Office::open();
    office.release(1, "");
    office.publish();
    let device = Device::shipped(&office.repository().join("metadata/1.root.json"));
    device.fetch(&office.repository()).expect("it installs");
    // A thief of the timestamp's key: a version that nobody will ever reach.
    let mirror = Mirror::of(&office.repository());
    let mut signed = mirror.read("timestamp.json")["signed"].clone();
    signed["version"] = json!(1_u64 << 60);
    let far = crate::signing::sign(&office, "timestamp", &signed, &["timestamp"]);
    mirror.write("timestamp.json", &far);
    device.fetch(&mirror.path()).expect("its holder signed it");
    office.release(2, "");
    office.publish();
    refuses(&device, &Mirror::of(&office.repository()), "rollback");
    // The key is replaced, and the fleet goes on.
    office.new_key("timestamp-2");
    office.hold(&[("timestamp", "timestamp-2")]);
    office.sign(&["root-1", "root-3"]);
    let keys = ["snapshot", "timestamp-2"].iter().flat_map(|k| ["--key".into(), office.key(k)]);
    office.repo("publish", &keys.collect::<Vec<PathBuf>>());
    let told = device.fetch(&office.repository()).expect("it installs");
    assert!(told.starts_with("run 0.2.0\n"), "{told}");
}
