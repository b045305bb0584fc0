//! The gate and the out-of-distribution score on real images, with their headers and without.

use std::fs;
use std::path::Path;

use clearfilm::bundle::Bundle;
use clearfilm::config::{Config, EngineChoice};
use clearfilm::decode::{Facts, Frame, decode_file};
use clearfilm::encode::{self, Encoder};
use clearfilm::gate::Outcome;
use clearfilm::reading::{self, Reading};

use crate::peers::{files_in, radiographs};

struct Reader {
    bundle: Bundle,
    config: Config,
    encoder: Box<dyn Encoder>,
}

impl Reader {
    fn new() -> Self {
        let config = Config::default();
        let bundle = Bundle::load(&config.bundle).expect("the demo bundle");
        let encoder =
            encode::start(EngineChoice::Tract, &bundle, &config.engine).expect("tract starts");
        Self { bundle, config, encoder }
    }

    fn frame(&self, file: &Path) -> Option<Frame> {
        decode_file(file, &self.config.decode, &self.config.dicom.limits).ok()
    }

    fn read(&mut self, frame: &Frame) -> Reading {
        let policy = self.config.policy();
        reading::read(frame, &self.bundle, &policy, self.encoder.as_mut()).expect("read")
    }
}

/// The frame as if its header told nothing but what pixels need.
fn silent(frame: Frame) -> Frame {
    Frame { facts: Facts { source: frame.facts.source, ..Facts::default() }, ..frame }
}

fn outcome(reading: &Reading, name: &str) -> Outcome {
    reading.gate.checks.iter().find(|c| c.name == name).expect("asked").outcome
}

#[test]
fn a_hip_does_not_pass_without_its_header_and_a_chest_does() {
    let Some(data) = radiographs("hips and chests") else { return };
    let mut reader = Reader::new();
    let mut strangers = 0;
    for file in files_in(&data.join("dicom-other"), "dcm") {
        // Two of them are JPEG Extended, which is not decoded.
        let Some(frame) = reader.frame(&file) else { continue };
        strangers += 1;
        assert!(!reader.read(&frame).accepted(), "{}", file.display());
        let reading = reader.read(&silent(frame));
        assert!(!reading.accepted(), "{} without its header", file.display());
        assert_eq!(outcome(&reading, "chest"), Outcome::Fail);
    }
    assert_eq!(strangers, 6);
    for file in files_in(&data.join("dicom-chest"), "dcm") {
        let name = file.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        let frame = reader.frame(&file).expect("decoded");
        let reading = reader.read(&frame);
        // A negative is doubted by its grey values, and withheld as unlike any chest.
        let negative = name.contains("fake-monochrome1");
        assert_eq!((reading.accepted(), reading.withheld()), (!negative, negative), "{name}");
        let flagged = outcome(&reading, "polarity") == Outcome::Warn;
        assert_eq!(flagged, negative, "{name}");
        if name.contains("RG1") {
            assert!(reader.read(&silent(frame)).accepted(), "{name} without its header");
        }
    }
}

#[test]
fn nearly_all_adult_chests_are_read_without_a_header() {
    let Some(data) = radiographs("chests without headers") else { return };
    let mut reader = Reader::new();
    let table = fs::read_to_string(data.join("nih-cxr14/labels.csv")).expect("the table");
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().expect("a head");
    let column = |name: &str| head.iter().position(|c| *c == name).expect("a column");
    let (image, split, age) = (column("image"), column("split"), column("age"));
    let adult = |text: &str| text.parse::<f64>().is_ok_and(|years| years >= 18.0);
    let (mut all, mut read) = (0, 0);
    for row in lines.filter(|row| row[split] == "dev" && adult(row[age])) {
        // A PNG has no header at all.
        let frame = reader.frame(&data.join("nih-cxr14/images").join(row[image])).expect("decoded");
        all += 1;
        read += usize::from(reader.read(&frame).accepted());
    }
    eprintln!("{read} of {all} adults read without a header");
    assert!(all > 100 && read * 100 >= all * 95, "{read} of {all}");
}
