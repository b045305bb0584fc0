//! A Debian package as bytes, from its files alone: no clock, no user, no order of folders.
//!
//! deb(5): an `ar` archive of `debian-binary`, `control.tar.xz` and `data.tar.xz`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use lzma_rust2::{XzOptions, XzWriter};
use md5::{Digest as _, Md5};

/// Strongest compression that needs less than 100 MB to unpack: devices have little memory.
const XZ_PRESET: u32 = 7;

/// Longest path of the oldest form of tar, which every reader knows.
const PATH_MAX: usize = 100;

const PROGRAM: u32 = 0o755;
const FOLDER: u32 = 0o755;
const LINK: u32 = 0o777;

/// A file of the package.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    /// Everybody may read it.
    pub(crate) fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { mode: 0o644, bytes: bytes.into() }
    }

    /// Everybody may run it.
    pub(crate) fn program(bytes: impl Into<Vec<u8>>) -> Self {
        Self { mode: PROGRAM, bytes: bytes.into() }
    }

    /// For root, and a group that the package gives it at its installation.
    pub(crate) fn group_only(bytes: impl Into<Vec<u8>>) -> Self {
        Self { mode: 0o640, bytes: bytes.into() }
    }
}

/// What a package is made from.
#[derive(Debug)]
pub(crate) struct Package {
    /// Fields of `control` without `Installed-Size`, in their order.
    pub(crate) control: Vec<(&'static str, String)>,
    /// `postinst` and the like.
    pub(crate) scripts: BTreeMap<&'static str, &'static str>,
    /// By path without the first `/`, sorted.
    pub(crate) files: BTreeMap<String, File>,
    /// Symbolic links by path without the first `/`, with what they name.
    pub(crate) links: BTreeMap<String, String>,
    /// Folders that hold nothing or have modes of their own.
    pub(crate) folders: BTreeMap<String, u32>,
    /// Seconds since 1970, of every entry.
    pub(crate) epoch: u64,
}

impl Package {
    /// The package's bytes: a function of what stands in it.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut ar = ar::Builder::new(Vec::new());
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.xz", self.control_archive().context("packing control")?),
            (
                "data.tar.xz",
                archive(&self.files, &self.links, &self.folders, self.epoch)
                    .context("packing data")?,
            ),
        ];
        for (name, bytes) in members {
            let mut header = ar::Header::new(name.into(), bytes.len() as u64);
            header.set_mtime(self.epoch);
            header.set_mode(0o100_644);
            ar.append(&header, bytes.as_slice()).with_context(|| format!("packing {name}"))?;
        }
        ar.into_inner().context("packing")
    }

    fn control_archive(&self) -> anyhow::Result<Vec<u8>> {
        let mut control = String::new();
        for (key, value) in &self.control {
            writeln!(control, "{key}: {value}")?;
        }
        writeln!(control, "Installed-Size: {}", self.installed_kib())?;
        let mut sums = String::new();
        for (path, file) in &self.files {
            writeln!(sums, "{}  {path}", HEXLOWER.encode(&Md5::digest(&file.bytes)))?;
        }
        // Policy: every file below /etc is one that an administrator may change.
        let of_etc = self.files.keys().filter(|path| path.starts_with("etc/"));
        let conffiles: String = of_etc.map(|path| format!("/{path}\n")).collect();
        let mut files = BTreeMap::from([
            ("control".to_owned(), File::plain(control)),
            ("md5sums".to_owned(), File::plain(sums)),
            ("conffiles".to_owned(), File::plain(conffiles)),
        ]);
        files.extend(self.scripts.iter().map(|(&n, &text)| (n.to_owned(), File::program(text))));
        archive(&files, &BTreeMap::new(), &BTreeMap::new(), self.epoch)
    }

    /// Each file in whole KiB and one for each other entry, as dpkg-gencontrol counts.
    fn installed_kib(&self) -> usize {
        let files: usize = self.files.values().map(|f| f.bytes.len().div_ceil(1024)).sum();
        let paths = self.files.keys().chain(self.links.keys());
        files + self.links.len() + folders_of(paths, &self.folders).len()
    }
}

/// Every folder with its mode: those above files, and those that are named.
fn folders_of<'a>(
    files: impl Iterator<Item = &'a String>,
    named: &'a BTreeMap<String, u32>,
) -> BTreeMap<String, u32> {
    let mut folders = BTreeMap::new();
    for path in files.chain(named.keys()) {
        for folder in Path::new(path).ancestors().skip(1) {
            let folder = folder.to_string_lossy().into_owned();
            if !folder.is_empty() {
                folders.insert(folder, FOLDER);
            }
        }
    }
    folders.extend(named.iter().map(|(path, mode)| (path.clone(), *mode)));
    folders
}

