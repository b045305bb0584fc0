//! What the header says of the acquisition.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::elements::Elements;
use super::{Facts, Source, View};

/// Reads the facts; what is malformed counts as not told.
pub(super) fn facts(elements: &Elements<'_>) -> Facts {
    let uid = |tag| elements.text(tag).and_then(|text| text.parse().ok());
    Facts {
        modality: elements.text(tags::MODALITY).map(Into::into),
        view: view(elements),
        body_part: body_part(elements),
        age_years: age_years(elements),
        deviation_index: elements.decimal(tags::DEVIATION_INDEX, "Deviation Index").ok().flatten(),
        accession: elements.text(tags::ACCESSION_NUMBER).map(Into::into),
        sop_instance: uid(tags::SOP_INSTANCE_UID),
        sop_class: uid(tags::SOP_CLASS_UID),
        series: uid(tags::SERIES_INSTANCE_UID),
        study: uid(tags::STUDY_INSTANCE_UID),
        source: Source::Dicom,
    }
}

/// The code of a sequence's first item: Code Value (0008,0100).
fn code<'a>(elements: &Elements<'a>, sequence: Tag) -> Option<&'a str> {
    elements.text_in(Some(sequence), tags::CODE_VALUE)
}

/// View Position where it tells, else View Code Sequence (PS3.16 CID 4010), SNOMED CT and the
/// SRT codes that stood there before.
fn view(elements: &Elements<'_>) -> View {
    match elements.text(tags::VIEW_POSITION) {
        Some("PA") => return View::PA,
        Some("AP") => return View::AP,
        // A lateral whose side is not told: what matters is that it is not frontal.
        Some("LL" | "LATERAL" | "LAT") => return View::LL,
        Some("RL") => return View::RL,
        Some(_) | None => {}
    }
    match code(elements, tags::VIEW_CODE_SEQUENCE) {
        Some("272479007" | "R-10214") => View::PA,
        Some("399348003" | "R-10206") => View::AP,
        Some("399173006" | "399067008" | "R-10236") => View::LL,
        Some("399198007" | "R-10232") => View::RL,
        Some(_) | None => View::Unknown,
    }
}

/// Chest and lung, SNOMED CT and the SRT codes that stood there before (PS3.16 CID 4031).
const CHEST_CODES: [&str; 5] = ["51185008", "816094009", "39607008", "T-D3000", "T-28000"];

/// Body Part Examined, else Anatomic Region Sequence. A region that is coded but not the chest is
/// told as such: its code meaning is free text.
fn body_part(elements: &Elements<'_>) -> Option<String> {
    if let Some(part) = elements.text(tags::BODY_PART_EXAMINED) {
        return Some(part.into());
    }
    let region = code(elements, tags::ANATOMIC_REGION_SEQUENCE)?;
    Some(if CHEST_CODES.contains(&region) { "CHEST" } else { "another coded region" }.into())
}

fn age_years(elements: &Elements<'_>) -> Option<u32> {
    elements.text(tags::PATIENT_AGE).and_then(age_string).or_else(|| {
        let [birth, study] = [tags::PATIENT_BIRTH_DATE, tags::STUDY_DATE]
            .map(|tag| elements.text(tag).and_then(date));
        whole_years(birth?, study?)
    })
}

/// PS3.5 6.2 VR AS: `nnnD`, `nnnW`, `nnnM` or `nnnY`.
fn age_string(text: &str) -> Option<u32> {
    let number: u32 = text.get(..3)?.parse().ok()?;
    match text.get(3..)? {
        "D" => Some(number / 365),
        "W" => Some(number / 52),
        "M" => Some(number / 12),
        "Y" => Some(number),
        _ => None,
    }
}

/// PS3.5 6.2 VR DA: `YYYYMMDD`, as year and month and day in one.
fn date(text: &str) -> Option<(u32, u32)> {
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let number: u32 = text.parse().ok().filter(|_| digits)?;
    Some((number / 10_000, number % 10_000))
}

fn whole_years((birth_year, birth_day): (u32, u32), (year, day): (u32, u32)) -> Option<u32> {
    year.checked_sub(birth_year)?.checked_sub(u32::from(day < birth_day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_whole_years_and_malformed_ones_are_not_told() {
        let cases = [("045Y", Some(45)), ("011M", Some(0)), ("104W", Some(2)), ("020D", Some(0))];
        for (text, expected) in
            cases.into_iter().chain([("45", None), ("45 Y", None), ("0450", None), ("", None)])
        {
            assert_eq!(age_string(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_birthday_later_in_the_year_has_not_come_yet() {
        let years = |birth: &str, study: &str| whole_years(date(birth)?, date(study)?);
        assert_eq!(years("19800615", "20240614"), Some(43));
        assert_eq!(years("19800615", "20240615"), Some(44));
        assert_eq!(years("20250101", "20240615"), None);
        assert_eq!(years("1980-6-15", "20240615"), None);
    }
}
