//! What bytes are thrown at, and what each target promises of every answer.

use std::io::Cursor;

use bytesize::ByteSize;
use clearfilm::bundle::{Fit, InputSpec};
use clearfilm::config::{self, DicomLimits};
use clearfilm::decode::{self, Frame};
use clearfilm::gate::{self, Outcome};
use clearfilm::ingest::{probe, structure, syntax};
use clearfilm::phantom::{Encoding, Phantom, Photometric, Projection, Variant};
use clearfilm::preprocess::{self, Picture};

use crate::{frames, seeds, wire};

/// Something that takes any bytes.
pub(crate) struct Target {
    /// Inputs that are always kept.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// What the answer to each of them holds: that they are what they are meant to be.
    pub(crate) honest: &'static str,
    /// Inputs that are kept where they show something new.
    pub(crate) more: Vec<Vec<u8>>,
    /// One execution: how the input was answered, in a few words; or which promise was broken.
    pub(crate) execute: Execute,
}

type Execute = Box<dyn FnMut(&[u8]) -> Result<String, String> + Send>;

/// The targets' names, in the order in which they are started.
pub(crate) const NAMES: [&str; 5] =
    ["fuzz_pdu", "fuzz_command", "fuzz_gate", "fuzz_decode", "fuzz_preprocess"];

/// The target of a name.
pub(crate) fn of(name: &str) -> Option<Target> {
    match name {
        "fuzz_pdu" => Some(wire::target()),
        "fuzz_command" => Some(command()),
        "fuzz_gate" => Some(gate()),
        "fuzz_decode" => Some(decode()),
        "fuzz_preprocess" => Some(preprocess()),
        _ => None,
    }
}

/// Does an input hold compressed pixels or a picture file? Codecs are other people's code, and
/// breaking one is what the decode child is for.
pub(crate) fn for_a_codec(input: &[u8]) -> bool {
    let names = |uid: &str| input.windows(uid.len()).any(|w| w == uid.as_bytes());
    let compressed = syntax::all().filter(|s| s.pixels != syntax::Pixels::Native);
    let picture = input.starts_with(b"\x89PNG") || input.starts_with(b"\xff\xd8\xff");
    picture || compressed.map(|s| s.uid).any(names)
}

/// The limits that decoding is tried within: small, so that what exceeds them is soon seen.
pub(crate) fn decode_limits() -> config::Decode {
    config::Decode { pixels: 1 << 20, inflated: ByteSize::mib(4), ..config::Decode::default() }
}

/// A text with its numbers and UIDs replaced by how long they are: what tells one answer from another
/// without telling every byte apart.
pub(crate) fn shape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut digits = 0_u32;
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_digit() || character == '.' {
            digits += 1;
            continue;
        }
        if digits > 0 {
            out.push('#');
            out.push(char::from_digit(digits.min(9), 10).unwrap_or('#'));
            digits = 0;
        }
        out.push(character);
    }
    out
}

/// Longest response to a command, bytes: two UIDs of 64, a comment of 64, and headers.
const RESPONSE_MAX: usize = 400;

/// Every command set that is understood has a response that is well formed and carries the status.
fn command() -> Target {
    const CLASS: &str = "1.2.840.10008.5.1.4.1.1.1.1";
    const STATUS: u16 = 0xA700;
    let requests = [probe::request(1, CLASS, None), probe::request(7, CLASS, Some("1.2.3.4.5"))];
    let comment = "out of resources: \u{fc}\\ and much more text than the sixty-four characters";
    let responses: Vec<Vec<u8>> =
        requests.iter().flat_map(|r| probe::response(r, STATUS, Some(comment))).collect();
    let execute = move |bytes: &[u8]| match probe::response(bytes, STATUS, Some(comment)) {
        Ok(response) => {
            if probe::status(&response) != Ok(STATUS) {
                return Err(format!("expected the status in the response, found {response:02x?}"));
            }
            if response.len() > RESPONSE_MAX || response.len() % 2 != 0 {
                return Err(format!("expected a short response, found {} bytes", response.len()));
            }
            Ok(format!("understood, {}", response.len()))
        }
        Err(text) => Ok(shape(&text)),
    };
    Target {
        seeds: requests.to_vec(),
        honest: "understood",
        more: responses,
        execute: Box::new(execute),
    }
}

/// Every data set in every syntax passes or is refused with a reason.
fn gate() -> Target {
    let all: Vec<syntax::TransferSyntax> = syntax::all().collect();
    let execute = move |bytes: &[u8]| {
        let Some((first, data_set)) = bytes.split_first() else { return Ok("nothing".into()) };
        let syntax = all[usize::from(*first) % all.len()];
        let inflated = if syntax.deflated {
            structure::inflate(data_set, decode_limits().inflated.as_u64())
        } else {
            Ok(data_set.to_vec())
        };
        let checked = inflated.and_then(|data_set| {
            structure::check(Cursor::new(data_set), syntax.uid, &DicomLimits::default())
        });
        Ok(match checked {
            Ok(()) => format!("{} whole", syntax.uid),
            Err(error) => format!("{} {}", syntax.uid, shape(&error.to_string())),
        })
    };
    let for_gate = |files: Vec<Vec<u8>>| files.iter().filter_map(|f| seeds::for_gate(f)).collect();
    Target {
        seeds: for_gate(seeds::files()),
        honest: "whole",
        more: for_gate(seeds::bad_files()),
        execute: Box::new(execute),
    }
}

