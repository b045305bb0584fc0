//! Objects that no honest sender makes: each a DICOM file, drawn up element by element.

/// One object and what is wrong with it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) file: Vec<u8>,
}

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const BIG_ENDIAN_AS_EXPLICIT: &str = EXPLICIT;
const RLE: &str = "1.2.840.10008.1.2.5";
const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const DX: &str = "1.2.840.10008.5.1.4.1.1.1.1";
const INSTANCE: &str = "1.2.3.4.5";

/// Representations with a length of 32 bits in explicit VR (PS3.5 7.1.2).
const LONG: [&str; 13] =
    ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"];

const SHORT: [&str; 21] = [
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS",
    "ST", "TM", "UI", "UL", "US",
];

fn element(group: u16, number: u16, vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(vr.as_bytes());
    if LONG.contains(&vr) {
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
    } else {
        bytes.extend(&length.to_le_bytes()[..2]);
    }
    bytes.extend(value);
    bytes
}

fn honest(group: u16, number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    element(group, number, vr, u32::try_from(value.len()).expect("short"), &value)
}

fn short(number: u16, value: u16) -> Vec<u8> {
    honest(0x28, number, "US", &value.to_le_bytes())
}

/// A file: the meta group says what the command will.
fn file(syntax: &str, instance: &str, data_set: &[u8]) -> Vec<u8> {
    let meta = [
        honest(2, 2, "UI", DX.as_bytes()),
        honest(2, 3, "UI", instance.as_bytes()),
        honest(2, 0x10, "UI", syntax.as_bytes()),
    ]
    .concat();
    let length = u32::try_from(meta.len()).expect("short");
    [&[0; 128], b"DICM".as_slice(), &honest(2, 0, "UL", &length.to_le_bytes()), &meta, data_set]
        .concat()
}

/// The elements of a small honest object, one by one, so that each can be left out or changed.
fn elements() -> Vec<((u16, u16), Vec<u8>)> {
    let text = |group, number, vr, value: &str| {
        ((group, number), honest(group, number, vr, value.as_bytes()))
    };
    let number = |number, value| ((0x28, number), short(number, value));
    let pixels: Vec<u8> = (0_u16..64 * 64).flat_map(|i| (i % 4096).to_le_bytes()).collect();
    vec![
        text(8, 0x16, "UI", DX),
        text(8, 0x18, "UI", INSTANCE),
        text(8, 0x50, "SH", "ACC-OF-NOBODY"),
        text(8, 0x60, "CS", "DX"),
        text(0x10, 0x10, "PN", "CANARY^PATIENT"),
        text(0x10, 0x20, "LO", "CANARY-ID"),
        text(0x10, 0x30, "DA", "19010203"),
        text(0x18, 0x15, "CS", "CHEST"),
        text(0x20, 0x0d, "UI", "1.2.3.4"),
        text(0x20, 0x0e, "UI", "1.2.3.4.1"),
        number(2, 1),
        text(0x28, 4, "CS", "MONOCHROME2"),
        number(0x10, 64),
        number(0x11, 64),
        number(0x100, 16),
        number(0x101, 12),
        number(0x102, 11),
        number(0x103, 0),
        ((0x7fe0, 0x10), honest(0x7fe0, 0x10, "OW", &pixels)),
    ]
}

/// The object with some elements put in the place of others, or beside them.
fn with(changes: &[((u16, u16), Vec<u8>)]) -> Vec<u8> {
    let mut all = elements();
    for (tag, bytes) in changes {
        match all.iter_mut().find(|(t, _)| t == tag) {
            Some((_, old)) => old.clone_from(bytes),
            None => all.push((*tag, bytes.clone())),
        }
    }
    all.sort_by_key(|(tag, _)| *tag);
    all.into_iter().flat_map(|(_, bytes)| bytes).collect()
}

