//! A phantom as a DICOM file: a Digital X-Ray Image for presentation (PS3.3 A.26).
//!
//! Nothing in it depends on the clock or on chance: UIDs are made from what is drawn and how it
//! is stored, dates are constants.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use uuid::Uuid;

use super::draw::spacing_mm;
use super::{Encoding, Phantom, PhantomError, Photometric, Projection};
use crate::id::Uid;

/// Namespace of the UIDs: UUIDv5 of this URN under the URL namespace.
const NAMESPACE: &str = "urn:clearfilm:phantom";

/// When every phantom was taken: a constant, so that the bytes are too.
const DATE: &str = "20260101";
const TIME: &str = "120000";

/// Smallest side that is drawn, pixels: below it no structure is left.
const SIDE_MIN: u16 = 16;

impl Phantom {
    /// Study Instance UID of the phantom in an encoding: each is a study of its own.
    #[must_use]
    pub fn study_uid(&self, encoding: &Encoding) -> Uid {
        self.uid(encoding, "study")
    }

    /// SOP Instance UID of the phantom in an encoding.
    #[must_use]
    pub fn sop_instance_uid(&self, encoding: &Encoding) -> Uid {
        self.uid(encoding, "instance")
    }

    /// The phantom as a whole Part 10 file, explicit VR little endian.
    ///
    /// # Errors
    /// The encoding is none that a DX image can have.
    pub fn to_dicom(&self, encoding: &Encoding) -> Result<Vec<u8>, PhantomError> {
        let &Encoding { rows, columns, bits_stored, photometric } = encoding;
        if !(8..=16).contains(&bits_stored) {
            return Err(PhantomError::BitsStored { found: bits_stored });
        }
        let side = |pixels: usize| u16::try_from(pixels).ok().filter(|&side| side >= SIDE_MIN);
        let (Some(high), Some(wide)) = (side(rows), side(columns)) else {
            return Err(PhantomError::Size { rows, columns });
        };
        let mut object = InMemDicomObject::new_empty();
        self.describe_exam(&mut object, encoding);
        self.describe_view(&mut object);
        describe_image(&mut object, encoding, [high, wide]);
        let samples = self.draw(rows, columns).samples(bits_stored, photometric);
        object.put(pixel_data(&samples, bits_stored));
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION)
            .media_storage_sop_instance_uid(self.sop_instance_uid(encoding).as_str())
            .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let file = object.with_meta(meta).map_err(|e| PhantomError::Dicom(Box::new(e)))?;
        let mut bytes = Vec::with_capacity(2 * samples.len() + 4_096);
        file.write_all(&mut bytes).map_err(|e| PhantomError::Dicom(Box::new(e)))?;
        Ok(bytes)
    }

    /// A UID from a UUID (PS3.5 B.2): its 128 bits as a whole number after 2.25.
    fn uid(&self, encoding: &Encoding, level: &str) -> Uid {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, NAMESPACE.as_bytes());
        let Encoding { rows, columns, bits_stored, photometric } = encoding;
        let (seed, variant, projection) = (self.seed, self.variant, self.projection.name());
        let name = format!(
            "{level}\n{seed}\n{variant}\n{projection}\n{rows}x{columns}\n{bits_stored}\n{}",
            photometric.name()
        );
        let number = Uuid::new_v5(&namespace, name.as_bytes()).as_u128();
        format!("2.25.{number}").parse().expect("5 characters and at most 39 digits are a UID")
    }

    /// Patient, study, series, equipment and SOP common modules.
    fn describe_exam(&self, object: &mut InMemDicomObject, encoding: &Encoding) {
        // SH holds 16 characters.
        let accession = format!("P{}", self.seed % 1_000_000_000_000_000);
        let name = format!("PHANTOM^{}", self.variant.name().to_ascii_uppercase());
        // Any adult age will do: 25 to 84 years, not told apart in the picture.
        let age = format!("{:03}Y", 25 + self.seed % 60);
        put(
            object,
            &[
                (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
                // Not acquired by an X-ray machine, yet primary: no other image went into it.
                (tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY"),
                (tags::DERIVATION_DESCRIPTION, VR::ST, "Drawn by software; shows no patient"),
                (tags::SOP_CLASS_UID, VR::UI, uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION),
                (tags::SOP_INSTANCE_UID, VR::UI, self.sop_instance_uid(encoding).as_str()),
                (tags::STUDY_INSTANCE_UID, VR::UI, self.study_uid(encoding).as_str()),
                (tags::SERIES_INSTANCE_UID, VR::UI, self.uid(encoding, "series").as_str()),
                (tags::STUDY_DATE, VR::DA, DATE),
                (tags::STUDY_TIME, VR::TM, TIME),
                (tags::SERIES_DATE, VR::DA, DATE),
                (tags::SERIES_TIME, VR::TM, TIME),
                (tags::ACQUISITION_DATE, VR::DA, DATE),
                (tags::ACQUISITION_TIME, VR::TM, TIME),
                (tags::CONTENT_DATE, VR::DA, DATE),
                (tags::CONTENT_TIME, VR::TM, TIME),
                (tags::ACCESSION_NUMBER, VR::SH, &accession),
                (tags::STUDY_ID, VR::SH, &accession),
                (tags::SERIES_NUMBER, VR::IS, "1"),
                (tags::INSTANCE_NUMBER, VR::IS, "1"),
                (tags::MODALITY, VR::CS, "DX"),
                (tags::MANUFACTURER, VR::LO, "Clearfilm"),
                (tags::MANUFACTURER_MODEL_NAME, VR::LO, "Phantom"),
                (tags::STUDY_DESCRIPTION, VR::LO, "Phantom of the chest"),
                (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
                (tags::PATIENT_NAME, VR::PN, &name),
                (tags::PATIENT_ID, VR::LO, &format!("PHANTOM-{}", self.seed)),
                (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
                (tags::PATIENT_SEX, VR::CS, "O"),
                (tags::PATIENT_AGE, VR::AS, &age),
            ],
        );
    }

    /// DX anatomy imaged and DX positioning modules.
    fn describe_view(&self, object: &mut InMemDicomObject) {
        put(
            object,
            &[
                (tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
                (tags::IMAGE_LATERALITY, VR::CS, "U"),
                (tags::VIEW_POSITION, VR::CS, self.projection.name()),
                // Columns run to the patient's left, rows to the feet, as a chest is hung.
                (tags::PATIENT_ORIENTATION, VR::CS, "L\\F"),
                (tags::POSITIONER_TYPE, VR::CS, "NONE"),
            ],
        );
        // PS3.16: CID 4010 DX View, CID 4031 Common Anatomic Regions.
        let view = match self.projection {
            Projection::Pa => coded("272479007", "postero-anterior"),
            Projection::Ap => coded("399348003", "antero-posterior"),
        };
        sequence(object, tags::VIEW_CODE_SEQUENCE, vec![view]);
        sequence(object, tags::ANATOMIC_REGION_SEQUENCE, vec![coded("51185008", "Chest")]);
    }
}

/// DX image, detector, acquisition context and image pixel modules, but for the pixels.
fn describe_image(object: &mut InMemDicomObject, encoding: &Encoding, [rows, columns]: [u16; 2]) {
    let bits = encoding.bits_stored;
    let spacing = format!("{:.6}", spacing_mm(encoding.rows, encoding.columns));
    // PS3.3 C.8.11.3.1.2: 1 where lower samples mean less X-ray intensity, -1 where more.
    let (sign, shape) = match encoding.photometric {
        Photometric::Monochrome1 => (1_i16, "INVERSE"),
        Photometric::Monochrome2 => (-1_i16, "IDENTITY"),
    };
    put(
        object,
        &[
            (tags::PRESENTATION_INTENT_TYPE, VR::CS, "FOR PRESENTATION"),
            (tags::DETECTOR_TYPE, VR::CS, "SCINTILLATOR"),
            (tags::DETECTOR_CONFIGURATION, VR::CS, "AREA"),
            (tags::IMAGER_PIXEL_SPACING, VR::DS, &format!("{spacing}\\{spacing}")),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, encoding.photometric.name()),
            (tags::PRESENTATION_LUT_SHAPE, VR::CS, shape),
            (tags::PIXEL_INTENSITY_RELATIONSHIP, VR::CS, "LOG"),
            (tags::RESCALE_INTERCEPT, VR::DS, "0"),
            (tags::RESCALE_SLOPE, VR::DS, "1"),
            (tags::RESCALE_TYPE, VR::LO, "US"),
            // PS3.3 C.11.2.1.2: with LINEAR, centre 2^(bits - 1) and width 2^bits show every sample.
            (tags::WINDOW_CENTER, VR::DS, &(1_u32 << (bits - 1)).to_string()),
            (tags::WINDOW_WIDTH, VR::DS, &(1_u32 << bits).to_string()),
            (tags::BURNED_IN_ANNOTATION, VR::CS, "NO"),
            (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00"),
        ],
    );
    object.put(DataElement::new(
        tags::PIXEL_INTENSITY_RELATIONSHIP_SIGN,
        VR::SS,
        PrimitiveValue::from(sign),
    ));
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, rows),
        (tags::COLUMNS, columns),
        (tags::BITS_ALLOCATED, if bits == 8 { 8 } else { 16 }),
        (tags::BITS_STORED, bits),
        (tags::HIGH_BIT, bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    sequence(object, tags::ACQUISITION_CONTEXT_SEQUENCE, Vec::new());
}

fn pixel_data(samples: &[u16], bits_stored: u16) -> DataElement<InMemDicomObject> {
    if bits_stored > 8 {
        return DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(samples.into()));
    }
    // PS3.5 A.2: in explicit VR 8 bits allocated may be OB; 8.1.1: an even number of bytes.
    let mut bytes: Vec<u8> = samples.iter().map(|sample| sample.to_le_bytes()[0]).collect();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bytes.into()))
}

fn put(object: &mut InMemDicomObject, attributes: &[(Tag, VR, &str)]) {
    for &(tag, vr, text) in attributes {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    }
}

fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// A concept of SNOMED CT.
fn coded(value: &str, meaning: &str) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(
        &mut item,
        &[
            (tags::CODE_VALUE, VR::SH, value),
            (tags::CODING_SCHEME_DESIGNATOR, VR::SH, "SCT"),
            (tags::CODE_MEANING, VR::LO, meaning),
        ],
    );
    item
}
