//! A small collection of drawn radiographs, and the program that reads it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clearfilm::phantom::{Encoding, Phantom, Projection, Variant};

/// A collection in a folder of its own, with room for embeddings beside it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    /// The collection.
    pub(crate) root: PathBuf,
}

impl Place {
    /// Six pictures of three patients, one DICOM object among them, and one file that is no
    /// picture.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("collection");
        fs::create_dir(&root).expect("made");
        let mut table = String::from("image,patient,split,position,age,Edema\n");
        for seed in 0..6 {
            let phantom = Phantom { seed, projection: Projection::Pa, variant: Variant::Normal };
            let patient = seed / 2;
            let split = if patient == 2 { "dev" } else { "train" };
            let name = if seed == 5 { format!("{seed}.dcm") } else { format!("{seed}.png") };
            let bytes = if seed == 5 {
                let encoding = Encoding { rows: 250, columns: 200, ..Encoding::default() };
                phantom.to_dicom(&encoding).expect("drawn")
            } else {
                phantom.draw(250, 200).to_png().expect("drawn")
            };
            fs::write(root.join(&name), bytes).expect("written");
            table += &format!("{name},p{patient},{split},PA,{},{}\n", 40 + seed, seed % 2);
        }
        fs::write(root.join("bad.png"), b"no picture").expect("written");
        table += "bad.png,p3,train,,,\nabsent.png,p4,train,,,\n";
        fs::write(root.join("labels.csv"), table).expect("written");
        Self { folder, root }
    }

    /// An embeddings folder of that name.
    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Three shards of three, three and one pictures, 32 views each.
    pub(crate) fn what(&self) -> [&'static str; 12] {
        [
            "--layout",
            "csv",
            "--table",
            "labels.csv",
            "--labels",
            "Edema",
            "--engine",
            "tract",
            "--views",
            "32",
            "--shard-rows",
            "96",
        ]
    }

    pub(crate) fn command(&self, step: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clearfilm-models"));
        command.args(["embed", step]);
        command
    }

    /// A step that reads the collection.
    pub(crate) fn embed(&self, step: &str, out: &Path) -> Command {
        let mut command = self.command(step);
        command.arg("--root").arg(&self.root).arg("--out").arg(out);
        command
    }

    /// A whole run, and every byte of what it wrote.
    pub(crate) fn run(&self, name: &str, workers: usize) -> BTreeMap<String, Vec<u8>> {
        let out = self.out(name);
        let mut run = self.embed("run", &out);
        succeeds(run.args(["--workers", &workers.to_string()]).args(self.what()));
        self.bytes(&out)
    }

    /// Every file of a folder.
    pub(crate) fn bytes(&self, out: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in [out.to_path_buf(), out.join("shards")] {
            for entry in fs::read_dir(&folder).expect("a folder").flatten() {
                if entry.path().is_file() {
                    let name = entry.path().strip_prefix(out).expect("below").display().to_string();
                    files.insert(name, fs::read(entry.path()).expect("read"));
                }
            }
        }
        files
    }
}

/// Runs a command that has to succeed.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) {
    let output = command.output().expect("ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}
