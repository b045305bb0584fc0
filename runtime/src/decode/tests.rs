//! DICOM files are written here element by element, so that every byte that is refused is ours.

use super::*;

fn short(group: u16, element: u16, number: u16) -> Vec<u8> {
    element_of(group, element, b"US", &number.to_le_bytes())
}

fn element_of(group: u16, element: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), element.to_le_bytes()].concat();
    bytes.extend(vr);
    let length = u32::try_from(value.len()).expect("short");
    if matches!(vr, b"OB" | b"OW" | b"SQ") {
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
    } else {
        bytes.extend(&length.to_le_bytes()[..2]);
    }
    bytes.extend(value);
    bytes
}

/// A file of a data set behind a file meta group.
fn file(syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let syntax = format!("{syntax}{}", if syntax.len() % 2 == 1 { "\0" } else { "" });
    [&[0; 128], b"DICM".as_slice(), &element_of(2, 0x10, b"UI", syntax.as_bytes()), data_set]
        .concat()
}

/// Bytes of the plain object's Pixel Data with its header.
const PIXEL_ELEMENT: usize = 12 + 12;

/// What a test varies in an object of 2 rows and 3 columns.
struct Object {
    photometric: &'static str,
    samples: u16,
    rows: u16,
    bits: [u16; 3],
    signed: u16,
    frames: &'static str,
    more: Vec<u8>,
    pixels: Vec<u8>,
}

impl Default for Object {
    fn default() -> Self {
        let pixels = [0_u16, 1, 2, 3, 4, 4095].map(u16::to_le_bytes).concat();
        let more = Vec::new();
        Self {
            photometric: "MONOCHROME2 ",
            samples: 1,
            rows: 2,
            bits: [16, 12, 11],
            signed: 0,
            frames: "1 ",
            more,
            pixels,
        }
    }
}

impl Object {
    fn data_set(&self) -> Vec<u8> {
        let [allocated, stored, high] = self.bits;
        [
            element_of(8, 0x60, b"CS", b"DX"),
            element_of(0x18, 0x5101, b"CS", b"PA"),
            short(0x28, 2, self.samples),
            element_of(0x28, 4, b"CS", self.photometric.as_bytes()),
            element_of(0x28, 8, b"IS", self.frames.as_bytes()),
            short(0x28, 0x10, self.rows),
            short(0x28, 0x11, 3),
            short(0x28, 0x100, allocated),
            short(0x28, 0x101, stored),
            short(0x28, 0x102, high),
            short(0x28, 0x103, self.signed),
            self.more.clone(),
            element_of(0x7fe0, 0x10, b"OW", &self.pixels),
        ]
        .concat()
    }

    fn decode(&self) -> Result<Frame, DecodeError> {
        decode_bytes(&file("1.2.840.10008.1.2.1", &self.data_set()))
    }
}

fn decode_bytes(bytes: &[u8]) -> Result<Frame, DecodeError> {
    decode(bytes, &config::Decode::default(), &DicomLimits::default())
}

fn samples(frame: &Frame) -> Vec<i32> {
    frame.samples().collect()
}

fn check_refused(result: Result<Frame, DecodeError>, code: &str) {
    match result {
        Ok(_) => panic!("expected {code}, found a frame"),
        Err(error) => assert_eq!(error.code(), code, "{error}"),
    }
}

#[test]
fn a_plain_object_gives_its_samples_and_facts() {
    let frame = Object::default().decode().expect("decodes");
    assert_eq!((frame.rows, frame.columns), (2, 3));
    assert_eq!(samples(&frame), [0, 1, 2, 3, 4, 4095]);
    assert_eq!(frame.facts.modality.as_deref(), Some("DX"));
    assert_eq!(frame.facts.view, View::PA);
    assert_eq!(frame.grey, Grey::plain(12));
}

#[test]
fn bits_above_and_below_the_stored_ones_are_masked() {
    let pixels = [0xf000_u16, 0xf001, 2, 3, 4, 0xffff].map(u16::to_le_bytes).concat();
    let frame = Object { pixels, ..Object::default() }.decode().expect("decodes");
    assert_eq!(samples(&frame), [0, 1, 2, 3, 4, 4095]);
    let pixels = [0x000f_u16, 0x0010, 0x0020, 0, 0, 0xffff].map(u16::to_le_bytes).concat();
    let frame =
        Object { pixels, bits: [16, 12, 15], ..Object::default() }.decode().expect("decodes");
    assert_eq!(samples(&frame), [0, 1, 2, 0, 0, 4095]);
}

#[test]
fn signed_12_bit_samples_are_sign_extended() {
    let pixels = [0x0fff_u16, 0x0800, 0x07ff, 0, 1, 0xf800].map(u16::to_le_bytes).concat();
    let frame = Object { pixels, signed: 1, ..Object::default() }.decode().expect("decodes");
    assert_eq!(samples(&frame), [-1, -2048, 2047, 0, 1, -2048]);
}

