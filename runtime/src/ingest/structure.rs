//! The structural gate: is a data set well formed, shallow and no longer than its bytes?
//!
//! Every received object passes it before it is acknowledged, and again before it is decoded. It
//! reads tokens one by one and allocates nothing for a value, so that a declared length, a
//! nesting depth or a number of elements cannot cost more than the bytes that were sent.

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Range;

use dicom_core::{Tag, VR};
use dicom_encoding::TransferSyntaxIndex;
use dicom_parser::StatefulDecode;
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::config::DicomLimits;

/// What is wrong with a data set; no text of it is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StructureError {
    /// A transfer syntax that is in no registry.
    #[error("data set: expected a known transfer syntax, found another")]
    Syntax,
    /// Nested too deep.
    #[error("data set: expected at most {expected} nested sequences, found more at byte {at}")]
    TooDeep {
        /// The limit.
        expected: usize,
        /// Byte in the data set.
        at: u64,
    },
    /// Too many tokens.
    #[error("data set: expected at most {expected} tokens, found more at byte {at}")]
    TooMany {
        /// The limit.
        expected: usize,
        /// Byte in the data set.
        at: u64,
    },
    /// A value that claims more than what remains.
    #[error(
        "data set: expected a length of at most the {remaining} bytes that remain at byte {at}, found {declared}"
    )]
    TooLong {
        /// Declared length.
        declared: u64,
        /// Bytes that remain.
        remaining: u64,
        /// Byte in the data set.
        at: u64,
    },
    /// A delimiter or header that cannot stand where it stands, or a data set that ends within a
    /// sequence.
    #[error("data set: expected {expected} at byte {at}, found something else")]
    Malformed {
        /// What should be there.
        expected: &'static str,
        /// Byte in the data set.
        at: u64,
    },
    /// The stream cannot be inflated.
    #[error("inflating a data set: expected a deflate stream (RFC 1951), found something else")]
    NotDeflated,
    /// It becomes too large.
    #[error("inflating a data set: expected at most {expected} bytes, found more")]
    InflatedTooLarge {
        /// The limit.
        expected: u64,
    },
}

/// One value of a data set, met on the way.
pub(crate) struct Value {
    /// The sequence in whose first item the value stands; none: the data set itself.
    pub(crate) inside: Option<Tag>,
    /// The element; of a fragment: Pixel Data.
    pub(crate) tag: Tag,
    /// Its value representation; none: a fragment of encapsulated pixel data.
    pub(crate) vr: Option<VR>,
    /// Of a fragment: which item of the pixel data it is, from 1 (the offset table); else 0.
    pub(crate) item: usize,
    /// Where its bytes are.
    pub(crate) bytes: Range<u64>,
}

/// What is open around a token.
enum Open {
    /// A sequence and the number of its items so far; encapsulated pixel data is one too.
    Sequence(Tag, usize),
    Item,
}

/// Pixel Data.
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Checks a data set (without file meta group), from where the source stands to its end.
///
/// A deflated data set must be inflated before, see [`inflate`].
///
/// # Errors
/// It breaks a limit or is malformed.
pub fn check(
    source: impl Read + Seek,
    transfer_syntax: &str,
    limits: &DicomLimits,
) -> Result<(), StructureError> {
    walk(source, transfer_syntax, limits, |_| {})
}

/// Checks a data set and shows the values at its top level, in the first item of top-level
/// sequences, and the fragments of its pixel data.
pub(crate) fn walk(
    mut source: impl Read + Seek,
    transfer_syntax: &str,
    limits: &DicomLimits,
    mut visit: impl FnMut(Value),
) -> Result<(), StructureError> {
    let unseekable = |_| StructureError::Malformed { expected: "a readable data set", at: 0 };
    let start = source.stream_position().map_err(unseekable)?;
    let end = source.seek(SeekFrom::End(0)).map_err(unseekable)?;
    source.seek(SeekFrom::Start(start)).map_err(unseekable)?;
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or(StructureError::Syntax)?;
    let mut reader =
        LazyDataSetReader::new_with_ts(source, syntax).map_err(|_| StructureError::Syntax)?;
    let mut open: Vec<Open> = Vec::new();
    let (mut at, mut tokens) = (start, 0);
    while let Some(token) = reader.advance() {
        let malformed = |expected| StructureError::Malformed { expected, at };
        tokens += 1;
        if tokens > limits.tokens {
            return Err(StructureError::TooMany { expected: limits.tokens, at });
        }
        let token = token.map_err(|_| malformed("an element or delimiter"))?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "`nest` refuses what it does not know")]
        let (bytes, vr, tag) = match &token {
            LazyDataToken::LazyValue { header, decoder } => {
                let declared = u64::from(header.len.get().ok_or(malformed("a defined length"))?);
                (decoder.position()..decoder.position() + declared, Some(header.vr), header.tag)
            }
            LazyDataToken::LazyItemValue { len, decoder } => {
                (decoder.position()..decoder.position() + u64::from(*len), None, PIXEL_DATA)
            }
            bracket => {
                nest(&mut open, bracket, limits.depth, at)?;
                continue;
            }
        };
        at = bytes.start;
        if bytes.end > end {
            let declared = bytes.end - bytes.start;
            return Err(StructureError::TooLong {
                declared,
                remaining: end.saturating_sub(at),
                at,
            });
        }
        let value = Value { inside: None, tag, vr, item: 0, bytes: bytes.clone() };
        match open.as_slice() {
            [] => visit(value),
            &[Open::Sequence(_, item), Open::Item] if vr.is_none() => {
                visit(Value { item, ..value })
            }
            [Open::Sequence(sequence, 1), Open::Item] => {
                visit(Value { inside: Some(*sequence), ..value })
            }
            _ => {}
        }
        // Pixels mostly stand last. That they are whole is known by now: to skip is to read.
        if open.is_empty() && bytes.end == end {
            return Ok(());
        }
        token.skip().map_err(|_| StructureError::Malformed { expected: "a whole value", at })?;
        at = bytes.end;
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(StructureError::Malformed { expected: "the end of a sequence", at: end })
    }
}

