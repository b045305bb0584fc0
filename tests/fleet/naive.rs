//! The same library without its caller's duties takes what our device refuses. Should one of these
//! fail after an update of `tough`, a duty of ours became the library's.

use std::fs;
use std::path::Path;

use tough::{ExpirationEnforcement, FilesystemTransport, RepositoryLoader};

use crate::office::{Office, SCENE};
use crate::signing::Mirror;

/// Loads a repository as the library's first example does: with the shipped root and a datastore.
#[expect(
    clippy::unwrap_in_result,
    reason = "the library's refusal is the result, all else a failure"
)]
fn load(shipped: &Path, repository: &Path, datastore: &Path) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let root = fs::read(shipped).expect("there");
    let url = |folder: &str| {
        format!("file://{}/{folder}/", repository.display()).parse().expect("an address")
    };
    let loader = RepositoryLoader::new(&root, url("metadata"), url("targets"))
        .transport(FilesystemTransport)
        .datastore(datastore)
        .expiration_enforcement(ExpirationEnforcement::Safe);
    let loaded = runtime.block_on(loader.load()).map_err(|error| error.to_string())?;
    Ok(loaded.timestamp().signed.version.get())
}

/// A datastore that has seen the second publication.
fn datastore() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let repository = SCENE.office.repository();
    let version = load(&SCENE.first.join("metadata/1.root.json"), &repository, folder.path());
    assert!(version.expect("it loads") > 1);
    folder
}

fn load_first(datastore: &Path) -> Result<u64, String> {
    load(&SCENE.first.join("metadata/1.root.json"), &SCENE.first, datastore)
}

#[test]
fn alone_it_refuses_an_older_repository() {
    load_first(datastore().path()).expect_err("it is older");
}

#[test]
fn alone_it_takes_an_older_one_after_a_torn_or_flipped_file() {
    let torn = datastore();
    for name in ["timestamp.json", "snapshot.json"] {
        fs::write(torn.path().join(name), "{").expect("torn");
    }
    load_first(torn.path()).expect("accepted: a torn file counts as none");
    let flipped = datastore();
    for name in ["timestamp.json", "snapshot.json"] {
        let file = flipped.path().join(name);
        let text = fs::read_to_string(&file).expect("there");
        let at = text.find("\"version\":").expect("a version") + "\"version\":".len();
        let mut bytes = text.into_bytes();
        bytes[at] ^= 1;
        fs::write(file, bytes).expect("flipped");
    }
    load_first(flipped.path()).expect("accepted: a badly signed file counts as none");
}

#[test]
fn alone_it_takes_an_older_one_after_its_datastore_was_taken_away() {
    load_first(tempfile::tempdir().expect("a folder").path()).expect("accepted");
}

/// With the shipped root on every call, once the timestamp's key was rotated.
#[test]
fn alone_it_takes_older_ones_and_a_stolen_key_for_ever_after_a_rotation() {
    let office = Office::open();
    office.release(1, "");
    office.publish();
    let before = Mirror::of(&office.repository());
    let shipped = before.metadata("1.root.json");
    office.new_key("timestamp-2");
    office.hold(&[("timestamp", "timestamp-2")]);
    office.sign(&["root-1", "root-2"]);
    let publish = || {
        let keys = ["snapshot", "timestamp-2"].iter().flat_map(|k| ["--key".into(), office.key(k)]);
        office.repo("publish", &keys.collect::<Vec<std::path::PathBuf>>());
    };
    publish();
    let rotated = Mirror::of(&office.repository());
    publish();
    let datastore = tempfile::tempdir().expect("a folder");
    let newest = load(&shipped, &office.repository(), datastore.path()).expect("it loads");
    let older = load(&shipped, &rotated.path(), datastore.path()).expect("accepted: older");
    assert!(older < newest, "{older} {newest}");
    load(&shipped, &office.repository(), datastore.path()).expect("it loads");
    // The new root withheld, and what a thief signs now with the key that was taken away.
    let stolen = Mirror::of(&office.repository());
    std::fs::remove_file(stolen.metadata("2.root.json")).expect("there");
    let mut signed = stolen.read("timestamp.json")["signed"].clone();
    signed["version"] = serde_json::json!(99);
    let document = crate::signing::sign(&office, "timestamp", &signed, &["timestamp"]);
    stolen.write("timestamp.json", &document);
    let taken = load(&shipped, &stolen.path(), datastore.path());
    assert_eq!(taken.expect("accepted: a key that was taken away"), 99);
}
