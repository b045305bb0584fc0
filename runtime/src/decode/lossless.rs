//! JPEG lossless, process 14 (ISO/IEC 10918-1 annex H), of one component.
//!
//! Every sample is predicted from its neighbours, and the Huffman-coded difference is added. The
//! crate for the other JPEGs reads this process too, but takes three times as long as DCMTK.

mod entropy;
#[cfg(test)]
mod tests;

use entropy::{Bits, Table};

/// Selects how a sample is predicted (table H.1): from the one at its left, the one above it and
/// the one above that at its left.
#[derive(Clone, Copy)]
struct Selection(u8);

/// What the segments before the scan say.
#[derive(Default)]
struct Header {
    /// Bits of a sample, rows and columns (SOF3, B.2.2).
    frame: Option<(u32, usize, usize)>,
    /// Huffman tables by destination (DHT, B.2.4.2).
    tables: [Option<Table>; 4],
    /// Samples from restart marker to restart marker; 0: there are none (DRI, B.2.4.4).
    restart: usize,
}

/// What the scan's own header says (SOS, B.2.3).
struct Scan {
    table: usize,
    selection: Selection,
    /// Bits that were taken off at the right before coding.
    point_transform: u32,
}

/// The samples of a stream of `expected` rows and columns.
pub(super) fn decode(stream: &[u8], expected: (usize, usize)) -> Result<Vec<u16>, String> {
    let mut rest = stream.strip_prefix(&[0xff, 0xd8]).ok_or("expected a JPEG, found no SOI")?;
    let mut header = Header::default();
    loop {
        let (marker, body) = segment(&mut rest).ok_or("expected a segment, found the end")?;
        match marker {
            0xc3 if header.frame.is_none() => header.frame = Some(frame(body)?),
            0xc4 => tables(body, &mut header.tables)?,
            0xdd => {
                let interval = body.first_chunk().ok_or("expected a restart interval")?;
                header.restart = u16::from_be_bytes(*interval).into();
            }
            0xda => return header.samples(&scan(body)?, rest, expected),
            // Every other process, and what has no place before a scan.
            0xc0..=0xcf | 0xd0..=0xd9 | 0xdc | 0xde | 0xdf => {
                return Err(format!(
                    "expected a lossless JPEG of one frame, found marker {marker:#x}"
                ));
            }
            _ => {}
        }
    }
}

/// Takes one marker segment (B.1.1.4) from the front: its marker and what follows its length.
fn segment<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let mut bytes = rest.strip_prefix(&[0xff])?;
    // B.1.1.2: any number of fill bytes may stand before a marker.
    while let Some(behind) = bytes.strip_prefix(&[0xff]) {
        bytes = behind;
    }
    let (&marker, bytes) = bytes.split_first()?;
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    let body = bytes.get(2..length)?;
    *rest = &bytes[length..];
    Some((marker, body))
}

fn frame(body: &[u8]) -> Result<(u32, usize, usize), String> {
    let [precision, y0, y1, x0, x1, components, ..] = *body else {
        return Err(format!("expected a frame header, found {} bytes", body.len()));
    };
    if components != 1 || !(2..=16).contains(&precision) {
        return Err(format!(
            "expected one component of 2 to 16 bits, found {components} of {precision}"
        ));
    }
    let side = |bytes| usize::from(u16::from_be_bytes(bytes));
    Ok((precision.into(), side([y0, y1]), side([x0, x1])))
}

fn tables(mut body: &[u8], tables: &mut [Option<Table>; 4]) -> Result<(), String> {
    while let Some((&place, rest)) = body.split_first() {
        // Class 0: the only one that the lossless process has.
        let slot = tables.get_mut(usize::from(place)).ok_or_else(|| {
            format!("expected a Huffman table of class 0 for place 0 to 3, found {place:#x}")
        })?;
        let (table, rest) = Table::read(rest)?;
        *slot = Some(table);
        body = rest;
    }
    Ok(())
}

