//! Small honest objects in every transfer syntax: where mutation begins.

use clearfilm::ingest::syntax::{self, Pixels, TransferSyntax};

use crate::corpus;

/// A patient's name; no error may repeat it.
pub(crate) const NAME: &str = "MUSTER^NIEMAND";

/// Longest object of the corpus that is used: beyond it are bombs, which mutation makes no worse.
const CASE_MAX: usize = 16 * 1024;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.1.1";
const SIDE: u16 = 8;

// 8 x 8 samples of 8 bits, (16 * row + 7 * column) mod 256, as DCMTK, CharLS and OpenJPEG write it.
pub(crate) const JPEG: &[u8] = b"\xff\xd8\xff\xdb\x00\x43\x00\x03\x02\x02\x03\x02\x02\x03\x03\x03\x03\x04\x03\x03\x04\x05\x08\x05\x05\x04\x04\x05\x0a\x07\x07\x06\x08\x0c\x0a\x0c\x0c\x0b\x0a\x0b\x0b\x0d\x0e\x12\x10\x0d\x0e\x11\x0e\x0b\x0b\x10\x16\x10\x11\x13\x14\x15\x15\x15\x0c\x0f\x17\x18\x16\x14\x18\x12\x14\x15\x14\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00\xff\xc4\x00\x14\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\xff\xc4\x00\x1a\x10\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x08\x24\x33\x42\x51\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\x2f\xd3\x6c\x6d\x72\xa3\xff\xff\xd9";
const JPEG_LOSSLESS: &[u8] = b"\xff\xd8\xff\xc3\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00\xff\xc4\x00\x16\x00\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x05\x08\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00\xcf\xee\xee\xee\xef\x41\xdd\xdd\xdd\xe8\x3b\xbb\xbb\xbd\x07\x77\x77\x77\xa0\xee\xee\xee\xf4\x1d\xdd\xdd\xde\x83\xbb\xbb\xbb\xd0\x77\x77\x77\x7f\xff\xff\xd9";
const JPEG_LS: &[u8] = b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x85\x15\x62\xad\x3e\x01\x06\x62\x91\xd8\x31\xd5\x11\x24\x60\x6b\x6d\xb5\x41\x2d\xb6\xd4\x04\xb6\xdb\x78\x25\xb6\xdb\x81\x2d\xb6\xdc\xff\xd9";
const JPEG_2000: &[u8] = b"\xff\x4f\xff\x51\x00\x29\x00\x00\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x07\x01\x01\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x01\x04\x04\x00\x01\xff\x5c\x00\x07\x40\x40\x48\x48\x50\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x2d\x00\x01\xff\x93\xdf\x80\x78\x12\x0a\x43\x88\x4d\x96\x14\x78\x14\x91\x47\x2d\xcb\xd7\x7f\xc0\x7c\x21\xc1\xf3\x83\x00\x22\x18\x7f\x03\x7f\xeb\xff\xd9";

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Implicit,
    Explicit,
    BigEndian,
}

