//! The beginning of a DICOM file (PS3.10 7.1): preamble, prefix and file meta group, read by our own
//! few lines, because a general parser believes declared lengths.

use dicom_dictionary_std::tags;

/// Bytes before the prefix `DICM` (PS3.10 7.1).
const PREAMBLE: usize = 128;

/// Everything behind the prefix: file meta group and data set.
pub(crate) fn behind_prefix(bytes: &[u8]) -> Option<&[u8]> {
    let prefixed = bytes.get(PREAMBLE..).filter(|rest| rest.starts_with(b"DICM"));
    // Some archives leave the preamble out.
    prefixed.or(Some(bytes)).and_then(|b| b.strip_prefix(b"DICM"))
}

/// What a file meta group says, and what comes behind it.
pub(crate) struct Meta<'a> {
    /// Transfer Syntax UID (0002,0010).
    pub(crate) transfer_syntax: &'a str,
    /// Source Application Entity Title (0002,0016).
    pub(crate) source: Option<&'a str>,
    /// The data set.
    pub(crate) data_set: &'a [u8],
}

/// Reads the file meta group (PS3.10 7.1: explicit VR little endian, whatever the data set's own
/// syntax is). The group ends where an element of another
/// group begins: its declared length is not believed.
///
/// An error says what was expected and found.
pub(crate) fn split(group: &[u8]) -> Result<Meta<'_>, &'static str> {
    let mut rest = group;
    let (mut syntax, mut source) = (None, None);
    while let [0x02, 0x00, e0, e1, v0, v1, l0, l1, ..] = *rest {
        let long = matches!(&[v0, v1], b"OB" | b"OW" | b"SQ" | b"UC" | b"UN" | b"UR" | b"UT");
        let (header, length) = match (long, rest.get(8..12)) {
            (true, Some(&[a, b, c, d])) => (12, u32::from_le_bytes([a, b, c, d])),
            _ => (8, u32::from(u16::from_le_bytes([l0, l1]))),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let value = rest.get(header..).and_then(|r| r.get(..length));
        let value = value.ok_or("expected a value within the file, found a longer one")?;
        let element = u16::from_le_bytes([e0, e1]);
        let text =
            || std::str::from_utf8(value).ok().map(|text| text.trim_end_matches(['\0', ' ']));
        if element == tags::TRANSFER_SYNTAX_UID.element() {
            syntax = text();
        } else if element == tags::SOURCE_APPLICATION_ENTITY_TITLE.element() {
            source = text();
        }
        rest = &rest[header + length..];
    }
    let transfer_syntax = syntax.ok_or("expected a Transfer Syntax UID (0002,0010), found none")?;
    Ok(Meta { transfer_syntax, source, data_set: rest })
}