/// Encapsulated pixel data: an offset table and fragments as they come.
fn encapsulated(table: &[u8], fragments: &[&[u8]]) -> Vec<u8> {
    let item = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("short").to_le_bytes();
        [b"\xfe\xff\x00\xe0".as_slice(), &length, bytes].concat()
    };
    let mut pixels = element(0x7fe0, 0x10, "OB", u32::MAX, &item(table));
    pixels.extend(fragments.iter().flat_map(|f| item(f)));
    pixels.extend(b"\xfe\xff\xdd\xe0\0\0\0\0");
    pixels
}

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, file: Vec<u8>| cases.push(Case { name, file });
    let plain = |data_set: &[u8]| file(EXPLICIT, INSTANCE, data_set);
    for depth in [65, 100, 1_000, 20_000, 1_000_000] {
        let open =
            b"\x08\x00\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".repeat(depth);
        add(format!("{depth} nested sequences"), file(IMPLICIT, INSTANCE, &open));
    }
    for vr in LONG.iter().chain(&SHORT) {
        let most = if LONG.contains(vr) { 0xffff_fffe } else { 0xffff };
        for length in [most, most - 1, 0x7fff] {
            let value = element(9, 0x1010, vr, length, b"ab");
            add(format!("{vr} of {length} bytes, 2 there"), plain(&[with(&[]), value].concat()));
        }
    }
    add("2,000,000 empty elements".into(), plain(&b"\x09\x00\x05\x10CS\0\0".repeat(2_000_000)));
    add("no element".into(), plain(&[]));
    add("explicit bytes as implicit".into(), file(IMPLICIT, INSTANCE, &with(&[])));
    let swapped: Vec<u8> = with(&[]).chunks(2).flat_map(|p| p.iter().rev().copied()).collect();
    add("big endian bytes".into(), file(BIG_ENDIAN_AS_EXPLICIT, INSTANCE, &swapped));
    for (name, bytes) in [
        ("item end", b"\xfe\xff\x0d\xe0\0\0\0\0".as_slice()),
        ("sequence end", b"\xfe\xff\xdd\xe0\0\0\0\0"),
        ("item", b"\xfe\xff\x00\xe0\0\0\0\0"),
        ("item of 4 GB", b"\xfe\xff\x00\xe0\xfe\xff\xff\xff"),
    ] {
        add(format!("a stray {name} first"), plain(&[bytes, &with(&[])].concat()));
        add(format!("a stray {name} last"), plain(&[&with(&[]), bytes].concat()));
    }
    attributes(&mut add);
    names(&mut add);
    compressed(&mut add);
    let whole = with(&[]);
    for percent in 0..100 {
        add(format!("cut at {percent} %"), plain(&whole[..whole.len() * percent / 100]));
    }
    cases
}

/// Attributes that pixels are believed by, with values that they cannot have.
fn attributes(add: &mut impl FnMut(String, Vec<u8>)) {
    let plain = |data_set: &[u8]| file(EXPLICIT, INSTANCE, data_set);
    let numbers = [0, 1, 2, 7, 255, 32_768, 65_535];
    for number in [2, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103] {
        for value in numbers {
            let changed = with(&[((0x28, number), short(number, value))]);
            // Some of these are honest; what counts is that each gets an answer.
            add(format!("(0028,{number:04x}) is {value}"), plain(&changed));
        }
        let wide = honest(0x28, number, "UL", &64_u32.to_le_bytes());
        add(format!("(0028,{number:04x}) of 4 bytes"), plain(&with(&[((0x28, number), wide)])));
    }
    let huge = [((0x28, 0x10), short(0x10, 65_535)), ((0x28, 0x11), short(0x11, 65_535))];
    add("65535 x 65535 with 8 kB".into(), plain(&with(&huge)));
    for tag in elements().iter().map(|(tag, _)| *tag) {
        add(format!("without ({:04x},{:04x})", tag.0, tag.1), plain(&with(&[(tag, Vec::new())])));
    }
    for text in ["-1", "0", "2", "1e400", "NaN", "\\\\\\", "99999999999999999999"] {
        for (number, vr) in
            [(8, "IS"), (0x1050, "DS"), (0x1051, "DS"), (0x1052, "DS"), (0x1053, "DS")]
        {
            let value = honest(0x28, number, vr, text.as_bytes());
            let width = ((0x28, 0x1051), honest(0x28, 0x1051, "DS", b"100"));
            let changed = with(&[width, ((0x28, number), value)]);
            add(format!("(0028,{number:04x}) is {text:?}"), plain(&changed));
        }
    }
}

/// Identifiers that are none.
fn names(add: &mut impl FnMut(String, Vec<u8>)) {
    let plain = |data_set: &[u8]| file(EXPLICIT, INSTANCE, data_set);
    for uid in ["../../../etc/passwd", "1.2\0.3", "1.2.*", "1..2", "", "ü.1", "#", &"1.".repeat(33)]
    {
        for (group, number) in [(8, 0x16), (8, 0x18), (0x20, 0x0d), (0x20, 0x0e)] {
            let value = honest(group, number, "UI", uid.as_bytes());
            add(
                format!("UID {uid:?} in ({group:04x},{number:04x})"),
                plain(&with(&[((group, number), value)])),
            );
        }
        let value = ((8, 0x18), honest(8, 0x18, "UI", uid.as_bytes()));
        add(format!("UID {uid:?} in command and data set"), file(EXPLICIT, uid, &with(&[value])));
    }
}

