//! One drawn image in every transfer syntax, and the peers that decode it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use clearfilm::clock::{Clock as _, SystemClock};
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};

use crate::figures::ms;

/// A transfer syntax, who makes it and who decodes it.
pub(crate) struct Coded {
    /// Its name in the table.
    pub(crate) name: &'static str,
    bits: u16,
    coder: Coder,
    /// DCMTK's tool that makes uncompressed files of it, and its arguments.
    pub(crate) dcmtk: Option<&'static [&'static str]>,
    /// pydicom's decoding plugin.
    pub(crate) plugin: &'static str,
    /// Decoders may differ.
    pub(crate) lossy: bool,
}

/// Who makes a file from the drawn one.
enum Coder {
    /// Nobody: it is drawn so.
    Drawn,
    /// A tool of DCMTK.
    Dcmtk(&'static [&'static str]),
    /// pydicom, to a transfer syntax.
    Python(&'static str),
}

/// A row of the table.
const fn coded(
    name: &'static str,
    coder: Coder,
    dcmtk: &'static [&'static str],
    plugin: &'static str,
) -> Coded {
    let dcmtk = if dcmtk.is_empty() { None } else { Some(dcmtk) };
    Coded { name, bits: 12, coder, dcmtk, plugin, lossy: false }
}

/// In the order of the table.
pub(crate) static ALL: [Coded; 12] = [
    coded("explicit VR little endian", Coder::Drawn, &[], "pydicom"),
    coded("implicit VR little endian", Coder::Dcmtk(&["dcmconv", "+ti"]), &[], "pydicom"),
    coded("explicit VR big endian", Coder::Dcmtk(&["dcmconv", "+tb"]), &[], "pydicom"),
    coded("deflated", Coder::Dcmtk(&["dcmconv", "+td"]), &["dcmconv", "+te"], "pydicom"),
    coded("RLE", Coder::Dcmtk(&["dcmcrle"]), &["dcmdrle"], "pylibjpeg"),
    Coded {
        bits: 8,
        lossy: true,
        ..coded(
            "JPEG baseline, 8 bit",
            Coder::Dcmtk(&["dcmcjpeg", "+eb", "+q", "90"]),
            &["dcmdjpeg"],
            "pylibjpeg",
        )
    },
    coded(
        "JPEG lossless, process 14",
        Coder::Dcmtk(&["dcmcjpeg", "+el"]),
        &["dcmdjpeg"],
        "pylibjpeg",
    ),
    coded(
        "JPEG lossless, selection value 1",
        Coder::Dcmtk(&["dcmcjpeg", "+e1"]),
        &["dcmdjpeg"],
        "pylibjpeg",
    ),
    coded("JPEG-LS lossless", Coder::Dcmtk(&["dcmcjpls"]), &["dcmdjpls"], "pyjpegls"),
    Coded {
        lossy: true,
        ..coded(
            "JPEG-LS near-lossless",
            Coder::Python("JPEGLSNearLossless"),
            &["dcmdjpls"],
            "pyjpegls",
        )
    },
    coded("JPEG 2000 lossless", Coder::Python("JPEG2000Lossless"), &[], "pylibjpeg"),
    Coded {
        lossy: true,
        ..coded("JPEG 2000, 10 to 1", Coder::Python("JPEG2000"), &[], "pylibjpeg")
    },
];

impl Coded {
    /// Makes the file.
    pub(crate) fn file(&self, folder: &Path, python: &mut Python) -> PathBuf {
        let encoding = Encoding {
            rows: 2500,
            columns: 2048,
            bits_stored: self.bits,
            photometric: Photometric::Monochrome2,
        };
        let drawn = plain(folder, self.bits);
        if !drawn.is_file() {
            let phantom =
                Phantom { seed: 1, projection: Projection::Pa, variant: Variant::Effusion };
            fs::write(&drawn, phantom.to_dicom(&encoding).expect("drawn")).expect("written");
        }
        let file = folder.join(format!("{}-{}.dcm", self.bits, self.name.replace(' ', "-")));
        match &self.coder {
            Coder::Drawn => return drawn,
            Coder::Dcmtk(command) => {
                tool(command, &drawn, &file);
            }
            Coder::Python(syntax) => {
                python.ask(&["compress", syntax, &shown(&drawn), &shown(&file)]);
            }
        }
        file
    }
}

/// The drawn file, uncompressed.
fn plain(folder: &Path, bits: u16) -> PathBuf {
    folder.join(format!("{bits}.dcm"))
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a path in ASCII").to_owned()
}

/// Runs a tool of DCMTK from file to file; ms from its start to its end.
fn tool(command: &[&str], from: &Path, to: &Path) -> f64 {
    let begun = SystemClock.monotonic();
    let done = Command::new(command[0]).args(&command[1..]).args([from, to]).output();
    let taken = ms(SystemClock.monotonic().duration_since(begun));
    let done = done.expect("DCMTK is installed");
    assert!(
        done.status.success(),
        "{command:?} on {}: {}",
        from.display(),
        String::from_utf8_lossy(&done.stderr)
    );
    taken
}

/// DCMTK's tool on one file.
pub(crate) struct Dcmtk<'a> {
    command: &'a [&'a str],
    file: &'a Path,
}

impl<'a> Dcmtk<'a> {
    pub(crate) fn new(command: &'a [&'a str], file: &'a Path) -> Self {
        Self { command, file }
    }

    /// The whole of it, and of the same tool where nothing is to be decoded, ms.
    pub(crate) fn run(&self) -> (f64, f64) {
        let folder = self.file.parent().expect("a file lies in a folder");
        let name = self.file.file_name().and_then(|n| n.to_str()).expect("a name in ASCII");
        let bits = name.split('-').next().and_then(|b| b.parse().ok()).expect("bits are in front");
        let out = folder.join("out.dcm");
        let whole = tool(self.command, self.file, &out);
        (whole, tool(self.command, &plain(folder, bits), &out))
    }
}

/// pydicom in a process that stays, so that neither start nor import is measured.
pub(crate) struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    pub(crate) fn start() -> Self {
        let python = std::env::var_os("CLEARFILM_TEST_PYTHON")
            .expect("CLEARFILM_TEST_PYTHON names a Python with tests/requirements.txt");
        let mut child = Command::new(python)
            .arg(clearfilm_tests::root().join("tests/benches/decoders.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    /// Decodes a file that it has read into memory; ms, and the mean of the stored samples.
    pub(crate) fn decode(&mut self, plugin: &str, file: &Path) -> (f64, f64) {
        let answer = self.ask(&["decode", plugin, &shown(file)]);
        let mut numbers = answer.split_whitespace().map(|n| n.parse().expect("a number"));
        (numbers.next().expect("a time"), numbers.next().expect("a mean"))
    }

    fn ask(&mut self, words: &[&str]) -> String {
        writeln!(self.stdin, "{}", words.join("\t")).expect("it listens");
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("it answers");
        assert!(!answer.is_empty(), "{words:?}: expected an answer, found that Python ended");
        answer
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
