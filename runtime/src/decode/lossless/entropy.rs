//! Huffman-coded differences of lossless JPEG (ISO/IEC 10918-1 H.1.2.2, C, F.2.2.3).

/// Bits that one look into the table decides: nearly every difference of 12-bit pictures, and the
/// table of 16 kB stays in the processor's nearest cache.
const LOOK: u32 = 12;

/// Longest code, bits (B.2.4.2).
const CODE_MAX: usize = 16;

/// Highest category of a difference (table H.2).
const CATEGORY_MAX: u8 = 16;

/// Zero bytes behind the coded ones, so that eight can be read at once up to the last.
const PADDING: usize = 8;

/// What the next bits mean, as far as [`LOOK`] of them tell.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// The difference, modulo 2^16, where `more` is 0.
    difference: u16,
    /// Bits of the code, and of the difference where `more` is 0; 0: the code is longer.
    bits: u8,
    /// Bits of the difference that stand behind the code and did not fit.
    more: u8,
}

/// A Huffman table.
pub(super) struct Table {
    entries: Vec<Entry>,
    /// For each length of a code: the first code behind those of this length, at the left of 16
    /// bits, and what to add to a code of this length for its place among the categories.
    limits: [(u32, i32); CODE_MAX + 1],
    categories: Vec<u8>,
}

impl Table {
    /// A table from the front of a DHT segment (B.2.4.2), and what follows it.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let short = || format!("expected a Huffman table, found {} bytes", bytes.len());
        let (counts, rest) = bytes.split_first_chunk::<CODE_MAX>().ok_or_else(short)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum();
        let (categories, rest) = rest.split_at_checked(total).ok_or_else(short)?;
        if let Some(found) = categories.iter().find(|&&category| category > CATEGORY_MAX) {
            return Err(format!("expected categories up to {CATEGORY_MAX}, found {found}"));
        }
        let mut table = Self {
            entries: vec![Entry::default(); 1 << LOOK],
            limits: [(0, 0); CODE_MAX + 1],
            categories: categories.to_vec(),
        };
        table.assign(counts)?;
        Ok((table, rest))
    }

    /// Gives every category its code: those of one length follow each other (C.2).
    fn assign(&mut self, counts: &[u8; CODE_MAX]) -> Result<(), String> {
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            let offset =
                i32::try_from(place).ok().zip(i32::try_from(code).ok()).map(|(p, c)| p - c);
            for _ in 0..count {
                if code >> length != 0 {
                    return Err("expected codes that fit their lengths, found more".into());
                }
                if length <= LOOK {
                    self.fill(code, length, self.categories[place]);
                }
                (code, place) = (code + 1, place + 1);
            }
            self.limits[length as usize] = (code << (16 - length), offset.unwrap_or(0));
            code <<= 1;
        }
        Ok(())
    }

    /// Writes what every look says that begins with this code.
    fn fill(&mut self, code: u32, length: u32, category: u8) {
        let behind = LOOK - length;
        let first = (code << behind) as usize;
        let extra = extra_bits(category);
        for (look, entry) in (0_u32..).zip(&mut self.entries[first..first + (1 << behind)]) {
            let (bits, more) = if extra <= behind {
                entry.difference = extended(look >> (behind - extra), category);
                (length + extra, 0)
            } else {
                (length, extra)
            };
            #[expect(clippy::cast_possible_truncation, reason = "at most 28")]
            {
                (entry.bits, entry.more) = (bits as u8, more as u8);
            }
        }
    }

    /// The next difference, modulo 2^16.
    #[inline]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> Result<u16, String> {
        bits.fill();
        let entry = self.entries[bits.look(LOOK) as usize];
        if entry.bits == 0 {
            return self.long(bits);
        }
        bits.skip(entry.bits.into());
        if entry.more == 0 { Ok(entry.difference) } else { Ok(bits.extended(entry.more)) }
    }

    /// A code that is longer than a look.
    #[cold]
    fn long(&self, bits: &mut Bits<'_>) -> Result<u16, String> {
        let look = bits.look(16);
        let lengths = (LOOK as usize + 1..=CODE_MAX).map(|length| (length, self.limits[length]));
        for (length, (limit, offset)) in lengths {
            if look < limit {
                let code = i32::try_from(look >> (CODE_MAX - length)).unwrap_or(i32::MAX);
                let place = usize::try_from(code + offset).ok();
                let category = place.and_then(|place| self.categories.get(place));
                let &category = category.ok_or("expected a code of the table, found another")?;
                bits.skip(u32::try_from(length).unwrap_or(0));
                return Ok(bits.extended(category));
            }
        }
        Err("expected a code of the table, found another".into())
    }
}

