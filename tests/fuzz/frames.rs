//! Bytes to a frame that the decoder could have made: every parameter within its range, any value.

use clearfilm::decode::{Facts, Frame, Function, Grey, Lut, Modality, Voi, Window};

/// Most pixels of a frame: enough for the longest side that Rows and Columns can name.
pub(crate) const PIXELS_MAX: usize = 1 << 17;

/// Numbers taken from bytes; zero behind their end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Any finite number, as DS can write it (PS3.5 6.2): small ones more often.
    fn decimal(&mut self) -> f64 {
        if self.byte().is_multiple_of(4) {
            let bits = f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte())));
            return if bits.is_finite() { bits } else { f64::MAX };
        }
        f64::from(self.word().cast_signed()) / f64::from(1 << (self.byte() % 8))
    }

    /// Rows or Columns: at least one, sometimes as many as can be named.
    fn side(&mut self) -> usize {
        let most = [16, 200, 256, u16::MAX][usize::from(self.byte() % 4)];
        usize::from(self.word() % most) + 1
    }

    fn lut(&mut self) -> Lut {
        let bits = 8 + u16::from(self.byte() % 9);
        let count = usize::from(self.word() % 300) + 1;
        let first = self.word();
        let first = if self.byte().is_multiple_of(2) {
            i32::from(first)
        } else {
            i32::from(first.cast_signed())
        };
        let entries = (0..count).map(|_| self.word() & (u16::MAX >> (16 - bits))).collect();
        Lut { first, bits, entries }
    }

    fn modality(&mut self) -> Modality {
        if self.byte().is_multiple_of(4) {
            return Modality::Lut(self.lut());
        }
        let slope = Some(self.decimal()).filter(|s| s.abs() >= f64::MIN_POSITIVE);
        Modality::Rescale { slope: slope.unwrap_or(1.0), intercept: self.decimal() }
    }

    fn voi(&mut self) -> Voi {
        let function = match self.byte() % 6 {
            0 => return Voi::FullRange,
            1 => return Voi::Lut(self.lut()),
            2 => Function::Sigmoid,
            3 => Function::LinearExact,
            _ => Function::Linear,
        };
        let (center, width) = (self.decimal(), self.decimal().abs());
        let allowed = if function == Function::Linear { width >= 1.0 } else { width > 0.0 };
        if allowed { Voi::Window(Window { center, width, function }) } else { Voi::FullRange }
    }
}

/// The frame that bytes stand for.
pub(crate) fn drawn(bytes: &[u8]) -> Frame {
    let mut from = Source(bytes);
    let rows = from.side();
    let columns = from.side().min(PIXELS_MAX / rows).max(1);
    let (bits, kind) = (u32::from(from.byte() % 16) + 1, from.byte());
    let signed = kind & 1 == 1;
    let grey = Grey {
        bits_stored: u16::try_from(bits).unwrap_or(16),
        signed,
        modality: from.modality(),
        voi: from.voi(),
        inverted: kind & 2 == 2,
    };
    // What is left is repeated over the picture; shifted up and down again it has its sign.
    let left: &[u8] = if from.0.is_empty() { &[0, 77, 150, 255] } else { from.0 };
    let stored = |pair: (&u8, &u8)| {
        let cell = u16::from_le_bytes([*pair.0, *pair.1]) << (16 - bits);
        if signed {
            (cell.cast_signed() >> (16 - bits)).cast_unsigned()
        } else {
            cell >> (16 - bits)
        }
    };
    let pairs = left.iter().cycle().zip(left.iter().cycle().skip(1));
    let words = pairs.take(rows * columns).map(stored).collect();
    Frame { rows, columns, words, grey, facts: Facts::default() }
}

/// What tells one frame from another.
pub(crate) fn kind(frame: &Frame) -> String {
    let grey = &frame.grey;
    let modality = match &grey.modality {
        Modality::Rescale { slope, .. } if *slope < 0.0 => "falling",
        Modality::Rescale { .. } => "rising",
        Modality::Lut(_) => "table",
    };
    let voi = match &grey.voi {
        Voi::FullRange => "full".into(),
        Voi::Window(window) => format!("{:?}", window.function),
        Voi::Lut(_) => "table".into(),
    };
    let sides = [frame.rows.ilog2(), frame.columns.ilog2()];
    format!("{modality} {voi} {} {} {sides:?}", grey.bits_stored, grey.signed)
}

/// Frames of a few pixels and of a size that is read.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |size: u8, bits: u8, modality: u8, voi: u8| {
        let sides = [size, 190, 0, size, 160, 0, bits - 1, 0];
        let decimals = |numbers: [i16; 2]| {
            numbers.map(|n| [&[1], n.to_le_bytes().as_slice(), &[0]].concat()).concat()
        };
        let values: Vec<u8> = (0..=u8::MAX).rev().collect();
        let modality = [vec![modality], decimals([1, -100])].concat();
        [&sides[..], &modality, &[voi], &decimals([900, 1800]), &values].concat()
    };
    let kinds = (0..2).flat_map(|modality| (0..6).map(move |voi| (modality, voi)));
    kinds.flat_map(|(m, v)| [seed(0, 8, m, v), seed(1, 12, m, v), seed(1, 16, m, v)]).collect()
}
