//! A small tree of each layout, with drawn pictures, and what is wrong with it refused by name.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use clearfilm::phantom::{Phantom, Projection, Variant};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::table::Mark;

const YES: Option<Mark> = Some(Mark::Present);
const NO: Option<Mark> = Some(Mark::Absent);
const MAYBE: Option<Mark> = Some(Mark::Uncertain);

/// A collection of these text files and drawn pictures.
fn tree(texts: &[(&str, &str)], pictures: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let phantom = Phantom { seed: 1, projection: Projection::Pa, variant: Variant::Normal };
    let png = phantom.draw(32, 32).to_png().expect("drawn");
    let texts = texts.iter().map(|(name, text)| (*name, text.as_bytes()));
    for (name, bytes) in texts.chain(pictures.iter().map(|name| (*name, png.as_slice()))) {
        let file = root.path().join(name);
        fs::create_dir_all(file.parent().expect("below the root")).expect("made");
        fs::write(file, bytes).expect("written");
    }
    root
}

fn listed(layout: &Layout, root: &Path) -> Listing {
    layout.list(root).expect("listed")
}

#[track_caller]
fn refused(layout: &Layout, root: &Path, by: &str) {
    let error = layout.list(root).expect_err("refused").to_string();
    assert!(error.contains(by), "expected {by:?}, found {error:?}");
}

const CHEXPERT: &str = "\
Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,\
Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,\
Fracture,Support Devices
";
const CHEXPERT_ROWS: &str = "\
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,-1.0
CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,1.0,,,,,,,,,0.0,,,,-1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,,,,,,,,,,,,,
";

#[test]
fn chexpert_is_listed_with_its_folder_as_root() {
    let table = format!("{CHEXPERT}{CHEXPERT_ROWS}");
    let folder = "train/patient00001/study1";
    let pictures = [format!("{folder}/view1_frontal.jpg"), format!("{folder}/view2_lateral.jpg")];
    let root = tree(&[("train.csv", &table)], &pictures.each_ref().map(String::as_str));
    let listing = listed(&Layout::Chexpert, root.path());
    assert_eq!((listing.records.len(), listing.absent, listing.labels.len()), (2, 1, 14));
    let first = &listing.records[0];
    assert_eq!(first.image, pictures[0]);
    assert_eq!(first.patient.as_deref(), Some("patient00001"));
    assert_eq!(first.study.as_deref(), Some("patient00001/study1"));
    assert_eq!((first.split.as_deref(), first.position.as_deref()), (Some("train"), Some("AP")));
    assert_eq!((first.sex.as_deref(), first.age), (Some("F"), Some(68)));
    assert_eq!(
        [first.labels[0], first.labels[1], first.labels[9], first.labels[13]],
        [YES, None, NO, MAYBE]
    );
    assert_eq!(listing.records[1].position.as_deref(), Some("LL"));
}

#[test]
fn a_table_with_a_column_too_few_or_too_many_is_refused_by_its_name() {
    let missing = tree(&[("train.csv", &CHEXPERT.replace(",Edema", ""))], &[]);
    refused(&Layout::Chexpert, missing.path(), "expected a column Edema, found Path, Sex");
    let strange = tree(&[("train.csv", &CHEXPERT.replace("Path", "Path,Hernia"))], &[]);
    refused(&Layout::Chexpert, strange.path(), "found \"Hernia\"");
    let wrong = tree(
        &[("train.csv", &format!("{CHEXPERT}{}", CHEXPERT_ROWS.replace("-1.0", "2")))],
        &["train/patient00001/study1/view1_frontal.jpg"],
    );
    refused(
        &Layout::Chexpert,
        wrong.path(),
        "line 2: column Support Devices: expected a label of 1, 0 or -1, found \"2\"",
    );
    refused(&Layout::Chexpert, tree(&[], &[]).path(), "expected train.csv, valid.csv or test.csv");
}

