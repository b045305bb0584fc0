//! Repositories that a device must not take anything from. Each begins as one that installs, is
//! changed in one way, and is refused with the attack's name and without a trace on the device.

use std::fs;
use std::os::unix::fs::symlink;

use clearfilm_fleet::release::FILES_MAX;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::office::{Device, SCENE};
use crate::signing::Mirror;

/// Tells a device of a changed repository: it refuses under this name and keeps what it kept.
#[track_caller]
fn refused(name: &str, attack: impl FnOnce(&Mirror)) {
    let mirror = Mirror::new();
    attack(&mirror);
    refuses(&Device::like(&SCENE.device), &mirror, name);
}

#[track_caller]
pub(crate) fn refuses(device: &Device, mirror: &Mirror, name: &str) {
    let before = device.keeps();
    let said = device.fetch(&mirror.path()).expect_err("it is refused");
    assert!(said.contains(&format!("{name}: ")), "expected {name}, found {said}");
    assert_eq!(before, device.keeps(), "{name}: what the device keeps changed");
}

#[test]
fn what_is_not_attacked_installs() {
    let device = Device::like(&SCENE.device);
    let mirror = Mirror::new();
    let told = device.fetch(&mirror.path()).expect("it installs");
    assert!(told.starts_with("run 0.2.0\n") && told.contains("staged"), "{told}");
    // Signing again what was signed changes nothing either.
    mirror.alter("app", &["app"], |_| {});
    Device::like(&SCENE.device).fetch(&mirror.path()).expect("it installs");
}

#[test]
fn documents_signed_by_others_are_refused() {
    for role in ["targets", "app", "models", "operations", "snapshot", "timestamp"] {
        refused("signature", |mirror| mirror.alter(role, &["root-1"], |_| {}));
        refused("signature", |mirror| mirror.alter(role, &[], |_| {}));
    }
}

#[test]
fn a_root_that_too_few_signed_is_refused() {
    let next = |mirror: &Mirror, keys: &[&str]| {
        let mut root = mirror.read("1.root.json")["signed"].clone();
        root["version"] = json!(2);
        mirror.put("root", "2.root.json", &root, keys);
    };
    refused("signature", |mirror| next(mirror, &["root-1"]));
    refused("signature", |mirror| next(mirror, &["targets", "app"]));
    // One signature twice is one.
    refused("signature", |mirror| {
        next(mirror, &["root-1"]);
        let mut root = mirror.read("2.root.json");
        let twice = root["signatures"][0].clone();
        root["signatures"].as_array_mut().expect("a list").push(twice);
        mirror.write("2.root.json", &root);
    });
    // Its own holders do not replace those of the root in force.
    refused("signature", |mirror| {
        let mut root = mirror.read("1.root.json")["signed"].clone();
        root["version"] = json!(2);
        root["roles"]["root"] = root["roles"]["targets"].clone();
        mirror.put("root", "2.root.json", &root, &["targets"]);
    });
}

#[test]
fn edited_documents_are_refused() {
    let edit = |mirror: &Mirror, role: &str| {
        let name = mirror.newest(role);
        let mut document = mirror.read(&name);
        document["signed"]["expires"] = json!("2039-01-01T00:00:00Z");
        mirror.write(&name, &document);
    };
    refused("signature", |mirror| edit(mirror, "timestamp"));
    for role in ["snapshot", "targets", "app", "models", "operations"] {
        refused("mix", |mirror| edit(mirror, role));
    }
}

#[test]
fn documents_that_ended_are_refused() {
    for role in ["timestamp", "snapshot", "targets", "app", "models", "operations"] {
        refused("freeze", |mirror| {
            mirror.alter(role, &[role], |signed| signed["expires"] = json!("2026-01-01T00:00:00Z"));
        });
    }
    refused("freeze", |mirror| {
        let mut root = mirror.read("1.root.json")["signed"].clone();
        root["version"] = json!(2);
        root["expires"] = json!("2026-01-01T00:00:00Z");
        mirror.put("root", "2.root.json", &root, &["root-1", "root-2"]);
    });
}

