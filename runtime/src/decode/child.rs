//! The decode child: one object from standard input, one frame or refusal to standard output.
//!
//! Codecs are other people's code on untrusted bytes. What they can do to this process is end it.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::decoder::OUT_OF_MEMORY;
use super::grey::Grey;
use super::{DecodeError, Facts, Frame, jail};
use crate::config::{self, DicomLimits};

/// First byte of an answer: could everything be given up?
const JAILED: u8 = 1;
const NOT_JAILED: u8 = 0;

/// Second part of an answer: length and text of a [`Header`]. A lookup table of 65,536 entries in
/// JSON has 400 kB, and a frame has two at most.
const HEADER_MAX: u32 = 1 << 20;

/// Bytes of a sample on the pipe.
const CELL: usize = 2;

/// Samples that are written and read at once: a quarter of a pipe.
const PIECE: usize = 1 << 17;

/// Longest text of a refusal that is believed.
const TEXT_MAX: usize = 400;

/// What the child works within: its only argument, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) decode: config::Decode,
    pub(super) structure: DicomLimits,
}

/// What stands before the samples; untrusted, like everything from the child.
#[derive(Serialize, Deserialize)]
enum Header {
    /// Samples follow: 2 bytes each, little endian.
    Frame { rows: usize, columns: usize, grey: Grey, facts: Box<Facts> },
    /// Nothing follows.
    Refused { code: String, text: String },
}

/// Serves one object and ends. Never returns an error that its caller could print: what is wrong
/// goes to the parent.
///
/// # Errors
/// The arguments are no limits, or the parent is gone.
pub fn serve(arguments: &str) -> io::Result<()> {
    let limits: Limits = serde_json::from_str(arguments)?;
    jail::outlive_stop_signals();
    let jailed = jail::enter(&limits.decode);
    if let Err(text) = &jailed {
        writeln!(io::stderr(), "{text}")?;
    }
    let mut bytes = Vec::new();
    let most = limits.decode.inflated.as_u64();
    let read = io::stdin().lock().take(most.saturating_add(1)).read_to_end(&mut bytes);
    if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::OutOfMemory) {
        writeln!(io::stderr(), "{OUT_OF_MEMORY} the object failed")?;
    }
    read?;
    let decoded = super::decode(&bytes, &limits.decode, &limits.structure);
    drop(bytes);
    let mut out = io::stdout().lock();
    out.write_all(&[if jailed.is_ok() { JAILED } else { NOT_JAILED }])?;
    answer(&mut out, decoded)?;
    out.flush()
}

fn answer(out: &mut impl Write, decoded: Result<Frame, DecodeError>) -> io::Result<()> {
    let (header, words) = match decoded {
        Ok(Frame { rows, columns, words, grey, facts }) => {
            (Header::Frame { rows, columns, grey, facts: Box::new(facts) }, words)
        }
        Err(error) => {
            let (code, text) = (error.code().to_owned(), error.to_string());
            (Header::Refused { code, text }, Vec::new())
        }
    };
    let header = serde_json::to_vec(&header)?;
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&header)?;
    let mut cells = vec![0; PIECE * CELL];
    for piece in words.chunks(PIECE) {
        for (cell, word) in cells.as_chunks_mut().0.iter_mut().zip(piece) {
            *cell = word.to_le_bytes();
        }
        out.write_all(&cells[..piece.len() * CELL])?;
    }
    Ok(())
}

/// A whole answer, and whether the child gave everything up.
pub(super) struct Answer {
    pub(super) jailed: bool,
    pub(super) decoded: Result<Frame, DecodeError>,
}

