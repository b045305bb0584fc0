//! A table is read back as it was written, and what is no table is refused by name.

use std::fs;
use std::path::PathBuf;

use super::*;

fn intensity(number: u8) -> Intensity {
    Intensity([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7].map(|share| f32::from(number) + share))
}

/// Two rows: one of which everything is known, and one of which nothing is.
fn table() -> Table {
    let known = Record {
        image: "a/1.png".into(),
        patient: Some("7".into()),
        study: Some("s1".into()),
        split: Some("train".into()),
        position: Some("PA".into()),
        sex: Some("F".into()),
        age: Some(44),
        follow_up: Some(0),
        spacing_mm: Some(0.143),
        rows: Some(2_500),
        columns: Some(2_048),
        labels: vec![Some(Mark::Present), Some(Mark::Uncertain), None],
    };
    let unknown = Record { image: "a/2.png".into(), ..Record::default() };
    let mut table = Table::new(&["Edema".into(), "Mass".into(), "Hernia".into()]);
    let row = |record, view, number| Row {
        record,
        sha256: "sha256:00",
        view,
        intensity: intensity(number),
        shard: u32::from(number),
        row: u32::MAX - u32::from(number),
    };
    table.push(&row(&known, 0, 1));
    table.push(&row(&unknown, u32::MAX, 2));
    table
}

/// The table as a file, after something was done to it.
fn written(table: &Table, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.parquet");
    write(&file, table).expect("written");
    let bytes = fs::read(&file).expect("read");
    fs::write(&file, change(bytes)).expect("written");
    (folder, file)
}

#[test]
fn a_table_is_read_back_as_it_was_written() {
    let table = table();
    let (_folder, file) = written(&table, |bytes| bytes);
    let back = read(&file).expect("read");
    assert_eq!(back, table);
    assert_eq!(back.patient.get(0), Some("7"));
    assert_eq!(back.patient.get(1), None);
    assert_eq!(back.sha256.distinct(), ["sha256:00"]);
    assert_eq!(back.label("Mass"), Some([Some(Mark::Uncertain), None].as_slice()));
    assert_eq!(back.label("Fracture"), None);
}

#[test]
fn a_table_of_several_groups_is_read_back_as_one() {
    let (once, mut twice) = (table(), Table::new(&[]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.parquet");
    let labels: Vec<String> = once.labels.iter().map(|l| l.name.clone()).collect();
    let mut writer = TableWriter::new(&file, &labels).expect("begun");
    for _ in 0..2 {
        writer.append(&once).expect("appended");
        twice.view.extend(&once.view);
        twice.age.extend(&once.age);
    }
    writer.finish().expect("finished");
    let back = read(&file).expect("read");
    assert_eq!((back.view, back.age), (twice.view, twice.age));
    assert_eq!(
        back.image.iter().collect::<Vec<_>>(),
        ["a/1.png", "a/2.png"].repeat(2).into_iter().map(Some).collect::<Vec<_>>()
    );
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let bytes = || {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rows.parquet");
        write(&file, &table()).expect("written");
        fs::read(file).expect("read")
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_table_with_other_labels_than_its_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer =
        TableWriter::new(&folder.path().join("rows.parquet"), &["Edema".into()]).expect("begun");
    assert!(writer.append(&table()).is_err());
}

#[test]
fn half_a_file_is_refused() {
    let (_folder, file) = written(&table(), |bytes| bytes[..bytes.len() / 2].to_vec());
    let error = read(&file).expect_err("refused").to_string();
    assert!(error.starts_with("opening ") && error.contains("rows.parquet"), "{error}");
}

#[test]
fn a_missing_column_is_refused_by_name() {
    // The same length, so that the file stays whole: the name in the footer is another one.
    let renamed = |bytes: Vec<u8>| {
        let latin: String = bytes.iter().copied().map(char::from).collect();
        let text = latin.replace("follow_up", "follow_on");
        text.chars().map(|c| u8::try_from(c).expect("a byte")).collect()
    };
    let (_folder, file) = written(&table(), renamed);
    let error = read(&file).expect_err("refused").to_string();
    assert!(error.contains("column follow_up: expected whole numbers, found none"), "{error}");
}

#[test]
fn a_number_that_is_no_label_is_refused() {
    assert_eq!(Mark::try_from(2), Err(NoMark("2".into())));
    for mark in [Mark::Absent, Mark::Present, Mark::Uncertain] {
        assert_eq!(Mark::try_from(i32::from(mark)), Ok(mark));
    }
}