#[test]
fn documents_that_are_older_are_refused() {
    // The device has seen the second publication.
    let device = Device::like(&SCENE.device);
    device.fetch(&SCENE.office.repository()).expect("it installs");
    let refuses = |attack: &dyn Fn(&Mirror)| {
        let mirror = Mirror::new();
        attack(&mirror);
        refuses(&Device::like(&device), &mirror, "rollback");
    };
    // The whole of it, and the timestamp alone.
    let first = Mirror::of(&SCENE.first);
    self::refuses(&Device::like(&device), &first, "rollback");
    refuses(&|mirror| mirror.write("timestamp.json", &first.read("timestamp.json")));
    // Each document below, named by a newer one that its holder signed.
    for role in ["snapshot", "targets", "app", "models", "operations"] {
        refuses(&|mirror| {
            let above = if role == "snapshot" { "timestamp" } else { "snapshot" };
            let of_first =
                first.read(&first.newest(above))["signed"]["meta"][format!("{role}.json")].clone();
            mirror.alter("timestamp", &["timestamp"], |signed| signed["version"] = json!(99));
            mirror.alter(above, &[above], |signed| {
                signed["meta"][format!("{role}.json")] = of_first;
                signed["version"] =
                    if above == "snapshot" { signed["version"].clone() } else { json!(100) };
            });
        });
    }
}

#[test]
fn documents_and_files_of_different_times_are_refused() {
    let first = Mirror::of(&SCENE.first);
    refused("mix", |mirror| {
        mirror.write(&mirror.newest("snapshot"), &first.read(&first.newest("snapshot")));
    });
    // The release's document is the one before, under the new name and signed so.
    refused("mix", |mirror| {
        let old = fs::read(first.target("release/0.1.0")).expect("there");
        mirror.offer("targets", "release/0.2.0.json", &old);
    });
    // A program that only the release names, or that is of another length than its holder says.
    refused("not-there", |mirror| {
        mirror.release(|release| file_of(release)["sha256"] = json!("0".repeat(64)));
    });
    refused("mix", |mirror| mirror.release(|release| file_of(release)["length"] = json!(3)));
}

/// The entry of the only program in a release.
fn file_of(release: &mut Value) -> &mut Value {
    &mut release["app"]["builds"][std::env::consts::ARCH]["bin/clearfilm"]
}

#[test]
fn data_without_an_end_is_refused() {
    let long = vec![b' '; 5 << 20];
    for role in ["timestamp", "snapshot", "targets", "app", "models", "operations"] {
        refused("endless", |mirror| {
            fs::write(mirror.metadata(&mirror.newest(role)), &long).expect("written");
        });
    }
    refused("endless", |mirror| fs::write(mirror.metadata("2.root.json"), &long).expect("written"));
    refused("endless", |mirror| mirror.offer("targets", "release/0.2.0.json", &long));
    refused("endless", |mirror| mirror.offer("operations", "fleet.json", &long));
}

#[test]
fn files_that_hold_something_else_are_refused() {
    for target in ["app/", "models/"] {
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            refused("content", |mirror| {
                // The one that the device does not have: it would not ask for the others.
                let file = if target == "app/" { program(mirror) } else { fresh_model(mirror) };
                let mut bytes = fs::read(&file).expect("there");
                change(&mut bytes);
                mirror.replace(&file, &bytes);
            });
        };
        changed(&|bytes| bytes[0] ^= 1);
        changed(&|bytes| bytes.truncate(3));
        changed(&|bytes| bytes.push(0));
        changed(&|bytes| bytes.extend(vec![0; 4 << 20]));
        changed(&|bytes| bytes.clear());
    }
    for target in ["release/0.2.0", "fleet.json"] {
        refused("content", |mirror| {
            let file = mirror.target(target);
            let mut bytes = fs::read(&file).expect("there");
            bytes[10] ^= 1;
            mirror.replace(&file, &bytes);
        });
    }
}