/// Compressed pixel data that its codec must not be hurt by.
fn compressed(add: &mut impl FnMut(String, Vec<u8>)) {
    let with_pixels = |syntax: &str, pixels: Vec<u8>| {
        let small = [
            ((0x28, 0x100), short(0x100, 8)),
            ((0x28, 0x101), short(0x101, 8)),
            ((0x28, 0x102), short(0x102, 7)),
        ];
        let changes = [small.as_slice(), &[((0x7fe0, 0x10), pixels)]].concat();
        file(syntax, INSTANCE, &with(&changes))
    };
    let rle = |numbers: &[u32], segment: &[u8]| {
        let mut frame: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        frame.resize(64, 0);
        frame.extend(segment);
        frame
    };
    let streams: [(&str, &str, Vec<u8>); 17] = [
        ("a short RLE segment", RLE, rle(&[1, 64], &[0, 7])),
        ("no RLE segment", RLE, rle(&[0], &[])),
        ("255 RLE segments", RLE, rle(&[255; 16], &[])),
        ("an RLE offset beyond the end", RLE, rle(&[1, 0xffff_fff0], &[1, 2, 3])),
        ("an RLE header cut off", RLE, vec![1, 0, 0]),
        ("an endless RLE run", RLE, rle(&[1, 64], &[129; 4096])),
        ("a JPEG of nothing", JPEG_BASELINE, Vec::new()),
        ("a JPEG of SOI", JPEG_BASELINE, vec![0xff, 0xd8]),
        ("a JPEG of 65535 x 65535", JPEG_BASELINE, jpeg(0xc0, 65_535, 65_535)),
        ("a JPEG of the right size without a scan", JPEG_BASELINE, jpeg(0xc0, 64, 64)),
        ("a lossless JPEG without a scan", JPEG_LOSSLESS, jpeg(0xc3, 64, 64)),
        ("a lossless JPEG of zeros", JPEG_LOSSLESS, [jpeg(0xc3, 64, 64), vec![0; 4096]].concat()),
        ("a JPEG-LS without a scan", JPEG_LS, jpeg(0xf7, 64, 64)),
        ("a JPEG-LS of ones", JPEG_LS, [jpeg(0xf7, 64, 64), vec![0xff; 4096]].concat()),
        ("a JPEG 2000 of 4 billion columns", JPEG_2000, jpeg_2000(u32::MAX, 64)),
        ("a JPEG 2000 of the right size and no more", JPEG_2000, jpeg_2000(64, 64)),
        (
            "a JPEG 2000 of the right size and rubbish",
            JPEG_2000,
            [jpeg_2000(64, 64), vec![0x55; 4096]].concat(),
        ),
    ];
    for (name, syntax, stream) in streams {
        add(name.into(), with_pixels(syntax, encapsulated(&[], &[&stream])));
        let cut = &stream[..stream.len() / 2];
        add(format!("{name}, half of it"), with_pixels(syntax, encapsulated(&[], &[cut])));
        add(
            format!("{name}, an odd offset table"),
            with_pixels(syntax, encapsulated(&[1, 2, 3], &[&stream])),
        );
    }
    add("no fragment".into(), with_pixels(RLE, encapsulated(&[], &[])));
    add(
        "100,000 fragments".into(),
        with_pixels(RLE, encapsulated(&[], &vec![b"ab".as_slice(); 99_000])),
    );
    let open = element(0x7fe0, 0x10, "OB", u32::MAX, b"\xfe\xff\x00\xe0\0\0\0\0");
    add("fragments without an end".into(), with_pixels(RLE, open));
}

/// A JPEG's beginning: SOI and a frame header of one component of 8 bits.
fn jpeg(marker: u8, rows: u16, columns: u16) -> Vec<u8> {
    let ([y0, y1], [x0, x1]) = (rows.to_be_bytes(), columns.to_be_bytes());
    vec![0xff, 0xd8, 0xff, marker, 0, 11, 8, y0, y1, x0, x1, 1, 1, 0x11, 0]
}

/// A JPEG 2000's beginning: SOC and SIZ of one component of 8 bits.
fn jpeg_2000(columns: u32, rows: u32) -> Vec<u8> {
    let mut bytes = vec![0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0];
    for number in [columns, rows, 0, 0, columns, rows, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend([0, 1, 7, 1, 1]);
    bytes
}