/// Reads a child's answer without believing any number in it; none where it is not whole.
pub(super) fn read(from: &mut impl Read, limits: &config::Decode) -> io::Result<Answer> {
    let mut first = [0; 5];
    from.read_exact(&mut first)?;
    let [jailed, length @ ..] = first;
    let length = u32::from_le_bytes(length);
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if length > HEADER_MAX {
        return Err(wrong("a header longer than any"));
    }
    let mut header = vec![0; length as usize];
    from.read_exact(&mut header)?;
    let decoded = match serde_json::from_slice(&header)? {
        Header::Refused { code, text } => Err(refused(&code, &text)),
        Header::Frame { rows, columns, grey, facts } => {
            let pixels = rows.saturating_mul(columns);
            if pixels as u64 > limits.pixels || !(1..=16).contains(&grey.bits_stored) {
                return Err(wrong("a frame beyond the limits"));
            }
            let words = words(from, pixels)?;
            Ok(Frame { rows, columns, words, grey, facts: *facts })
        }
    };
    Ok(Answer { jailed: jailed == JAILED, decoded })
}

/// Reads samples piece by piece: every page that is touched once more costs time.
fn words(from: &mut impl Read, count: usize) -> io::Result<Vec<u16>> {
    let mut words = Vec::with_capacity(count);
    let mut cells = vec![0; PIECE * CELL];
    while words.len() < count {
        let piece = &mut cells[..(count - words.len()).min(PIECE) * CELL];
        from.read_exact(piece)?;
        words.extend(piece.as_chunks().0.iter().map(|cell| u16::from_le_bytes(*cell)));
    }
    Ok(words)
}

/// A refusal as far as it can be shown: a code of our form and printable text.
fn refused(code: &str, text: &str) -> DecodeError {
    let of_our_form = code.len() <= 40 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let code = if of_our_form { code } else { "decode-crash" };
    let printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
    DecodeError::Refused {
        code: code.into(),
        text: text.chars().filter(printable).take(TEXT_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(signed: bool) -> Frame {
        let grey = Grey { signed, ..Grey::plain(16) };
        let words = vec![0, 1, 32_768, 65_535];
        Frame { rows: 1, columns: 4, words, grey, facts: Facts::default() }
    }

    fn sent(decoded: Result<Frame, DecodeError>) -> Vec<u8> {
        let mut bytes = vec![JAILED];
        answer(&mut bytes, decoded).expect("to memory");
        bytes
    }

    #[test]
    fn a_frame_crosses_unchanged() {
        for signed in [false, true] {
            let bytes = sent(Ok(frame(signed)));
            let answer = read(&mut bytes.as_slice(), &config::Decode::default()).expect("whole");
            assert_eq!(answer.decoded.expect("a frame"), frame(signed));
        }
    }

    #[test]
    fn a_refusal_keeps_its_code_and_text() {
        let bytes = sent(Err(DecodeError::PixelsMissing));
        let answer = read(&mut bytes.as_slice(), &config::Decode::default()).expect("whole");
        let error = answer.decoded.expect_err("refused");
        assert_eq!(error.code(), DecodeError::PixelsMissing.code());
        assert_eq!(error.to_string(), DecodeError::PixelsMissing.to_string());
    }

    #[test]
    fn an_answer_that_ends_early_or_claims_too_much_is_not_believed() {
        let bytes = sent(Ok(frame(false)));
        let limits = config::Decode { pixels: 4, ..config::Decode::default() };
        for end in 0..bytes.len() {
            assert!(read(&mut &bytes[..end], &limits).is_err(), "cut at {end}");
        }
        let limits = config::Decode { pixels: 3, ..limits };
        assert!(read(&mut bytes.as_slice(), &limits).is_err());
        let long = [&[JAILED], u32::MAX.to_le_bytes().as_slice()].concat();
        assert!(read(&mut long.as_slice(), &limits).is_err());
    }

    #[test]
    fn what_a_broken_child_says_is_not_shown_as_it_is() {
        let error = refused("Mallory/Eve", "a\u{1b}[31mb\n");
        assert_eq!((error.code(), error.to_string().as_str()), ("decode-crash", "a[31mb"));
    }
}