/// The file of the second release's program.
fn program(mirror: &Mirror) -> std::path::PathBuf {
    let bytes = fs::read(mirror.target("release/0.2.0")).expect("there");
    let mut release: Value = serde_json::from_slice(&bytes).expect("JSON");
    let sha = file_of(&mut release)["sha256"].as_str().expect("a hash").to_owned();
    mirror.path().join(format!("targets/app/{sha}.{sha}"))
}

/// A file of the bundle that the second release has more than the first one.
fn fresh_model(mirror: &Mirror) -> std::path::PathBuf {
    let bytes = b"a note to the bundle";
    let sha = clearfilm_fleet::release::Sha256::of(bytes).to_string();
    mirror.offer("models", &format!("models/{sha}"), bytes);
    mirror.release(|release| {
        release["bundle"]["files"]["note.txt"] = json!({"sha256": sha, "length": bytes.len()});
    });
    mirror.path().join(format!("targets/models/{sha}.{sha}"))
}

#[test]
fn files_that_are_gone_are_refused() {
    for role in ["timestamp", "snapshot", "targets", "app", "models", "operations"] {
        refused("not-there", |mirror| {
            fs::remove_file(mirror.metadata(&mirror.newest(role))).expect("there");
        });
    }
    for target in ["release/0.2.0", "fleet.json"] {
        refused("not-there", |mirror| fs::remove_file(mirror.target(target)).expect("there"));
    }
    refused("not-there", |mirror| fs::remove_file(program(mirror)).expect("there"));
}

#[test]
fn roles_that_are_taken_away_or_reach_too_far_are_refused() {
    for role in ["targets", "app", "models", "operations"] {
        refused("role-missing", |mirror| {
            mirror.alter("snapshot", &["snapshot"], |snapshot| {
                snapshot["meta"]
                    .as_object_mut()
                    .expect("an object")
                    .remove(&format!("{role}.json"));
            });
        });
    }
    // On a new device too, where nothing says what there was.
    for role in ["app", "models", "operations"] {
        let mirror = Mirror::new();
        mirror.alter("snapshot", &["snapshot"], |snapshot| {
            snapshot["meta"].as_object_mut().expect("an object").remove(&format!("{role}.json"));
        });
        let device = Device::shipped(&mirror.metadata("1.root.json"));
        let said = device.fetch(&mirror.path()).expect_err("it is refused");
        assert!(said.contains("role-missing: "), "{said}");
    }
    let fleet = fs::read(Mirror::new().target("fleet.json")).expect("there");
    refused("delegation", |mirror| mirror.offer("models", "fleet.json", &fleet));
    refused("delegation", |mirror| mirror.offer("app", "models/evil", b"evil"));
    refused("delegation", |mirror| mirror.offer("operations", "app/evil", b"evil"));
}

#[test]
fn documents_that_cannot_be_read_are_refused() {
    for text in ["", "{}", "[]", "null", "\u{0}", &"[".repeat(100_000)] {
        refused("malformed", |mirror| {
            fs::write(mirror.metadata("timestamp.json"), text).expect("written");
        });
    }
    refused("malformed", |mirror| {
        fs::write(mirror.metadata("2.root.json"), "{}").expect("written")
    });
    refused("malformed", |mirror| mirror.offer("operations", "fleet.json", b"{}"));
    refused("malformed", |mirror| mirror.offer("targets", "release/0.2.0.json", b"{}"));
    refused("malformed", |mirror| mirror.release(|release| release["more"] = json!(1)));
}

