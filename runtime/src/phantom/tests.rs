//! What phantoms promise.

use dicom_dictionary_std::tags;
use dicom_object::{FileDicomObject, InMemDicomObject};

use super::*;

fn phantom(seed: u64, variant: Variant) -> Phantom {
    Phantom { seed, projection: Projection::Pa, variant }
}

fn small(bits_stored: u16, photometric: Photometric) -> Encoding {
    Encoding { rows: 75, columns: 61, bits_stored, photometric }
}

fn parsed(phantom: &Phantom, encoding: &Encoding) -> FileDicomObject<InMemDicomObject> {
    let bytes = phantom.to_dicom(encoding).expect("stored");
    dicom_object::from_reader(bytes.as_slice()).expect("a DICOM file")
}

fn samples(phantom: &Phantom, encoding: &Encoding) -> Vec<u16> {
    let object = parsed(phantom, encoding);
    let value =
        object.element(tags::PIXEL_DATA).expect("pixels").to_multi_int::<u16>().expect("samples");
    value[..encoding.rows * encoding.columns].to_vec()
}

#[test]
fn the_same_seed_has_the_same_bytes_and_another_seed_others() {
    let encoding = small(12, Photometric::Monochrome2);
    let bytes = |seed| phantom(seed, Variant::Device).to_dicom(&encoding).expect("stored");
    assert_eq!(bytes(3), bytes(3));
    assert_ne!(
        samples(&phantom(3, Variant::Device), &encoding),
        samples(&phantom(4, Variant::Device), &encoding)
    );
}

#[test]
fn the_bytes_are_those_of_every_other_machine() {
    // Drawn once on x86-64; a change here is a change in every picture that anyone drew before.
    let drawn: Vec<u8> = Variant::ALL
        .into_iter()
        .flat_map(|variant| phantom(7, variant).draw(64, 64).samples(8, Photometric::Monochrome2))
        .map(|sample| sample.to_le_bytes()[0])
        .collect();
    assert_eq!(
        crate::id::Digest::of(&drawn).to_string(),
        "sha256:eb2e635c91e35881deb8dfeb81d2f5ee60c380d9aa9024ac962790bbee5aba9e"
    );
}

#[test]
fn monochrome1_is_the_complement_of_monochrome2() {
    let one = samples(&phantom(1, Variant::Normal), &small(12, Photometric::Monochrome1));
    let two = samples(&phantom(1, Variant::Normal), &small(12, Photometric::Monochrome2));
    assert!(one.iter().zip(&two).all(|(a, b)| a + b == 4_095));
}

#[test]
fn every_bit_depth_fills_its_range_and_stays_within() {
    for bits in 8..=16 {
        let samples = samples(&phantom(2, Variant::Device), &small(bits, Photometric::Monochrome2));
        let largest = u32::from(samples.iter().copied().max().expect("samples"));
        assert!(largest < 1 << bits && largest > (1 << bits) / 10 * 8, "{bits} bits: {largest}");
    }
    let refused = phantom(2, Variant::Normal).to_dicom(&small(17, Photometric::Monochrome2));
    let error = refused.expect_err("refused").to_string();
    assert!(error.contains("8 to 16") && error.contains("17"), "{error}");
}

#[test]
fn a_large_heart_is_wider_than_every_normal_one() {
    for seed in 0..200 {
        for projection in Projection::ALL {
            let ratio = |variant| Phantom { seed, projection, variant }.cardiothoracic_ratio();
            assert!(ratio(Variant::Normal) < 0.5, "seed {seed}: {}", ratio(Variant::Normal));
            assert!(
                ratio(Variant::Cardiomegaly) > 0.55,
                "seed {seed}: {}",
                ratio(Variant::Cardiomegaly)
            );
        }
    }
}

#[test]
fn an_effusion_is_brighter_than_the_normal_of_the_same_seed_and_only_at_the_base() {
    for seed in 0..12 {
        for projection in Projection::ALL {
            let mean = |variant, rows: std::ops::Range<usize>| {
                let drawing = Phantom { seed, projection, variant }.draw(100, 84);
                let band = &drawing.values[rows.start * 84..rows.end * 84];
                band.iter().sum::<f32>() / band.len() as f32
            };
            let brighter = |rows: std::ops::Range<usize>| {
                mean(Variant::Effusion, rows.clone()) - mean(Variant::Normal, rows)
            };
            assert!(brighter(60..75) > 0.03, "seed {seed}: {}", brighter(60..75));
            assert!(brighter(22..34).abs() < 0.03, "seed {seed}: {}", brighter(22..34));
        }
    }
}

#[test]
fn the_file_is_a_chest_for_presentation_with_our_identifiers() {
    let encoding =
        Encoding { photometric: Photometric::Monochrome1, ..small(10, Photometric::Monochrome2) };
    let phantom = Phantom { seed: 5, projection: Projection::Ap, variant: Variant::Effusion };
    let object = parsed(&phantom, &encoding);
    let text = |tag| object.element(tag).expect("present").to_str().expect("text").into_owned();
    assert_eq!(object.meta().transfer_syntax(), "1.2.840.10008.1.2.1");
    assert_eq!(text(tags::SOP_CLASS_UID), "1.2.840.10008.5.1.4.1.1.1.1");
    assert_eq!(text(tags::SOP_INSTANCE_UID), phantom.sop_instance_uid(&encoding).as_str());
    assert_eq!(text(tags::STUDY_INSTANCE_UID), phantom.study_uid(&encoding).as_str());
    assert_eq!(text(tags::PATIENT_NAME), "PHANTOM^EFFUSION");
    assert_eq!([text(tags::BODY_PART_EXAMINED), text(tags::VIEW_POSITION)], ["CHEST", "AP"]);
    assert_eq!(
        [text(tags::PHOTOMETRIC_INTERPRETATION), text(tags::PRESENTATION_LUT_SHAPE)],
        ["MONOCHROME1", "INVERSE"]
    );
    let other = Phantom { projection: Projection::Pa, ..phantom };
    assert_ne!(phantom.study_uid(&encoding), other.study_uid(&encoding));
}

#[test]
fn a_variant_is_read_back_by_its_name() {
    for variant in Variant::ALL {
        assert_eq!(variant.name().parse::<Variant>().expect("known"), variant);
    }
    let error = "fracture".parse::<Variant>().expect_err("unknown").to_string();
    assert!(error.contains("fracture") && error.contains("effusion"), "{error}");
}
