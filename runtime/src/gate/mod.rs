//! May this bundle read this image at all?
//!
//! The header is asked for modality, body part, view and age; the pixels for size, shape and
//! contrast. A header that is silent is no reason to refuse, only to warn; one that says
//! something else is. Every reason has a code that only grows.

mod anatomy;
mod field;
mod template;

use serde::{Deserialize, Serialize};

use crate::bundle::Code;
use crate::config;
use crate::decode::{Facts, Frame, Source, View};
use crate::preprocess::Picture;

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was asked.
    pub name: String,
    /// The answer.
    pub outcome: Outcome,
    /// Its code, where there is one (DICOM CID 6135).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Expected and found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it must be.
    Pass,
    /// Read, but somebody should look.
    Warn,
    /// Not read.
    Fail,
}

/// What the gate says of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// May the image be read?
    pub accept: bool,
    /// All answers.
    pub checks: Vec<Check>,
}

impl Judgement {
    /// Why the image is not read: the code of the first failed check, and its detail.
    #[must_use]
    pub fn refusal(&self) -> Option<(String, String)> {
        let failed = self.checks.iter().find(|c| c.outcome == Outcome::Fail)?;
        Some((format!("gate-{}", failed.name), failed.detail.clone().unwrap_or_default()))
    }

    /// Adds an answer that became known later.
    pub fn add(&mut self, check: Check) {
        self.accept &= check.outcome != Outcome::Fail;
        self.checks.push(check);
    }
}

/// Smallest side that is read, pixels: below it ribs and vessels are no longer resolved
/// (a 35 cm detector at 128 pixels has 2.7 mm a pixel).
const SIDE_MIN: usize = 128;

/// Most elongated image that is read: detectors are at most 35 x 43 cm; 2 leaves room for collimation.
const ASPECT_MAX: usize = 2;

/// Least standard deviation of the picture's grey values, of 255: real chest radiographs have
/// 40 to 80, a blank or unexposed plate less than 5.
const CONTRAST_MIN: f64 = 8.0;

/// Asks header and pixels.
#[must_use]
pub fn judge(frame: &Frame, picture: &Picture, policy: &config::Gate) -> Judgement {
    let facts = &frame.facts;
    let [chest, polarity] = anatomy(picture, facts);
    let size = size(picture);
    // Asked only where there is a chest whose edges could be missed.
    let passed = [&size, &chest, &polarity].iter().all(|c| c.outcome == Outcome::Pass);
    let field = passed.then(|| field(picture));
    let mut checks = vec![
        modality(facts, policy),
        body_part(facts),
        view(facts, policy),
        age(facts, policy),
        exposure(facts),
        size,
        contrast(picture),
        chest,
        polarity,
    ];
    checks.extend(field);
    Judgement { accept: checks.iter().all(|c| c.outcome != Outcome::Fail), checks }
}

/// Makes an answer; `detail` says expected and found where it is not a plain pass.
pub(crate) fn check(name: &str, outcome: Outcome, detail: Option<String>) -> Check {
    Check { name: name.into(), outcome, code: None, detail }
}

fn modality(facts: &Facts, policy: &config::Gate) -> Check {
    let expected = policy.modalities.join(" or ");
    match &facts.modality {
        Some(found) if policy.modalities.contains(found) => check("modality", Outcome::Pass, None),
        Some(found) => check(
            "modality",
            Outcome::Fail,
            Some(format!("expected {expected}, found {}", printable(found))),
        ),
        None if facts.source == Source::Picture => {
            check("modality", Outcome::Warn, Some("a picture file tells no modality".into()))
        }
        None => check("modality", Outcome::Warn, Some(format!("expected {expected}, found none"))),
    }
}

/// (0018,0015) of a chest: PS3.16 Annex L, and what modalities write in its place.
const CHEST: [&str; 4] = ["CHEST", "THORAX", "LUNG", "RIB"];

fn says_chest(facts: &Facts) -> bool {
    let found = facts.body_part.as_deref().unwrap_or_default().to_ascii_uppercase();
    CHEST.iter().any(|chest| found.contains(chest))
}

fn body_part(facts: &Facts) -> Check {
    let Some(part) = &facts.body_part else {
        return check("body-part", Outcome::Warn, Some("expected CHEST, found none".into()));
    };
    if says_chest(facts) {
        check("body-part", Outcome::Pass, None)
    } else {
        check(
            "body-part",
            Outcome::Fail,
            Some(format!("expected CHEST, found {}", printable(part))),
        )
    }
}

fn view(facts: &Facts, policy: &config::Gate) -> Check {
    let expected = policy.views.join(" or ");
    let found = facts.view.name();
    match facts.view {
        View::Unknown => {
            check("view", Outcome::Warn, Some(format!("expected {expected}, found none")))
        }
        View::PA | View::AP | View::LL | View::RL => {
            if policy.views.iter().any(|v| v == found) {
                check("view", Outcome::Pass, None)
            } else {
                check("view", Outcome::Fail, Some(format!("expected {expected}, found {found}")))
            }
        }
    }
}