/// Smallest phantom: 16 pixels a side.
fn phantom() -> Encoding {
    Encoding { rows: 20, columns: 16, bits_stored: 12, photometric: Photometric::Monochrome1 }
}

/// Characters of a refusal that tell it from another.
const CODEC_TEXT: usize = 64;

/// Every file is a frame within the limits, or refused with a code and without the patient's name.
fn decode() -> Target {
    let limits = decode_limits();
    let execute = move |bytes: &[u8]| match decode::decode(bytes, &limits, &DicomLimits::default())
    {
        Ok(frame) => sound(&frame, limits.pixels).map(|()| {
            let grey = &frame.grey;
            format!("frame {} {} {}", grey.bits_stored, grey.signed, grey.inverted)
        }),
        Err(error) => {
            let (code, text) = (error.code(), error.to_string());
            if !code.starts_with("decode-") || text.is_empty() {
                return Err(format!("expected a reason code and a text, found {code:?}: {text:?}"));
            }
            if text.contains(seeds::NAME) {
                return Err("expected no text of the header in a refusal, found a name".into());
            }
            // Codecs of pictures quote what they found: the beginning tells their answers apart.
            Ok(format!("{code} {}", shape(&text.chars().take(CODEC_TEXT).collect::<String>())))
        }
    };
    let drawn = Phantom { seed: 1, projection: Projection::Pa, variant: Variant::Normal };
    let pictures = [drawn.draw(20, 16).to_png(), drawn.to_dicom(&phantom())];
    let pictures = pictures.into_iter().map(|file| file.expect("drawn"));
    let seeds = seeds::files().into_iter().chain(pictures).chain([seeds::JPEG.to_vec()]);
    Target {
        seeds: seeds.collect(),
        honest: "frame",
        more: seeds::bad_files(),
        execute: Box::new(execute),
    }
}

/// A frame is as large as it says, within the limits, and its samples within their bits.
fn sound(frame: &Frame, pixels_max: u64) -> Result<(), String> {
    let (rows, columns, bits) = (frame.rows, frame.columns, frame.grey.bits_stored);
    if frame.words.len() != rows * columns || frame.words.len() as u64 > pixels_max {
        return Err(format!("{rows} x {columns}: found {} samples", frame.words.len()));
    }
    let (least, beyond) =
        if frame.grey.signed { (-(1 << bits) / 2, (1 << bits) / 2) } else { (0, 1 << bits) };
    match frame.samples().find(|s| !(least..beyond).contains(s)) {
        Some(sample) => Err(format!("expected samples of {bits} bits, found {sample}")),
        None => Ok(()),
    }
}

/// Every frame gives a picture, a judgement, and, where its size is read, a finite model input.
fn preprocess() -> Target {
    // The shape of a small encoder; the numbers are those of ImageNet, which most encoders take.
    let spec = |fit| InputSpec {
        channels: 3,
        height: 56,
        width: 48,
        fit,
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
    };
    let specs = [spec(Fit::Pad), spec(Fit::Squash)];
    let execute = move |bytes: &[u8]| {
        let frame = frames::drawn(bytes);
        sound(&frame, frames::PIXELS_MAX as u64)?;
        let picture = preprocess::render(&frame);
        let judgement = gate::judge(&frame, &picture, &config::Gate::default());
        let failed = judgement.checks.iter().filter(|c| c.outcome == Outcome::Fail);
        let failed: Vec<&str> = failed.map(|c| c.name.as_str()).collect();
        let nan = judgement.checks.iter().flat_map(|c| &c.detail).any(|d| d.contains("NaN"));
        if nan || judgement.accept != failed.is_empty() {
            return Err(format!("expected a judgement in numbers, found {judgement:?}"));
        }
        // The size of the picture is the only promise of the gate that the fit relies on.
        if !failed.contains(&"size") || picture.rows.max(picture.columns) <= SMALL {
            specs.iter().try_for_each(|spec| fitted(&picture, spec))?;
        }
        Ok(format!("{} {}", frames::kind(&frame), failed.join(" ")))
    };
    Target { seeds: frames::seeds(), honest: "", more: Vec::new(), execute: Box::new(execute) }
}

/// Longest side that is fitted though the gate would not read it, pixels: every shape is tried, and
/// a square of it is soon padded.
const SMALL: usize = 128;

fn fitted(picture: &Picture, spec: &InputSpec) -> Result<(), String> {
    let input = preprocess::input_of(picture, spec);
    let expected = spec.channels * spec.height * spec.width;
    let values = &input.values;
    if values.len() != expected || !values.iter().all(|v| v.is_finite()) {
        return Err(format!("expected {expected} finite values, found {} or others", values.len()));
    }
    let whole = input.placement.grid_box([7, 6], [0, 0, 6, 7]);
    match whole {
        Some([x0, y0, x1, y1]) if x0 < x1 && y0 < y1 => Ok(()),
        Some(_) | None => Err(format!("expected a box over the whole picture, found {whole:?}")),
    }
}