#[test]
fn mimic_is_joined_from_its_three_tables_also_gzipped() {
    let metadata = "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\n\
        aa-1,10000032,50414267,PA,3056,2544\nbb-2,10000032,50414267,LATERAL,3056,2544\n\
        cc-3,10000764,57375967,AP,2021,1736\n";
    let split = "dicom_id,study_id,subject_id,split\naa-1,50414267,10000032,train\n\
        bb-2,50414267,10000032,train\ncc-3,57375967,10000764,validate\n";
    let names = CHEXPERT.trim().split(',').skip(5).collect::<Vec<_>>().join(",");
    let labels =
        format!("subject_id,study_id,{names}\n10000032,50414267,1.0,,,,,-1.0,,,,,,,,0.0\n");
    let folder = "files/p10/p10000032/s50414267";
    let pictures = [format!("{folder}/aa-1.jpg"), format!("{folder}/bb-2.dcm")];
    let root = tree(
        &[("mimic-cxr-2.0.0-metadata.csv", metadata), ("mimic-cxr-2.0.0-chexpert.csv", &labels)],
        &[&pictures[0], &pictures[1], "files/p10/p10000764/s57375967/cc-3.jpg"],
    );
    refused(
        &Layout::Mimic,
        root.path(),
        "expected mimic-cxr-2.0.0-split.csv or mimic-cxr-2.0.0-split.csv.gz",
    );
    let file = fs::File::create(root.path().join("mimic-cxr-2.0.0-split.csv.gz")).expect("made");
    let mut gzip = GzEncoder::new(file, Compression::default());
    gzip.write_all(split.as_bytes()).and_then(|()| gzip.try_finish()).expect("written");
    let listing = listed(&Layout::Mimic, root.path());
    let [first, second, third] = &listing.records[..] else { unreachable!("three pictures") };
    assert_eq!([&first.image, &second.image], [&pictures[0], &pictures[1]]);
    assert_eq!(
        (first.patient.as_deref(), first.study.as_deref()),
        (Some("10000032"), Some("50414267"))
    );
    assert_eq!((first.rows, first.columns), (Some(3056), Some(2544)));
    assert_eq!([first.labels[0], first.labels[5], first.labels[13]], [YES, MAYBE, NO]);
    assert_eq!((first.position.as_deref(), second.position.as_deref()), (Some("PA"), Some("LL")));
    assert_eq!((third.split.as_deref(), third.labels[0]), (Some("validate"), None));
}

const NIH: &str = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,\
    View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n";

#[test]
fn nih_pictures_are_found_anywhere_and_split_by_the_collections_own_lists() {
    let table = format!(
        "{NIH}00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143\n\
        00000002_000.png,No Finding,3,2,80,F,AP,2500,2048,0.168,0.168\n\
        00000003_000.png,Hernia,0,3,74,F,PA,2500,2048,0.168,0.168\n"
    );
    let texts = [
        ("Data_Entry_2017_v2020.csv", table.as_str()),
        ("train_val_list.txt", "00000001_000.png\n"),
        ("test_list.txt", "00000002_000.png\n"),
    ];
    let root = tree(&texts, &["images_001/images/00000001_000.png", "images_002/00000002_000.png"]);
    let listing = listed(&Layout::Nih, root.path());
    assert_eq!(listing.absent, 1);
    let [first, second] = &listing.records[..] else { unreachable!("two pictures") };
    assert_eq!(first.image, "images_001/images/00000001_000.png");
    assert_eq!((first.split.as_deref(), second.split.as_deref()), (Some("train"), Some("test")));
    assert_eq!(
        (first.rows, first.columns, first.spacing_mm),
        (Some(2749), Some(2682), Some(0.143))
    );
    assert_eq!((second.follow_up, second.age), (Some(3), Some(80)));
    let present = |record: &Record| {
        let marks = listing.labels.iter().zip(&record.labels);
        marks.filter(|(_, mark)| **mark == YES).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(present(first), ["Cardiomegaly", "Emphysema"]);
    assert_eq!(present(second), ["No Finding"]);
    let strange = table.replace("Hernia", "Covid").replace("00000003", "00000001");
    let root = tree(&[("Data_Entry_2017_v2020.csv", &strange)], &["00000001_000.png"]);
    refused(&Layout::Nih, root.path(), "expected a label of this collection, found \"Covid\"");
}

fn report(id: &str, image: &str, terms: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><eCitation><uId id=\"{id}\"/><MeSH>{terms}<automatic>Lung</automatic>\
        </MeSH><parentImage id=\"{image}\"><url/></parentImage></eCitation>"
    )
}