/// Opens and closes brackets. The reader itself does not check that they match, and panics on
/// some that do not: so a mismatch ends the walk here.
fn nest<D>(
    open: &mut Vec<Open>,
    token: &LazyDataToken<D>,
    depth: usize,
    at: u64,
) -> Result<(), StructureError> {
    let malformed = |expected| Err(StructureError::Malformed { expected, at });
    match token {
        LazyDataToken::SequenceStart { tag, .. } => open.push(Open::Sequence(*tag, 0)),
        LazyDataToken::PixelSequenceStart => open.push(Open::Sequence(PIXEL_DATA, 0)),
        LazyDataToken::ItemStart { .. } => match open.last_mut() {
            Some(Open::Sequence(_, items)) => {
                *items += 1;
                open.push(Open::Item);
            }
            Some(Open::Item) | None => return malformed("an element, not an item"),
        },
        LazyDataToken::ItemEnd => {
            if !matches!(open.pop(), Some(Open::Item)) {
                return malformed("an element, not the end of an item");
            }
        }
        LazyDataToken::SequenceEnd => {
            if !matches!(open.pop(), Some(Open::Sequence(..))) {
                return malformed("an element, not the end of a sequence");
            }
        }
        LazyDataToken::ElementHeader(_)
        | LazyDataToken::LazyValue { .. }
        | LazyDataToken::LazyItemValue { .. } => {}
        // The enum may grow; what is not known is not let through.
        _ => return malformed("a known token"),
    }
    // Every nested sequence has an item open around it.
    if open.len() > 2 * depth {
        return Err(StructureError::TooDeep { expected: depth, at });
    }
    Ok(())
}

/// Inflates a deflated data set (PS3.5 A.5: a raw deflate stream), never beyond `most` bytes.
///
/// # Errors
/// It is no deflate stream, or inflates to more.
pub fn inflate(deflated: &[u8], most: u64) -> Result<Vec<u8>, StructureError> {
    let mut data_set = Vec::new();
    flate2::read::DeflateDecoder::new(Cursor::new(deflated))
        .take(most.saturating_add(1))
        .read_to_end(&mut data_set)
        .map_err(|_| StructureError::NotDeflated)?;
    if data_set.len() as u64 > most {
        return Err(StructureError::InflatedTooLarge { expected: most });
    }
    Ok(data_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";

    /// Sequences of undefined length in each other, all closed.
    fn nested(depth: usize) -> Vec<u8> {
        let open = *b"\x08\x00\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
        let close = *b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0";
        [open.repeat(depth), close.repeat(depth)].concat()
    }

    fn check(bytes: &[u8], syntax: &str) -> Result<(), StructureError> {
        super::check(Cursor::new(bytes), syntax, &DicomLimits::default())
    }

    #[test]
    fn a_deeply_nested_data_set_is_refused_and_a_shallow_one_is_not() {
        assert_eq!(check(&nested(64), IMPLICIT), Ok(()));
        assert!(matches!(
            check(&nested(65), IMPLICIT),
            Err(StructureError::TooDeep { expected: 64, .. })
        ));
        assert!(matches!(check(&nested(100_000), IMPLICIT), Err(StructureError::TooDeep { .. })));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let bytes = b"\xe0\x7f\x10\x00OB\0\0\xfe\xff\xff\xff\x01\x02";
        let expected = StructureError::TooLong { declared: 0xffff_fffe, remaining: 2, at: 12 };
        assert_eq!(check(bytes, EXPLICIT), Err(expected));
    }

    #[test]
    fn a_data_set_of_too_many_elements_is_refused() {
        let bytes = b"\x08\x00\x05\x00CS\0\0".repeat(100_001);
        assert!(matches!(
            check(&bytes, EXPLICIT),
            Err(StructureError::TooMany { expected: 200_000, .. })
        ));
    }

    #[test]
    fn stray_and_missing_delimiters_are_refused() {
        let item = b"\xfe\xff\x00\xe0\0\0\0\0".as_slice();
        let item_end = b"\xfe\xff\x0d\xe0\0\0\0\0".as_slice();
        let sequence_end = b"\xfe\xff\xdd\xe0\0\0\0\0".as_slice();
        for stray in [item_end, &[item_end, item].concat(), &[item_end, sequence_end].concat()] {
            assert!(
                matches!(check(stray, IMPLICIT), Err(StructureError::Malformed { .. })),
                "{stray:?}"
            );
        }
        let unclosed = &nested(2)[..40];
        assert!(matches!(check(unclosed, IMPLICIT), Err(StructureError::Malformed { .. })));
    }

    #[test]
    fn a_deflate_bomb_is_stopped_at_the_limit() {
        use std::io::Write as _;
        let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![0; 4_000_000]).expect("to memory");
        let bomb = bomb.finish().expect("to memory");
        assert!(bomb.len() < 8_000);
        assert_eq!(
            inflate(&bomb, 1_000_000),
            Err(StructureError::InflatedTooLarge { expected: 1_000_000 })
        );
        assert_eq!(inflate(&bomb, 4_000_000).map(|d| d.len()), Ok(4_000_000));
        assert_eq!(inflate(b"\xff\xff\xff", 10), Err(StructureError::NotDeflated));
    }
}
