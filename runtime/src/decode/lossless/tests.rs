//! An encoder of a page, written from annex H alone, and what must come back from it.

use super::*;

/// How a stream is made.
#[derive(Clone, Copy)]
struct Coding {
    precision: u32,
    selection: u8,
    point_transform: u32,
    /// Rows from restart to restart; 0: no restarts.
    restart_rows: usize,
    /// Length of the code of each category, 0 to 16.
    lengths: [u8; 17],
}

/// Short codes for all categories: 15 of 4 bits and 2 of 5 leave the last code free.
const SHORT: [u8; 17] = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5];

/// The smallest differences have the longest codes.
const LONG: [u8; 17] = [16, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

const PLAIN: Coding =
    Coding { precision: 12, selection: 1, point_transform: 0, restart_rows: 0, lengths: SHORT };

const ROWS: usize = 7;
const COLUMNS: usize = 5;

/// Bits to bytes, with a zero behind every FF.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    bits: Vec<bool>,
}

impl Writer {
    fn put(&mut self, value: u32, count: u32) {
        self.bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    /// Fills the last byte with ones (F.1.2.3).
    fn flush(&mut self) {
        while !self.bits.len().is_multiple_of(8) {
            self.bits.push(true);
        }
        for byte in self.bits.chunks(8) {
            let byte = byte.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
            self.bytes.push(byte);
            if byte == 0xff {
                self.bytes.push(0);
            }
        }
        self.bits.clear();
    }
}

fn segment_of(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).expect("short").to_be_bytes();
    [&[0xff, marker], length.as_slice(), body].concat()
}

/// Categories in the order of their codes, and how many there are of each length.
fn table(lengths: &[u8; 17]) -> ([u8; 16], Vec<u8>) {
    let mut counts = [0; 16];
    lengths.iter().for_each(|&length| counts[usize::from(length) - 1] += 1);
    let mut categories: Vec<u8> = (0..17).collect();
    categories.sort_by_key(|&category| lengths[usize::from(category)]);
    (counts, categories)
}

/// The code of a category (C.2).
fn code(lengths: &[u8; 17], wanted: u8) -> (u32, u32) {
    let (_, categories) = table(lengths);
    let (mut code, mut length) = (0_u32, u32::from(lengths[usize::from(categories[0])]));
    for category in categories {
        let own = u32::from(lengths[usize::from(category)]);
        code <<= own - length;
        length = own;
        if category == wanted {
            return (code, length);
        }
        code += 1;
    }
    unreachable!("every category has a code")
}

fn stream(samples: &[u16], coding: Coding) -> Vec<u8> {
    let Coding { precision, selection, point_transform, restart_rows, lengths } = coding;
    let (counts, categories) = table(&lengths);
    let byte = |number: usize| u8::try_from(number).expect("small");
    let size = [0, byte(ROWS), 0, byte(COLUMNS)];
    let mut writer = Writer {
        bytes: [
            vec![0xff, 0xd8],
            segment_of(0xe0, b"anything"),
            segment_of(0xc4, &[&[0], counts.as_slice(), &categories].concat()),
            segment_of(0xdd, &[0, byte(restart_rows * COLUMNS)]),
            segment_of(
                0xc3,
                &[&[byte(precision as usize)], size.as_slice(), &[1, 1, 0x11, 0]].concat(),
            ),
            segment_of(0xda, &[1, 1, 0, selection, 0, byte(point_transform as usize)]),
        ]
        .concat(),
        bits: Vec::new(),
    };
    let taken: Vec<i32> = samples.iter().map(|&s| i32::from(s >> point_transform)).collect();
    for (at, &sample) in taken.iter().enumerate() {
        let (row, column) = (at / COLUMNS, at % COLUMNS);
        let begins = row == 0 || (restart_rows > 0 && row % restart_rows == 0);
        if begins && column == 0 && row > 0 {
            writer.flush();
            writer.bytes.extend([0xff, 0xd0 + byte(row / restart_rows - 1) % 8]);
        }
        let predicted = match (begins, column) {
            (true, 0) => 1 << (precision - point_transform - 1),
            (true, _) => taken[at - 1],
            (false, 0) => taken[at - COLUMNS],
            (false, _) => {
                let (a, b, c) = (taken[at - 1], taken[at - COLUMNS], taken[at - COLUMNS - 1]);
                [a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) / 2]
                    [usize::from(selection) - 1]
            }
        };
        difference(&mut writer, (sample - predicted).rem_euclid(1 << 16), &lengths);
    }
    writer.flush();
    writer.bytes.extend([0xff, 0xd9]);
    writer.bytes
}