#[test]
fn the_first_window_and_the_rescale_are_taken() {
    let more = [
        element_of(0x28, 0x1050, b"DS", b"1047.5\\800 "),
        element_of(0x28, 0x1051, b"DS", b"4095\\200"),
        element_of(0x28, 0x1052, b"DS", b"-1000 "),
        element_of(0x28, 0x1053, b"DS", b"2 "),
    ];
    let grey = Object { more: more.concat(), ..Object::default() }.decode().expect("decodes").grey;
    let window = Window { center: 1047.5, width: 4095.0, function: Function::Linear };
    assert_eq!(grey.voi, Voi::Window(window));
    assert_eq!(grey.modality, Modality::Rescale { slope: 2.0, intercept: -1000.0 });
}

#[test]
fn what_is_no_single_grey_picture_is_refused() {
    let colour = Object { photometric: "RGB ", samples: 3, ..Object::default() };
    check_refused(colour.decode(), "decode-colour");
    check_refused(
        Object { photometric: "PALETTE COLOR ", ..Object::default() }.decode(),
        "decode-colour",
    );
    check_refused(Object { frames: "2 ", ..Object::default() }.decode(), "decode-multi-frame");
    check_refused(Object { bits: [16, 17, 16], ..Object::default() }.decode(), "decode-attribute");
    check_refused(Object { bits: [32, 12, 11], ..Object::default() }.decode(), "decode-attribute");
}

#[test]
fn less_pixel_data_than_rows_and_columns_need_is_refused() {
    check_refused(Object { rows: 3, ..Object::default() }.decode(), "decode-pixels-short");
    check_refused(Object { rows: 65_535, ..Object::default() }.decode(), "decode-pixels-short");
    let limits = config::Decode { pixels: 5, ..config::Decode::default() };
    let object = file("1.2.840.10008.1.2.1", &Object::default().data_set());
    check_refused(decode(&object, &limits, &DicomLimits::default()), "decode-too-large");
}

#[test]
fn a_truncated_object_is_refused_at_every_byte() {
    let whole = file("1.2.840.10008.1.2.1", &Object::default().data_set());
    for end in 0..whole.len() {
        assert!(decode_bytes(&whole[..end]).is_err(), "cut at byte {end} of {}", whole.len());
    }
}

#[test]
fn a_flipped_bit_never_breaks_the_decoder() {
    let whole = file("1.2.840.10008.1.2.1", &Object::default().data_set());
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Either answer will do; what counts is that there is one.
        drop(decode_bytes(&bytes));
    }
}

#[test]
fn a_deflate_bomb_and_deep_nesting_are_refused() {
    use std::io::Write as _;
    let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 2_000_000]).expect("to memory");
    let limits =
        config::Decode { inflated: bytesize::ByteSize::mb(1), ..config::Decode::default() };
    let object = file("1.2.840.10008.1.2.1.99", &bomb.finish().expect("to memory"));
    check_refused(decode(&object, &limits, &DicomLimits::default()), "decode-structure");
    let open = b"\x08\x00\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".repeat(20_000);
    check_refused(decode_bytes(&file("1.2.840.10008.1.2", &open)), "decode-structure");
}

#[test]
fn a_deflated_object_is_read_as_the_plain_one() {
    use std::io::Write as _;
    let object = Object::default();
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflated.write_all(&object.data_set()).expect("to memory");
    let deflated = file("1.2.840.10008.1.2.1.99", &deflated.finish().expect("to memory"));
    assert_eq!(decode_bytes(&deflated).expect("decodes"), object.decode().expect("decodes"));
}

/// A file of 6 samples of 8 bits in one RLE segment, whose header says how many there are.
fn rle(segments: u32, segment: &[u8]) -> Vec<u8> {
    let item = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("short").to_le_bytes();
        [b"\xfe\xff\x00\xe0", length.as_slice(), bytes].concat()
    };
    // PS3.5 G.5: the first segment is at byte 64.
    let mut frame = [segments, 64].map(u32::to_le_bytes).concat();
    frame.resize(64, 0);
    frame.extend(segment);
    let start = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff";
    let end = b"\xfe\xff\xdd\xe0\0\0\0\0";
    let header = Object { bits: [8, 8, 7], ..Object::default() }.data_set();
    let header = &header[..header.len() - PIXEL_ELEMENT];
    file("1.2.840.10008.1.2.5", &[header, start, &item(&[]), &item(&frame), end].concat())
}

#[test]
fn four_billion_rle_segments_are_refused_before_the_codec_reserves_memory_for_them() {
    for segments in [0, 2, 15, 0x0fff_ffff, u32::MAX] {
        let error = decode_bytes(&rle(segments, &[1, 7, 8, 253, 9, 0])).expect_err("refused");
        assert!(error.to_string().contains("1 RLE segments"), "{error}");
    }
}

#[test]
fn a_whole_rle_segment_is_read_and_a_short_one_is_refused_though_the_codec_breaks_on_it() {
    let object = |segment: &[u8]| rle(1, segment);
    // A literal run of two, then four times 9.
    let frame = decode_bytes(&object(&[1, 7, 8, 253, 9, 0])).expect("decodes");
    assert_eq!(samples(&frame), [7, 8, 9, 9, 9, 9]);
    check_refused(decode_bytes(&object(&[0, 7])), "decode-corrupt");
}