#[test]
fn paths_that_leave_the_releases_folder_are_refused() {
    let long = "a".repeat(201);
    for path in [
        "../evil",
        "bin/../../evil",
        "/etc/evil",
        ".hidden",
        "bin/.hidden",
        "bin//evil",
        "bin/",
        "",
        "-rf",
        "bin/e vil",
        "bin/e\u{0}vil",
        "bin\\evil",
        "a/b/c/d/e/f/g",
        "bin/\u{e9}",
        &long,
    ] {
        refused("malformed", |mirror| {
            mirror.release(|release| {
                let entry = file_of(release).clone();
                release["app"]["builds"][std::env::consts::ARCH][path] = entry;
            });
        });
    }
    refused("malformed", |mirror| {
        mirror.release(|release| {
            let entry = file_of(release).clone();
            let files = &mut release["app"]["builds"][std::env::consts::ARCH];
            for n in 0..FILES_MAX {
                files[format!("bin/{n}")] = entry.clone();
            }
        });
    });
    // A part of data with a program in it.
    refused("malformed", |mirror| {
        mirror.release(|release| {
            let entry = file_of(release).clone();
            release["bundle"]["files"]["evil"] = entry;
        });
    });
}

#[test]
fn links_pipes_and_devices_are_refused() {
    for name in ["timestamp.json", "snapshot"] {
        refused("no-file", |mirror| {
            let file = if name == "snapshot" { mirror.newest(name) } else { name.into() };
            let moved = mirror.metadata("moved.json");
            fs::rename(mirror.metadata(&file), &moved).expect("moved");
            symlink(moved, mirror.metadata(&file)).expect("linked");
        });
    }
    // A folder of the repository that leads elsewhere.
    refused("no-file", |mirror| {
        let (metadata, moved) = (mirror.path().join("metadata"), mirror.path().join("moved"));
        fs::rename(&metadata, &moved).expect("moved");
        symlink(moved, metadata).expect("linked");
    });
    let special = |kind: FileType| {
        refused("no-file", |mirror| {
            let file = mirror.metadata("timestamp.json");
            fs::remove_file(&file).expect("there");
            // 1, 5: /dev/zero.
            let device = rustix::fs::makedev(1, 5);
            mknodat(CWD, &file, kind, Mode::RUSR, device).expect("made");
        });
    };
    special(FileType::Fifo);
    // Only root makes devices.
    if rustix::process::geteuid().is_root() {
        special(FileType::CharacterDevice);
    }
    refused("no-file", |mirror| {
        let file = mirror.metadata("timestamp.json");
        fs::remove_file(&file).expect("there");
        fs::create_dir(file).expect("made");
    });
}

#[test]
fn releases_that_are_not_for_this_device_are_refused() {
    let wrong = |name: &str, change: &dyn Fn(&mut Value)| {
        refused(name, |mirror| mirror.release(|release| change(release)));
    };
    wrong("epoch", &|release| release["epoch"] = json!(0));
    wrong("device-type", &|release| release["devices"] = json!(["jetson-orin"]));
    wrong("malformed", &|release| {
        let build = release["app"]["builds"][std::env::consts::ARCH].take();
        release["app"]["builds"] = json!({"mips": build});
    });
    // One that would fill the disk: its holder says so too.
    refused("space", |mirror| {
        let sha = "5".repeat(64);
        let entry = json!({"length": 1_u64 << 50, "hashes": {"sha256": sha}});
        mirror.alter("models", &["models"], |targets| {
            targets["targets"][format!("models/{sha}")] = entry;
        });
        mirror.release(|release| {
            release["bundle"]["files"]["bomb"] = json!({"sha256": sha, "length": 1_u64 << 50});
        });
    });
}

#[test]
fn another_sites_word_changes_nothing() {
    let mirror = Mirror::new();
    let mut fleet: Value =
        serde_json::from_slice(&fs::read(mirror.target("fleet.json")).expect("there"))
            .expect("JSON");
    fleet["sites"] = json!(["south"]);
    fleet["min_epoch"] = json!(9);
    mirror.offer("operations", "fleet.json", fleet.to_string().as_bytes());
    let device = Device::like(&SCENE.device);
    let told = device.fetch(&mirror.path()).expect("it is understood");
    assert_eq!(told, "nothing: the roll-out is for other sites\n");
    // Its epoch does not count here: our own site's release still installs.
    fleet["sites"] = json!(["north"]);
    fleet["min_epoch"] = json!(1);
    mirror.offer("operations", "fleet.json", fleet.to_string().as_bytes());
    device.fetch(&mirror.path()).expect("it installs");
}