/// Writes a difference modulo 2^16 (table H.2).
fn difference(writer: &mut Writer, modulo: i32, lengths: &[u8; 17]) {
    let value = if modulo > 1 << 15 { modulo - (1 << 16) } else { modulo };
    let category = 32 - value.unsigned_abs().leading_zeros();
    let (code, length) = code(lengths, u8::try_from(category).expect("at most 16"));
    writer.put(code, length);
    if category < 16 {
        let low = if value < 0 { value - 1 } else { value };
        writer.put(low.cast_unsigned() & ((1 << category) - 1), category);
    }
}

/// Samples that go up and down by all that fits, and by little.
fn samples(precision: u32, seed: u64) -> Vec<u16> {
    // Knuth's linear congruential generator; its high bits are random enough.
    let mut state = seed;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u16::try_from(state >> 48).expect("16 bits")
    };
    let greatest = u16::MAX >> (16 - precision);
    (0..ROWS * COLUMNS)
        .map(|at| match at % 4 {
            0 => random() & greatest,
            1 => greatest,
            2 => 0,
            _ => greatest / 2,
        })
        .collect()
}

#[test]
fn every_predictor_precision_code_restart_and_point_transform_comes_back() {
    for selection in 1..=7 {
        for (precision, point_transform) in [(2, 0), (8, 0), (12, 0), (12, 3), (16, 0), (16, 1)] {
            for restart_rows in [0, 1, 3] {
                for lengths in [SHORT, LONG] {
                    let coding =
                        Coding { precision, selection, point_transform, restart_rows, lengths };
                    let samples = samples(precision, u64::from(selection));
                    let found = decode(&stream(&samples, coding), (ROWS, COLUMNS));
                    let expected: Vec<u16> =
                        samples.iter().map(|s| s >> point_transform << point_transform).collect();
                    assert_eq!(found.expect("whole"), expected, "{selection} {precision}");
                }
            }
        }
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_is_refused() {
    for lengths in [SHORT, LONG] {
        let whole = stream(&samples(12, 1), Coding { restart_rows: 2, lengths, ..PLAIN });
        // Without its end marker, and the padding in front of it, a stream is still whole.
        for end in 0..whole.len() - 3 {
            assert!(decode(&whole[..end], (ROWS, COLUMNS)).is_err(), "cut at {end}");
        }
        decode(&whole[..whole.len() - 2], (ROWS, COLUMNS)).expect("whole");
    }
}

#[test]
fn what_is_no_lossless_stream_of_one_component_is_refused() {
    let whole = stream(&samples(12, 1), PLAIN);
    let change = |from: &[u8], to: &[u8]| {
        let at = whole.windows(from.len()).position(|w| w == from).expect("is there");
        [&whole[..at], to, &whole[at + from.len()..]].concat()
    };
    for (what, changed) in [
        ("another process", change(&[0xff, 0xc3], &[0xff, 0xc1])),
        ("no predictor", change(&[1, 1, 0, 1, 0, 0], &[1, 1, 0, 0, 0, 0])),
        ("predictor 8", change(&[1, 1, 0, 1, 0, 0], &[1, 1, 0, 8, 0, 0])),
        ("a table that is not there", change(&[1, 1, 0, 1, 0, 0], &[1, 1, 0x10, 1, 0, 0])),
        ("a point transform of all bits", change(&[1, 1, 0, 1, 0, 0], &[1, 1, 0, 1, 0, 12])),
        ("a restart in a row", change(&[0xff, 0xdd, 0, 4, 0, 0], &[0xff, 0xdd, 0, 4, 0, 3])),
        ("three components", change(&[0, 5, 1, 1, 0x11], &[0, 5, 3, 1, 0x11])),
        ("a precision of 17", change(&[12, 0, 7, 0, 5], &[17, 0, 7, 0, 5])),
        ("another size", change(&[12, 0, 7, 0, 5], &[12, 0, 7, 0, 6])),
        ("two frame headers", change(&[0xff, 0xdd, 0, 4], &[0xff, 0xc3, 0, 4])),
        ("more codes than fit", change(&[0, 0, 0, 0, 15, 2], &[0, 3, 0, 0, 15, 2])),
    ] {
        assert!(decode(&changed, (ROWS, COLUMNS)).is_err(), "{what}");
    }
}