#[test]
fn what_cannot_be_decoded_is_named() {
    let data_set = Object::default().data_set();
    check_refused(
        // JPEG Extended: no decoder at hand reads its 12 bits.
        decode_bytes(&file("1.2.840.10008.1.2.4.51", &data_set)),
        "decode-syntax-unsupported",
    );
    check_refused(decode_bytes(b"GIF89a"), "decode-not-an-image");
    check_refused(decode_bytes(b""), "decode-not-an-image");
    let missing = &data_set[..data_set.len() - PIXEL_ELEMENT];
    check_refused(decode_bytes(&file("1.2.840.10008.1.2.1", missing)), "decode-pixels-missing");
}

#[test]
fn a_view_and_a_region_that_are_only_coded_are_understood() {
    let sequence = |group, element, code: &[u8]| {
        let inner = element_of(8, 0x100, b"SH", code);
        let length = u32::try_from(inner.len()).expect("short").to_le_bytes();
        element_of(
            group,
            element,
            b"SQ",
            &[b"\xfe\xff\x00\xe0", length.as_slice(), &inner].concat(),
        )
    };
    let mut data_set = sequence(8, 0x2218, b"51185008");
    data_set.extend(Object::default().data_set());
    // The view position of the plain object is taken out: 10 bytes after (0008,0060).
    let at = data_set.windows(4).position(|w| w == b"\x18\x00\x01\x51").expect("is there");
    data_set.drain(at..at + 10);
    data_set.splice(at..at, sequence(0x54, 0x220, b"399348003 "));
    let facts = decode_bytes(&file("1.2.840.10008.1.2.1", &data_set)).expect("decodes").facts;
    assert_eq!((facts.view, facts.body_part.as_deref()), (View::AP, Some("CHEST")));
}

/// A sequence with one item that holds a table.
fn table(element: u16, descriptor: [u16; 3], data: &[u8]) -> Vec<u8> {
    let inner = [
        element_of(0x28, 0x3002, b"US", &descriptor.map(u16::to_le_bytes).concat()),
        element_of(0x28, 0x3006, b"OW", data),
    ]
    .concat();
    let length = u32::try_from(inner.len()).expect("short").to_le_bytes();
    element_of(0x28, element, b"SQ", &[b"\xfe\xff\x00\xe0", length.as_slice(), &inner].concat())
}

#[test]
fn tables_and_functions_are_read_and_wrong_ones_refused() {
    let grey = |more: Vec<u8>| Object { more, ..Object::default() }.decode().map(|f| f.grey);
    let words = [7_u16, 8, 4095].map(u16::to_le_bytes).concat();
    let lut = |first, bits, entries: [u16; 3]| Lut { first, bits, entries: entries.to_vec() };
    let both = [table(0x3000, [3, 2, 12], &words), table(0x3010, [3, 0xffff, 16], &words)].concat();
    let found = grey(both).expect("decodes");
    assert_eq!(found.modality, Modality::Lut(lut(2, 12, [7, 8, 4095])));
    assert_eq!(found.voi, Voi::Lut(lut(0xffff, 16, [7, 8, 4095])));
    // Behind a rescale to negative units the first input is signed.
    let rescaled =
        [element_of(0x28, 0x1052, b"DS", b"-1000 "), table(0x3010, [3, 0xffff, 16], &words)];
    let found = grey(rescaled.concat()).expect("decodes");
    assert_eq!(found.voi, Voi::Lut(lut(-1, 16, [7, 8, 4095])));
    // Entries of 8 bits stand packed, or as words where the length says so.
    let packed = grey(table(0x3010, [3, 0, 8], &[1, 2, 255, 0])).expect("decodes");
    assert_eq!(packed.voi, Voi::Lut(lut(0, 8, [1, 2, 255])));
    let wide = grey(table(0x3010, [3, 0, 8], &[1, 0, 2, 0, 255, 0])).expect("decodes");
    assert_eq!(wide.voi, packed.voi);
    for (descriptor, data) in [([0, 0, 16], &words), ([4, 0, 16], &words), ([3, 0, 17], &words)] {
        let object = Object { more: table(0x3010, descriptor, data), ..Object::default() };
        check_refused(object.decode(), "decode-attribute");
    }
    let window = |function: &[u8]| {
        let center = element_of(0x28, 0x1050, b"DS", b"40");
        let width = element_of(0x28, 0x1051, b"DS", b".5");
        grey([center, width, element_of(0x28, 0x1056, b"CS", function)].concat())
    };
    let expected = |function| Voi::Window(Window { center: 40.0, width: 0.5, function });
    assert_eq!(window(b"SIGMOID ").expect("decodes").voi, expected(Function::Sigmoid));
    assert_eq!(window(b"LINEAR_EXACT").expect("decodes").voi, expected(Function::LinearExact));
    // PS3.3 C.11.2.1.2.1: a LINEAR window is at least 1 wide.
    assert_eq!(window(b"LINEAR").expect("decodes").voi, Voi::FullRange);
    assert!(window(b"GAMMA ").is_err());
}