/// A compressed tar of the files and of all folders above them, sorted, of root.
fn archive(
    files: &BTreeMap<String, File>,
    links: &BTreeMap<String, String>,
    folders: &BTreeMap<String, u32>,
    epoch: u64,
) -> anyhow::Result<Vec<u8>> {
    let xz = XzWriter::new(Vec::new(), XzOptions::with_preset(XZ_PRESET))?;
    let mut tar = tar::Builder::new(xz);
    let mut entries: BTreeMap<String, (tar::EntryType, u32, &[u8])> = BTreeMap::new();
    entries.insert(String::new(), (tar::EntryType::Directory, FOLDER, &[]));
    for (path, mode) in folders_of(files.keys().chain(links.keys()), folders) {
        entries.insert(format!("{path}/"), (tar::EntryType::Directory, mode, &[]));
    }
    for (path, file) in files {
        entries.insert(path.clone(), (tar::EntryType::Regular, file.mode, &file.bytes));
    }
    for (path, target) in links {
        entries.insert(path.clone(), (tar::EntryType::Symlink, LINK, target.as_bytes()));
    }
    for (path, (kind, mode, bytes)) in entries {
        let mut header = tar::Header::new_ustar();
        // Written here because the library leaves out the `./` that dpkg begins its paths with.
        let path = format!("./{path}");
        ensure!(
            path.len() < PATH_MAX,
            "{path}: expected fewer than {PATH_MAX} bytes, found {}",
            path.len()
        );
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(epoch);
        // A link's target stands in the header.
        let bytes = if kind == tar::EntryType::Symlink {
            header.set_link_name_literal(bytes)?;
            &[]
        } else {
            bytes
        };
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).with_context(|| format!("packing {path}"))?;
    }
    let mut xz = tar.into_inner()?;
    xz.flush()?;
    Ok(xz.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use lzma_rust2::XzReader;

    use super::*;

    fn package() -> Package {
        Package {
            control: vec![("Package", "clearfilm".into()), ("Version", "1".into())],
            scripts: BTreeMap::from([("postinst", "#!/bin/sh\n")]),
            files: BTreeMap::from([
                ("usr/bin/b".to_owned(), File::program("run")),
                ("etc/clearfilm/config.toml".to_owned(), File::group_only("[unit]\n")),
            ]),
            links: BTreeMap::from([("usr/bin/l".to_owned(), "/var/b".to_owned())]),
            folders: BTreeMap::from([("etc/clearfilm/conf.d".to_owned(), 0o750)]),
            epoch: 1_700_000_000,
        }
    }

    /// `mode path` of every entry of a member.
    fn entries(deb: &[u8], member: &str) -> Vec<String> {
        let mut members = ar::Archive::new(deb);
        while let Some(found) = members.next_entry() {
            let found = found.expect("an archive");
            if found.header().identifier() == member.as_bytes() {
                let mut tar = tar::Archive::new(XzReader::new(found, false));
                let entry = |e: std::io::Result<tar::Entry<'_, _>>| {
                    let e = e.expect("an entry");
                    assert_eq!(e.header().mtime().expect("a time"), 1_700_000_000);
                    let path = String::from_utf8_lossy(&e.path_bytes()).into_owned();
                    format!("{:o} {path}", e.header().mode().expect("a mode"))
                };
                return tar.entries().expect("a tar").map(entry).collect();
            }
        }
        Vec::new()
    }

    #[test]
    fn a_package_holds_its_files_sorted_with_every_folder_above_them() {
        let deb = package().to_bytes().expect("packed");
        let expected = [
            "755 ./",
            "755 ./etc/",
            "755 ./etc/clearfilm/",
            "750 ./etc/clearfilm/conf.d/",
            "640 ./etc/clearfilm/config.toml",
            "755 ./usr/",
            "755 ./usr/bin/",
            "755 ./usr/bin/b",
            "777 ./usr/bin/l",
        ];
        assert_eq!(entries(&deb, "data.tar.xz"), expected);
        let expected =
            ["755 ./", "644 ./conffiles", "644 ./control", "644 ./md5sums", "755 ./postinst"];
        assert_eq!(entries(&deb, "control.tar.xz"), expected);
    }

    #[test]
    fn the_same_files_make_the_same_bytes_and_other_files_others() {
        let first = package().to_bytes().expect("packed");
        assert_eq!(first, package().to_bytes().expect("packed"));
        let other = Package { epoch: 1_700_000_001, ..package() }.to_bytes().expect("packed");
        assert_ne!(first, other);
    }

    #[test]
    fn control_lists_sums_and_what_an_administrator_may_change() {
        let bytes = package().control_archive().expect("packed");
        let mut text = String::new();
        let mut tar = tar::Archive::new(XzReader::new(bytes.as_slice(), false));
        for entry in tar.entries().expect("a tar") {
            entry.expect("an entry").read_to_string(&mut text).expect("text");
        }
        // md5sum of "run"; two files of one KiB, a link and five folders.
        assert!(text.contains("a53108f7543b75adbb34afc035d4cdf6  usr/bin/b\n"), "{text}");
        assert!(text.contains("Package: clearfilm\nVersion: 1\nInstalled-Size: 8\n"), "{text}");
        assert!(text.starts_with("/etc/clearfilm/config.toml\n"), "{text}");
    }

    #[test]
    fn a_path_that_old_readers_cannot_hold_is_refused() {
        let mut long = package();
        long.files.insert("x".repeat(PATH_MAX), File::plain(""));
        let error = format!("{:#}", long.to_bytes().expect_err("refused"));
        assert!(error.contains("expected fewer than 100 bytes"), "{error}");
    }
}
