//! The few elements that a frame needs, picked out of a data set without building it.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::TransferSyntaxIndex;
use dicom_encoding::transfer_syntax::Endianness;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::DecodeError;
use crate::config::DicomLimits;
use crate::ingest::structure::{self, StructureError};

/// A data set and where its values are.
pub(super) struct Elements<'a> {
    data_set: &'a [u8],
    big_endian: bool,
    /// Top-level values, and those in the first item of a top-level sequence. Of an element that
    /// stands there twice the first is taken.
    values: HashMap<(Option<Tag>, Tag), (VR, Range<usize>)>,
    /// Fragments of encapsulated pixel data, without the offset table.
    fragments: Vec<Range<usize>>,
}

impl<'a> Elements<'a> {
    /// Passes the structural gate and notes where the values are.
    pub(super) fn find(
        data_set: &'a [u8],
        transfer_syntax: &str,
        limits: &DicomLimits,
    ) -> Result<Self, DecodeError> {
        let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or(StructureError::Syntax)?;
        let big_endian = syntax.endianness() == Endianness::Big;
        let mut found =
            Self { data_set, big_endian, values: HashMap::new(), fragments: Vec::new() };
        structure::walk(Cursor::new(data_set), transfer_syntax, limits, |value| {
            // The gate has checked that every value lies within the data set.
            let (Ok(start), Ok(end)) =
                (usize::try_from(value.bytes.start), usize::try_from(value.bytes.end))
            else {
                return;
            };
            match value.vr {
                Some(vr) => {
                    found.values.entry((value.inside, value.tag)).or_insert((vr, start..end));
                }
                // PS3.5 A.4: the first item is the Basic Offset Table, often empty.
                None if value.item > 1 => found.fragments.push(start..end),
                None => {}
            }
        })?;
        Ok(found)
    }

    /// A top-level value.
    pub(super) fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        self.value(None, tag).map(|(_, bytes)| bytes)
    }

    /// A top-level value with its representation.
    pub(super) fn value(&self, inside: Option<Tag>, tag: Tag) -> Option<(VR, &'a [u8])> {
        let (vr, range) = self.values.get(&(inside, tag))?;
        Some((*vr, self.data_set.get(range.clone())?))
    }

    /// Does a top-level sequence have an item with a value in it?
    pub(super) fn has_sequence(&self, sequence: Tag) -> bool {
        self.values.keys().any(|(inside, _)| *inside == Some(sequence))
    }

    /// Is there any Pixel Data (7FE0,0010), plain or encapsulated?
    pub(super) fn has_pixels(&self) -> bool {
        self.values.contains_key(&(None, tags::PIXEL_DATA)) || !self.fragments.is_empty()
    }

    /// The fragments of encapsulated pixel data.
    pub(super) fn fragments(&self) -> Vec<&'a [u8]> {
        self.fragments.iter().filter_map(|range| self.data_set.get(range.clone())).collect()
    }

    /// Are numbers big endian?
    pub(super) fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// The first of a multi-valued text, trimmed; none where it is absent, empty or not ASCII.
    pub(super) fn text(&self, tag: Tag) -> Option<&'a str> {
        self.text_in(None, tag)
    }

    /// The same in the first item of a sequence.
    pub(super) fn text_in(&self, inside: Option<Tag>, tag: Tag) -> Option<&'a str> {
        let (_, bytes) = self.value(inside, tag)?;
        let text = std::str::from_utf8(bytes).ok().filter(|t| t.is_ascii())?;
        // PS3.5 6.2: values are divided by a backslash, padded with a space (UIDs with a NUL).
        let first = text.split('\\').next()?.trim_matches(|c: char| c == '\0' || c == ' ');
        (!first.is_empty()).then_some(first)
    }

    /// A number in text (VR DS or IS): `Ok(None)` where absent.
    pub(super) fn decimal(&self, tag: Tag, name: &'static str) -> Result<Option<f64>, DecodeError> {
        let Some(text) = self.text(tag) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            Ok(_) | Err(_) => Err(DecodeError::Attribute {
                name,
                expected: "a decimal number".into(),
                found: "another text".into(),
            }),
        }
    }

    /// A value as 16-bit words in the data set's byte order; an odd last byte is left out.
    pub(super) fn words(&self, bytes: &[u8]) -> Vec<u16> {
        let word = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        bytes.chunks_exact(2).map(|pair| word([pair[0], pair[1]])).collect()
    }

    /// A 16-bit unsigned number (VR US); `Ok(None)` where absent.
    pub(super) fn short(&self, tag: Tag, name: &'static str) -> Result<Option<u16>, DecodeError> {
        match self.bytes(tag) {
            None => Ok(None),
            Some(bytes @ &[_, _]) => Ok(self.words(bytes).first().copied()),
            Some(bytes) => {
                let found = format!("{} bytes", bytes.len());
                Err(DecodeError::Attribute { name, expected: "2 bytes (VR US)".into(), found })
            }
        }
    }

    /// A 16-bit unsigned number that must be there.
    pub(super) fn required_short(&self, tag: Tag, name: &'static str) -> Result<u16, DecodeError> {
        self.short(tag, name)?.ok_or_else(|| DecodeError::Attribute {
            name,
            expected: "a number".into(),
            found: "none".into(),
        })
    }
}