impl Form {
    fn short(self, number: u16) -> [u8; 2] {
        if self == Self::BigEndian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn long(self, number: u32) -> [u8; 4] {
        if self == Self::BigEndian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn tag(self, (group, element): (u16, u16)) -> Vec<u8> {
        [self.short(group), self.short(element)].concat()
    }

    /// An element; `length` none: undefined.
    fn with_length(self, tag: (u16, u16), vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = self.tag(tag);
        match (self, vr) {
            (Self::Implicit, _) => bytes.extend(self.long(length)),
            (_, "OB" | "OW" | "SQ") => {
                bytes.extend(vr.as_bytes());
                bytes.extend([0, 0]);
                bytes.extend(self.long(length));
            }
            _ => {
                bytes.extend(vr.as_bytes());
                bytes.extend(self.short(u16::try_from(length).expect("short")));
            }
        }
        bytes.extend(value);
        bytes
    }

    fn element(self, tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
        self.with_length(tag, vr, u32::try_from(value.len()).expect("short"), value)
    }

    fn text(self, tag: (u16, u16), vr: &str, text: &str) -> Vec<u8> {
        let pad = if vr == "UI" { "\0" } else { " " };
        let text = format!("{text}{}", if text.len() % 2 == 1 { pad } else { "" });
        self.element(tag, vr, text.as_bytes())
    }

    fn number(self, tag: (u16, u16), number: u16) -> Vec<u8> {
        self.element(tag, "US", &self.short(number))
    }

    fn item(self, value: &[u8]) -> Vec<u8> {
        let length = self.long(u32::try_from(value.len()).expect("short"));
        [&self.tag((0xfffe, 0xe000)), length.as_slice(), value].concat()
    }

    /// A sequence of one item; `defined` says how both lengths are written.
    fn sequence(self, tag: (u16, u16), inner: &[u8], defined: bool) -> Vec<u8> {
        if defined {
            return self.element(tag, "SQ", &self.item(inner));
        }
        let undefined = self.long(u32::MAX);
        let end = |number| [self.tag((0xfffe, number)), vec![0; 4]].concat();
        let start = [&self.tag((0xfffe, 0xe000)), undefined.as_slice()].concat();
        let value = [&start, inner, &end(0xe00d), &end(0xe0dd)].concat();
        self.with_length(tag, "SQ", u32::MAX, &value)
    }

    /// A sequence with a table of three entries of 12 bits.
    fn table(self, tag: (u16, u16), defined: bool) -> Vec<u8> {
        let words = |numbers: [u16; 3]| numbers.map(|n| self.short(n)).concat();
        let descriptor = self.element((0x28, 0x3002), "US", &words([3, 0, 12]));
        let data = self.element((0x28, 0x3006), "OW", &words([0, 100, 4095]));
        self.sequence(tag, &[descriptor, data].concat(), defined)
    }
}

/// Bytes of the samples in a syntax.
fn stream(syntax: TransferSyntax) -> Vec<u8> {
    match (syntax.pixels, syntax.uid) {
        (Pixels::Native, _) => (0..=u8::MAX).cycle().take(usize::from(SIDE * SIDE)).collect(),
        // PS3.5 G: one segment at byte 64, one run of 64 equal bytes.
        (Pixels::Rle, _) => {
            let mut frame = [1_u32, 64].map(u32::to_le_bytes).concat();
            frame.resize(64, 0);
            frame.extend([193, 7]);
            frame
        }
        (Pixels::Jpeg, "1.2.840.10008.1.2.4.50") => JPEG.to_vec(),
        (Pixels::Jpeg, _) => JPEG_LOSSLESS.to_vec(),
        (Pixels::JpegLs, _) => JPEG_LS.to_vec(),
        (Pixels::Jpeg2000, _) => JPEG_2000.to_vec(),
    }
}

/// An object in a transfer syntax; `tables`: grey values by tables instead of numbers.
fn data_set(syntax: TransferSyntax, tables: bool) -> Vec<u8> {
    let form = match syntax.uid {
        "1.2.840.10008.1.2" => Form::Implicit,
        "1.2.840.10008.1.2.2" => Form::BigEndian,
        _ => Form::Explicit,
    };
    let code = form.text((8, 0x100), "SH", "51185008");
    let modifier = form.sequence((8, 0x2220), &code, false);
    let mut elements = vec![
        form.text((8, 0x16), "UI", CLASS),
        form.text((8, 0x18), "UI", "1.2.3.4.5"),
        form.text((8, 0x60), "CS", "DX"),
        form.sequence((8, 0x2218), &[code, modifier].concat(), tables),
        form.text((0x10, 0x10), "PN", NAME),
        form.text((0x10, 0x1010), "AS", "045Y"),
        form.text((0x18, 0x5101), "CS", "PA"),
        form.text((0x20, 0x0d), "UI", "1.2.3.4"),
        form.text((0x20, 0x0e), "UI", "1.2.3.4.1"),
        form.number((0x28, 2), 1),
        form.text((0x28, 4), "CS", "MONOCHROME2"),
        form.text((0x28, 8), "IS", "1"),
        form.number((0x28, 0x10), SIDE),
        form.number((0x28, 0x11), SIDE),
        form.number((0x28, 0x100), 8),
        form.number((0x28, 0x101), 8),
        form.number((0x28, 0x102), 7),
        form.number((0x28, 0x103), 0),
    ];
    if tables {
        elements.extend([form.table((0x28, 0x3000), true), form.table((0x28, 0x3010), false)]);
    } else {
        let numbers = [(0x1050, "127.5"), (0x1051, "256"), (0x1052, "-1000"), (0x1053, "2")];
        elements.extend(numbers.map(|(number, text)| form.text((0x28, number), "DS", text)));
        elements.push(form.text((0x28, 0x1056), "CS", "LINEAR"));
    }
    let stream = stream(syntax);
    elements.push(if syntax.pixels == Pixels::Native {
        form.element((0x7fe0, 0x10), "OW", &stream)
    } else {
        let end = [form.tag((0xfffe, 0xe0dd)), vec![0; 4]].concat();
        let fragments = [form.item(&[]), form.item(&stream), end].concat();
        form.with_length((0x7fe0, 0x10), "OB", u32::MAX, &fragments)
    });
    let bytes = elements.concat();
    if syntax.deflated { deflated(&bytes) } else { bytes }
}

/// A deflate stream of one stored block (RFC 1951 3.2.4).
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short");
    [&[1], length.to_le_bytes().as_slice(), &(!length).to_le_bytes(), bytes].concat()
}

/// Objects as files, two in every transfer syntax.
pub(crate) fn files() -> Vec<Vec<u8>> {
    let file = |(syntax, tables): (TransferSyntax, bool)| {
        let meta = [
            Form::Explicit.text((2, 2), "UI", CLASS),
            Form::Explicit.text((2, 3), "UI", "1.2.3.4.5"),
            Form::Explicit.text((2, 0x10), "UI", syntax.uid),
        ]
        .concat();
        let length = u32::try_from(meta.len()).expect("short").to_le_bytes();
        let length = Form::Explicit.element((2, 0), "UL", &length);
        [&[0; 128], b"DICM".as_slice(), &length, &meta, &data_set(syntax, tables)].concat()
    };
    syntax::all().flat_map(|syntax| [(syntax, false), (syntax, true)]).map(file).collect()
}

/// The objects of the corpus that are no bombs.
pub(crate) fn bad_files() -> Vec<Vec<u8>> {
    corpus::cases().into_iter().map(|case| case.file).filter(|f| f.len() <= CASE_MAX).collect()
}

/// A file as the gate target takes it: which syntax, and the data set behind the meta group.
pub(crate) fn for_gate(file: &[u8]) -> Option<Vec<u8>> {
    // Preamble, prefix, and the group's length (PS3.10 7.1), which is honest in every seed.
    let length = file.get(140..144)?.try_into().ok().map(u32::from_le_bytes)?;
    let (meta, data_set) = file.get(144..)?.split_at_checked(usize::try_from(length).ok()?)?;
    let uid = meta.windows(2).rposition(|w| w == b"UI").and_then(|at| meta.get(at + 4..))?;
    let uid = std::str::from_utf8(uid).ok()?.trim_end_matches('\0');
    let number = syntax::all().position(|syntax| syntax.uid == uid)?;
    Some([&[u8::try_from(number).ok()?], data_set].concat())
}
