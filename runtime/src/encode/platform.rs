//! What a built engine depends on beside the bundle: the machine and the libraries on it.
//!
//! Read while TensorRT's provider is registered and every library that it needs is mapped into the
//! process, so that it says what is there, not what a link's name promises.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Parts of the names of libraries that compute or build.
const LIBRARIES: [&str; 6] = ["onnxruntime", "nvinfer", "nvonnxparser", "cudnn", "cublas", "cuda"];

/// Longest fact that is kept, characters.
const FACT_MAX: usize = 400;

/// Facts by name, as texts: they are compared and shown, never computed with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Platform(pub BTreeMap<String, String>);

impl Platform {
    /// The machine under `root` (`/`, but for tests) and the libraries of this process.
    #[must_use]
    pub fn read(root: &Path, onnxruntime: &str) -> Self {
        let mut facts = BTreeMap::from([
            ("onnxruntime".to_owned(), short(onnxruntime)),
            ("architecture".to_owned(), std::env::consts::ARCH.to_owned()),
        ]);
        for (name, file) in [
            // The board of a Jetson, its release of L4T, and a driver's version elsewhere.
            ("board", "proc/device-tree/model"),
            ("l4t", "etc/nv_tegra_release"),
            ("driver", "proc/driver/nvidia/version"),
        ] {
            if let Some(line) = first_line(&root.join(file)) {
                facts.insert(name.into(), line);
            }
        }
        let gpus = gpus(&root.join("proc/driver/nvidia/gpus"));
        if !gpus.is_empty() {
            facts.insert("gpu".into(), gpus.join(", "));
        }
        let maps = fs::read_to_string(root.join("proc/self/maps")).unwrap_or_default();
        facts.extend(libraries(&maps));
        Self(facts)
    }
}

fn first_line(file: &Path) -> Option<String> {
    let text = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(short).filter(|line| !line.is_empty())
}

/// Printable, and not longer than a fact may be.
fn short(text: &str) -> String {
    let printable = |c: &char| !c.is_control();
    text.trim().chars().filter(printable).take(FACT_MAX).collect()
}

/// The model of each GPU that the driver lists, in the order of its addresses.
fn gpus(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|e| e.path().join("information")).collect();
    files.sort();
    let model = |text: String| {
        text.lines().find_map(|l| l.strip_prefix("Model:").map(|model| model.trim().to_owned()))
    };
    files.iter().filter_map(|file| model(fs::read_to_string(file).ok()?)).collect()
}

/// Every mapped library that computes or builds, by its real name, with size and age: an update
/// that keeps the name changes those.
fn libraries(maps: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])) {
        let file = Path::new(path);
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let counts = name.contains(".so") && LIBRARIES.iter().any(|part| name.contains(part));
        if !counts || found.contains_key(name) {
            continue;
        }
        if let Ok(facts) = fs::metadata(file) {
            found.insert(name.to_owned(), format!("{} bytes of {}", facts.len(), facts.mtime()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_read_with_its_release_and_the_libraries_that_are_mapped() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            fs::write(&file, text).expect("written");
            file
        };
        write("proc/device-tree/model", "A board\0");
        write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.0\nmore\n");
        write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t A GPU\nIRQ: 1\n");
        let library = write("lib/libnvinfer.so.10.3.0", "12345");
        let other = write("lib/libc.so.6", "");
        let maps = format!(
            "7f00-7f01 r-xp 00000000 08:01 1  {}\n7f01-7f02 r-xp 00000000 08:01 2  {}\n7f02-7f03 rw-p 0 0 0 \n",
            library.display(),
            other.display()
        );
        write("proc/self/maps", &maps);
        let Platform(facts) = Platform::read(root.path(), "ONNX Runtime 1.24");
        assert_eq!(facts["board"], "A board");
        assert_eq!(facts["l4t"], "# R36 (release), REVISION: 4.0");
        assert_eq!(facts["gpu"], "A GPU");
        assert!(facts["libnvinfer.so.10.3.0"].starts_with("5 bytes of "), "{facts:?}");
        assert!(!facts.contains_key("libc.so.6") && !facts.contains_key("driver"), "{facts:?}");
    }
}