fn age(facts: &Facts, policy: &config::Gate) -> Check {
    match facts.age_years {
        Some(years) if years >= policy.min_age => check("age", Outcome::Pass, None),
        // The age itself is the patient's: only the bound is told.
        Some(_) => check(
            "age",
            Outcome::Fail,
            Some(format!("expected at least {} years, found less", policy.min_age)),
        ),
        None => check("age", Outcome::Warn, Some("expected an age, found none".into())),
    }
}

fn size(picture: &Picture) -> Check {
    let (short, long) = (picture.rows.min(picture.columns), picture.rows.max(picture.columns));
    if short >= SIDE_MIN && long <= ASPECT_MAX * short {
        return check("size", Outcome::Pass, None);
    }
    let found = format!("{} x {}", picture.rows, picture.columns);
    let expected = format!("at least {SIDE_MIN} pixels a side and at most 1:{ASPECT_MAX}");
    check("size", Outcome::Fail, Some(format!("expected {expected}, found {found}")))
}

fn contrast(picture: &Picture) -> Check {
    let deviation = standard_deviation(&picture.pixels);
    if deviation >= CONTRAST_MIN {
        return check("contrast", Outcome::Pass, None);
    }
    let detail = format!(
        "expected a standard deviation of at least {CONTRAST_MIN} grey values, found {deviation:.1}"
    );
    check("contrast", Outcome::Fail, Some(detail))
}

/// Least correlation with the mean phantom at which a picture is taken for a frontal chest without
/// a warning, and least at which it is read at all where the header does not say that it is one.
/// Of 334 radiographs of adults (NIH development part, Hannover) two have less than 0.3 and one,
/// a third of which is an unexposed band, less than 0.1; a hip and a leg have less than 0.
const CHEST_LIKE: f64 = 0.3;
const CHEST_MIN: f64 = 0.1;

/// Least correlation of the negative at which a picture is taken for a chest in false greys:
/// negatives of hips and legs have 0.4.
const NEGATIVE_LIKE: f64 = 0.5;

/// Do the pixels look like a frontal chest, in whichever polarity, and is it the right one? Headers
/// lie about Photometric Interpretation (0028,0004).
fn anatomy(picture: &Picture, facts: &Facts) -> [Check; 2] {
    let found = anatomy::likeness(picture);
    let negative = found.negative >= NEGATIVE_LIKE && found.negative > found.chest;
    let outcome = if negative || found.chest >= CHEST_LIKE {
        Outcome::Pass
    } else if found.chest >= CHEST_MIN || says_chest(facts) {
        Outcome::Warn
    } else {
        Outcome::Fail
    };
    let unlike = format!(
        "expected a likeness to a frontal chest of at least {CHEST_LIKE}, found {:.2}",
        found.chest
    );
    let false_greys = format!(
        "expected bright bones, found the negative of a chest (likeness {:.2}): is Photometric Interpretation (0028,0004) wrong?",
        found.negative
    );
    let polarity = if negative { Outcome::Warn } else { Outcome::Pass };
    [
        check("chest", outcome, (outcome != Outcome::Pass).then_some(unlike)),
        check("polarity", polarity, negative.then_some(false_greys)),
    ]
}

/// Does the field of view take in all of both lungs?
fn field(picture: &Picture) -> Check {
    let edges: Vec<&str> = field::clipped(picture).into_iter().map(field::Edge::name).collect();
    if edges.is_empty() {
        return check("field", Outcome::Pass, None);
    }
    let detail = format!(
        "expected both lungs within the picture, found one that may be cut off at the {}, or is not to be seen there",
        edges.join(" and the ")
    );
    // DICOM CID 6135.
    let code = Code { system: "DCM".into(), code: "111209".into(), display: "Positioning".into() };
    Check { code: Some(code), ..check("field", Outcome::Warn, Some(detail)) }
}

/// Deviation index beyond which an exposure is far from what was aimed at (IEC 62494-1; AAPM
/// TG-116 gives 3, half or twice the exposure, as the bound for action).
const DEVIATION_MAX: f64 = 3.0;

/// Deviation Index (0018,1413): how far was the exposure from its target? Silent where the header is.
fn exposure(facts: &Facts) -> Check {
    let Some(found) = facts.deviation_index.filter(|d| d.abs() > DEVIATION_MAX) else {
        return check("exposure", Outcome::Pass, None);
    };
    // DICOM CID 6135.
    let (code, display) =
        if found < 0.0 { ("111211", "Under exposed") } else { ("111212", "Over exposed") };
    let detail = format!(
        "expected a deviation index of -{DEVIATION_MAX} to {DEVIATION_MAX}, found {found:.1}"
    );
    let code = Code { system: "DCM".into(), code: code.into(), display: display.into() };
    Check { code: Some(code), ..check("exposure", Outcome::Warn, Some(detail)) }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sums of at most 2^26 pixels of 8 bits are exact in f64"
)]
fn standard_deviation(pixels: &[u8]) -> f64 {
    let (sum, squares) = pixels.iter().fold((0_u64, 0_u64), |(sum, squares), &p| {
        (sum + u64::from(p), squares + u64::from(p) * u64::from(p))
    });
    let n = pixels.len().max(1) as f64;
    let mean = sum as f64 / n;
    (squares as f64 / n - mean * mean).max(0.0).sqrt()
}

