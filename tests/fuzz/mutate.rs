//! How one input becomes another.

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

/// Longest input, bytes: room for every seed some times over, and short enough to be copied at
/// every execution.
pub(crate) const INPUT_MAX: usize = 64 * 1024;

/// Numbers at the ends of what 8, 16 and 32 bits hold, and the lengths that mean something
/// (PS3.5 7.1.1: `FFFFFFFF` is undefined; `FFFFFFFE` is the longest).
const NUMBERS: [u32; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
];

/// Pieces whose place decides what follows.
const PIECES: [&[u8]; 22] = [
    // Item, end of an item, end of a sequence (PS3.5 7.5), in both byte orders.
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\0\0\0\0",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"\xff\xfe\xe0\x00\0\0\0\0",
    b"\xff\xfe\xe0\x0d\0\0\0\0",
    b"\xff\xfe\xe0\xdd\0\0\0\0",
    // A sequence, pixel data, a private element, another group of a command.
    b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff",
    b"\x08\x00\x40\x11\xff\xff\xff\xff",
    b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
    b"\xe0\x7f\x10\x00OW\0\0\x02\0\0\0\0\0",
    b"\x09\x00\x10\x10UN\0\0\xff\xff\xff\xff",
    // Command elements: field, message id, data set type, class.
    b"\0\0\x00\x01\x02\0\0\0\x01\x00",
    b"\0\0\x10\x01\x02\0\0\0\xff\xff",
    b"\0\0\x00\x08\x02\0\0\0\x01\x01",
    b"\0\0\x02\0\x04\0\0\x001.2\0",
    // PDUs (PS3.8 9.3): data with a last command fragment, release, abort, and two lengths.
    b"\x04\0\0\0\0\x06\0\0\0\x02\x01\x03",
    b"\x05\0\0\0\0\x04\0\0\0\0",
    b"\x07\0\0\0\0\x04\0\0\0\0",
    b"\x01\0\xff\xff\xff\xff",
    b"\x20\0\0\x08\x01\0\0\0\x30\0\0\0",
    b"\x50\0\0\x04\x51\0\0\0",
];

/// One input of the pool, changed one to eight times: mostly few, because many changes at once end
/// at the first check.
pub(crate) fn mutated(rng: &mut Pcg64Mcg, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = any(rng, pool).to_vec();
    for _ in 0..1 << rng.random_range(0..4) {
        step(rng, pool, &mut bytes);
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

fn any<'a>(rng: &mut Pcg64Mcg, pool: &'a [Vec<u8>]) -> &'a [u8] {
    if pool.is_empty() { &[] } else { &pool[rng.random_range(0..pool.len())] }
}

/// A part of `length` bytes; short ones are as likely as long ones.
fn part(rng: &mut Pcg64Mcg, length: usize) -> std::ops::Range<usize> {
    let start = rng.random_range(0..=length);
    let most = (length - start).min(1 << rng.random_range(0..14));
    start..start + rng.random_range(0..=most)
}

fn step(rng: &mut Pcg64Mcg, pool: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..10) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.random_range(0..=u8::MAX);
            }
        }
        2 => {
            let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
            overwrite(rng, bytes, at, number);
        }
        3 => {
            let near = length_at(rng, bytes, at);
            overwrite(rng, bytes, at, near);
        }
        4 => bytes.truncate(at),
        5 => {
            let copied = bytes[part(rng, bytes.len())].to_vec();
            bytes.splice(at..at, copied);
        }
        6 => drop(bytes.drain(part(rng, bytes.len()))),
        7 => {
            let piece = PIECES[rng.random_range(0..PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        8 => {
            let other = any(rng, pool);
            let from = rng.random_range(0..=other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        _ => {
            let other = any(rng, pool);
            let taken = part(rng, other.len());
            bytes.splice(at..at, other[taken].iter().copied());
        }
    }
}

/// A length that could stand at `at`: what follows there, or what stands there, give or take a few.
fn length_at(rng: &mut Pcg64Mcg, bytes: &[u8], at: usize) -> u32 {
    let stands =
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let follows = u32::try_from(bytes.len() - at).unwrap_or(u32::MAX);
    let length = match rng.random_range(0..3) {
        0 => stands,
        1 => stands.swap_bytes(),
        _ => follows,
    };
    length.wrapping_add_signed(rng.random_range(-6..=6))
}

/// Writes a number of 1, 2 or 4 bytes in either byte order, as far as there is room.
fn overwrite(rng: &mut Pcg64Mcg, bytes: &mut [u8], at: usize, number: u32) {
    let width = 1 << rng.random_range(0..3);
    let mut cell = number.to_le_bytes();
    if rng.random_bool(0.5) {
        cell[..width].reverse();
    }
    for (byte, new) in bytes.iter_mut().skip(at).zip(&cell[..width]) {
        *byte = *new;
    }
}