fn scan(body: &[u8]) -> Result<Scan, String> {
    let [1, _component, place, selection, _, approximation] = *body else {
        return Err(format!("expected a scan of one component, found {} bytes", body.len()));
    };
    if !(1..=7).contains(&selection) {
        return Err(format!("expected a predictor of 1 to 7, found {selection}"));
    }
    Ok(Scan {
        table: usize::from(place >> 4),
        selection: Selection(selection),
        point_transform: u32::from(approximation & 15),
    })
}

impl Header {
    fn samples(
        &self,
        scan: &Scan,
        mut coded: &[u8],
        expected: (usize, usize),
    ) -> Result<Vec<u16>, String> {
        let (precision, rows, columns) = self.frame.ok_or("expected a frame header, found none")?;
        if (rows, columns) != expected || rows * columns == 0 {
            return Err(format!("expected {expected:?} rows and columns, found {rows}, {columns}"));
        }
        let table = self.tables.get(scan.table).and_then(Option::as_ref);
        let table =
            table.ok_or_else(|| format!("expected Huffman table {}, found none", scan.table))?;
        if scan.point_transform >= precision {
            let found = scan.point_transform;
            return Err(format!("expected a point transform below {precision}, found {found}"));
        }
        // H.1.1: a restart interval is a whole number of rows.
        let lines = match self.restart {
            0 => rows,
            restart if restart.is_multiple_of(columns) => restart / columns,
            restart => return Err(format!("expected a restart at whole rows, found at {restart}")),
        };
        // H.1.2.1: what a scan and every restart begin with.
        let first = 1 << (precision - scan.point_transform - 1);
        let mut samples = vec![0; rows * columns];
        let mut buffer = Vec::new();
        for interval in samples.chunks_mut(lines * columns) {
            entropy::unstuffed(&mut coded, &mut buffer);
            let mut bits = Bits::new(&buffer);
            scan.selection.interval(&mut bits, table, first, columns, interval)?;
        }
        if scan.point_transform > 0 {
            samples.iter_mut().for_each(|sample| *sample <<= scan.point_transform);
        }
        Ok(samples)
    }
}

impl Selection {
    /// The rows from one restart to the next.
    fn interval(
        self,
        bits: &mut Bits<'_>,
        table: &Table,
        first: u16,
        columns: usize,
        samples: &mut [u16],
    ) -> Result<(), String> {
        let mut lines = samples.chunks_exact_mut(columns);
        let Some(mut above) = lines.next() else { return Ok(()) };
        // H.1.2.1: the first row is predicted from the left, whatever is selected.
        let mut left = first;
        for sample in above.iter_mut() {
            left = left.wrapping_add(table.difference(bits)?);
            *sample = left;
        }
        for line in lines {
            match self.0 {
                1 => row(bits, table, above, line, |a, _, _| a),
                2 => row(bits, table, above, line, |_, b, _| b),
                3 => row(bits, table, above, line, |_, _, c| c),
                4 => row(bits, table, above, line, |a, b, c| a + b - c),
                5 => row(bits, table, above, line, |a, b, c| a + ((b - c) >> 1)),
                6 => row(bits, table, above, line, |a, b, c| b + ((a - c) >> 1)),
                _ => row(bits, table, above, line, |a, b, _| (a + b) >> 1),
            }?;
            bits.within()?;
            above = line;
        }
        bits.within()
    }
}

/// One row; `predict` is given the samples at the left (a), above (b), and above at the left (c).
fn row(
    bits: &mut Bits<'_>,
    table: &Table,
    above: &[u16],
    line: &mut [u16],
    predict: impl Fn(i32, i32, i32) -> i32,
) -> Result<(), String> {
    // H.1.2.1: the first sample of a row is predicted from above. So is what stands at the left of
    // it to the loop: with a = b = c every predictor gives the sample above.
    let mut left = above.first().copied().unwrap_or(0);
    let mut above_left = left;
    for (sample, &above) in line.iter_mut().zip(above) {
        let predicted = predict(left.into(), above.into(), above_left.into());
        // H.1.2.1: modulo 2^16.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^16")]
        let value = (predicted as u16).wrapping_add(table.difference(bits)?);
        *sample = value;
        (left, above_left) = (value, above);
    }
    Ok(())
}