/// A header value as it may be shown: code strings only, so that free text never leaks.
fn printable(text: &str) -> String {
    let fits = text.len() <= 16
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b' ');
    if fits { text.into() } else { "another value".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Grey;

    fn frame(facts: Facts) -> Frame {
        Frame { rows: 0, columns: 0, words: Vec::new(), grey: Grey::plain(8), facts }
    }

    fn chest() -> Facts {
        Facts {
            modality: Some("DX".into()),
            view: View::PA,
            body_part: Some("CHEST".into()),
            age_years: Some(50),
            source: Source::Dicom,
            ..Facts::default()
        }
    }

    /// A picture that looks like a chest.
    fn drawn() -> Picture {
        anatomy::tests::drawn(3, 256, 224)
    }

    /// A picture with as much contrast as there can be.
    fn checkered(rows: usize, columns: usize) -> Picture {
        let pixels = (0..rows * columns).map(|i| if i % 2 == 0 { 0 } else { 255 }).collect();
        Picture { rows, columns, pixels }
    }

    fn refusal(facts: Facts, picture: &Picture) -> Option<String> {
        judge(&frame(facts), picture, &config::Gate::default()).refusal().map(|(code, _)| code)
    }

    #[test]
    fn an_adult_frontal_chest_passes() {
        assert_eq!(refusal(chest(), &drawn()), None);
    }

    #[test]
    fn a_header_that_says_something_else_is_refused_and_one_that_is_silent_is_not() {
        let good = drawn();
        let cases = [
            (Facts { modality: Some("CT".into()), ..chest() }, Some("gate-modality")),
            (Facts { body_part: Some("HIP".into()), ..chest() }, Some("gate-body-part")),
            (Facts { view: View::LL, ..chest() }, Some("gate-view")),
            (Facts { age_years: Some(4), ..chest() }, Some("gate-age")),
            (
                Facts {
                    modality: None,
                    body_part: None,
                    view: View::Unknown,
                    age_years: None,
                    ..chest()
                },
                None,
            ),
        ];
        for (facts, expected) in cases {
            assert_eq!(refusal(facts, &good).as_deref(), expected);
        }
    }

    #[test]
    fn a_blank_a_tiny_and_a_strip_are_refused() {
        let blank = Picture { rows: 256, columns: 256, pixels: vec![90; 256 * 256] };
        assert_eq!(refusal(chest(), &blank).as_deref(), Some("gate-contrast"));
        assert_eq!(refusal(chest(), &checkered(64, 64)).as_deref(), Some("gate-size"));
        assert_eq!(refusal(chest(), &checkered(128, 600)).as_deref(), Some("gate-size"));
    }

    #[test]
    fn pixels_that_are_no_chest_are_refused_and_a_negative_is_flagged() {
        let silent = Facts { body_part: None, ..chest() };
        assert_eq!(refusal(silent.clone(), &checkered(256, 256)).as_deref(), Some("gate-chest"));
        let positive = drawn();
        let pixels = positive.pixels.iter().map(|p| 255 - p).collect();
        let negative = Picture { pixels, ..positive };
        let judgement = judge(&frame(silent), &negative, &config::Gate::default());
        let polarity = judgement.checks.iter().find(|c| c.name == "polarity").expect("asked");
        assert_eq!((judgement.accept, polarity.outcome), (true, Outcome::Warn));
    }

    #[test]
    fn an_exposure_far_from_its_target_is_told_with_its_code() {
        for (index, code) in [
            (None, None),
            (Some(2.9), None),
            (Some(-3.5), Some("111211")),
            (Some(4.0), Some("111212")),
        ] {
            let facts = Facts { deviation_index: index, ..chest() };
            let judgement = judge(&frame(facts), &drawn(), &config::Gate::default());
            let exposure = judgement.checks.iter().find(|c| c.name == "exposure").expect("asked");
            assert_eq!(exposure.code.as_ref().map(|c| c.code.as_str()), code, "{index:?}");
        }
    }

    #[test]
    fn free_text_of_a_header_is_never_shown() {
        let facts = Facts { body_part: Some("knee of Mr Smith".into()), ..chest() };
        let judgement = judge(&frame(facts), &checkered(256, 256), &config::Gate::default());
        let (_, detail) = judgement.refusal().expect("refused");
        assert!(!detail.contains("Smith"), "{detail}");
    }
}