/// Bits that follow the code of a category: as many as it says, but none for the highest, which has
/// one difference only (H.1.2.2).
fn extra_bits(category: u8) -> u32 {
    if category == CATEGORY_MAX { 0 } else { category.into() }
}

/// The difference that the bits behind a code stand for (F.2.2.1 EXTEND; table H.2), modulo 2^16.
fn extended(bits: u32, category: u8) -> u16 {
    let value = match category {
        0 => 0,
        CATEGORY_MAX => 1 << 15,
        _ if bits >> (category - 1) == 0 => bits.wrapping_sub((1 << category) - 1),
        _ => bits,
    };
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^16")]
    let value = value as u16;
    value
}

/// Bits from the front of coded bytes; behind their end there are zeros, which [`Self::within`] tells.
pub(super) struct Bits<'a> {
    /// The coded bytes and [`PADDING`].
    bytes: &'a [u8],
    /// The next byte that is not in the buffer.
    at: usize,
    /// The next bits, from the left.
    buffer: u64,
    /// How many of them count.
    have: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, have: 0 }
    }

    /// Fills the buffer to 56 bits and more: a code and a difference have 32 at most.
    #[inline]
    fn fill(&mut self) {
        let next = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let word = next.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.buffer |= word >> self.have;
        let whole = (63 - self.have) >> 3;
        self.at += whole as usize;
        self.have += whole << 3;
    }

    #[inline]
    fn look(&self, bits: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits")]
        let look = (self.buffer >> (64 - bits)) as u32;
        look
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.have -= bits;
    }

    /// The difference of a category whose code was taken.
    #[inline]
    fn extended(&mut self, category: u8) -> u16 {
        let extra = extra_bits(category);
        // A shift by all 64 bits would be none.
        let bits = if extra == 0 { 0 } else { self.look(extra) };
        self.skip(extra);
        extended(bits, category)
    }

    /// Were all bits so far coded ones?
    pub(super) fn within(&self) -> Result<(), String> {
        let taken = 8 * self.at - self.have as usize;
        let coded = 8 * self.bytes.len().saturating_sub(PADDING);
        if taken <= coded {
            return Ok(());
        }
        Err(format!("expected samples for all rows, found the end after {coded} bits"))
    }
}

/// Takes the coded bytes up to the next marker from the front, without the zeros that were stuffed
/// in behind every FF (B.1.1.5), and pads them; a restart marker is taken too.
pub(super) fn unstuffed(coded: &mut &[u8], bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.reserve(coded.len() + PADDING);
    loop {
        let plain = coded.iter().position(|&byte| byte == 0xff).unwrap_or(coded.len());
        bytes.extend_from_slice(&coded[..plain]);
        *coded = &coded[plain..];
        match *coded {
            [0xff, 0, rest @ ..] => {
                bytes.push(0xff);
                *coded = rest;
            }
            [0xff, 0xff, ..] => *coded = &coded[1..],
            [0xff, 0xd0..=0xd7, rest @ ..] => {
                *coded = rest;
                break;
            }
            // Another marker, or the end.
            _ => break,
        }
    }
    bytes.extend([0; PADDING]);
}