#[test]
fn open_i_reports_give_headings_and_those_that_nobody_indexed_give_none() {
    let reports = [
        report("CXR1", "CXR1_1_IM-0001-3001", "<major>normal</major>"),
        report(
            "CXR2",
            "CXR2_IM-0652-1001",
            "<major>Cardiomegaly/borderline</major><major>Pulmonary Artery/enlarged</major>",
        ),
        report("CXR3", "CXR3_1_IM-1384-1001", "<major>No Indexing</major>"),
        report("CXR4", "CXR4_1", "<major>Cardiomegaly</major>"),
    ];
    let names = ["1", "2", "3", "4"].map(|n| format!("ecgen-radiology/{n}.xml"));
    let texts: Vec<(&str, &str)> =
        names.iter().zip(&reports).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let root = tree(
        &texts,
        &["CXR1_1_IM-0001-3001.png", "png/CXR2_IM-0652-1001.png", "CXR3_1_IM-1384-1001.png"],
    );
    let listing = listed(&Layout::Openi, root.path());
    assert_eq!(listing.labels, ["cardiomegaly", "normal", "pulmonary artery"]);
    assert_eq!((listing.records.len(), listing.absent), (3, 1));
    assert_eq!(listing.records[0].labels, [NO, YES, NO]);
    assert_eq!(listing.records[1].labels, [None, None, None]);
    assert_eq!(listing.records[2].labels, [YES, NO, YES]);
    assert_eq!(listing.records[2].patient.as_deref(), Some("CXR2"));
    let root = tree(&[("ecgen-radiology/1.xml", "<eCitation>")], &[]);
    refused(&Layout::Openi, root.path(), "ecgen-radiology/1.xml");
}

#[test]
fn any_table_is_read_by_the_names_of_its_columns() {
    let table = "\u{feff}id,patient,projection,years,kind,Edema\n\
        a,7,pa,44,NORMAL,1\nb.png,8,,,BACTERIAL,\n";
    let root = tree(&[("data.csv", table)], &["images/a.jpg", "images/b.png", "originals/a.jpg"]);
    let columns = Columns {
        table: "data.csv".into(),
        images: "images".into(),
        image: Some("id".into()),
        position: Some("projection".into()),
        age: Some("years".into()),
        labels: vec!["Edema".into()],
        class: Some("kind".into()),
        ..Columns::default()
    };
    let listing = listed(&Layout::Csv(Box::new(columns.clone())), root.path());
    assert_eq!(listing.labels, ["Edema", "BACTERIAL", "NORMAL"]);
    let [first, second] = &listing.records[..] else { unreachable!("two pictures") };
    assert_eq!((first.image.as_str(), second.image.as_str()), ("images/a.jpg", "images/b.png"));
    assert_eq!((first.position.as_deref(), first.age), (Some("PA"), Some(44)));
    assert_eq!((first.patient.as_deref(), second.age), (Some("7"), None));
    assert_eq!(first.labels, [YES, NO, YES]);
    assert_eq!(second.labels, [None, YES, NO]);
    let named = Columns { sex: Some("gender".into()), ..columns };
    refused(
        &Layout::Csv(Box::new(named)),
        root.path(),
        "expected a column gender, found id, patient",
    );
}

#[test]
fn a_folder_without_a_table_and_a_picture_that_two_rows_are_about() {
    let root = tree(&[("notes.txt", "")], &["b/2.png", "a/1.DCM"]);
    let listing = listed(&Layout::Files, root.path());
    let images: Vec<&str> = listing.records.iter().map(|r| r.image.as_str()).collect();
    assert_eq!(images, ["a/1.DCM", "b/2.png"]);
    refused(&Layout::Files, tree(&[], &[]).path(), "expected pictures, found none");
    let root = tree(&[("t.csv", "image\na.png\na\n")], &["a.png"]);
    let columns = Columns { table: "t.csv".into(), ..Columns::default() };
    refused(&Layout::Csv(Box::new(columns)), root.path(), "found two for a.png");
}

#[test]
fn the_real_collections_are_listed() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.is_dir() {
        println!("!! SKIPPED: expected radiographs in ../shared/data, found none");
        return;
    }
    let named = |name: &str| Some(name.to_owned());
    let nih = Columns {
        table: "labels.csv".into(),
        images: "images".into(),
        patient: named("patient_id"),
        position: named("view"),
        spacing_mm: named("pixel_spacing_mm"),
        labels: ["Edema", "No_Finding"].map(Into::into).into(),
        ..Columns::default()
    };
    let hannover = Columns {
        table: "data.csv".into(),
        images: "images".into(),
        image: named("image_id"),
        patient: named("patient_id"),
        position: named("projection"),
        ..Columns::default()
    };
    let kermany = Columns {
        table: "labels.csv".into(),
        images: "images".into(),
        patient: named("patient_key"),
        class: named("label"),
        ..Columns::default()
    };
    for (name, columns, count) in [
        ("nih-cxr14", nih, 758),
        ("hannover-covid19", hannover, 182),
        ("kermany-pediatric", kermany, 180),
    ] {
        let listing = listed(&Layout::Csv(Box::new(columns)), &data.join(name));
        assert_eq!((listing.records.len(), listing.absent), (count, 0), "{name}");
        assert!(listing.records.iter().all(|record| record.patient.is_some()), "{name}");
    }
}
