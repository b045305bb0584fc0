//! RLE (PS3.5 annex G): each byte of a sample is a segment of its own, packed in runs.

/// Bytes of the header in front of the segments (G.5).
const HEADER: usize = 64;

/// The most segments that a header has room for (G.5).
const SEGMENTS_MAX: usize = 15;

/// The planes of one frame, the most significant byte first (G.2), each of `length` bytes.
pub(super) fn planes(frame: &[u8], count: usize, length: usize) -> Result<Vec<Vec<u8>>, String> {
    let header: &[u8; HEADER] = frame
        .first_chunk()
        .ok_or_else(|| format!("expected a header of {HEADER} bytes, found {}", frame.len()))?;
    let mut numbers = header.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let found = numbers.next().unwrap_or(0);
    if found != count || found > SEGMENTS_MAX {
        return Err(format!("expected {count} RLE segments, found {found}"));
    }
    let starts: Vec<usize> = numbers.take(count).collect();
    let ends = starts[1..].iter().copied().chain([frame.len()]);
    let segments = starts.iter().zip(ends).map(|(&start, end)| {
        let within = start >= HEADER;
        within.then(|| frame.get(start..end)).flatten().ok_or_else(|| {
            format!("expected a segment within {} bytes, found {start} to {end}", frame.len())
        })
    });
    segments.map(|segment| plane(segment?, length)).collect()
}

/// One segment, unpacked (G.3.2). What follows behind the last byte is padding.
fn plane(mut packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let short = || format!("expected a segment of {length} bytes, found {}", bytes.len());
        let (&count, rest) = packed.split_first().ok_or_else(short)?;
        let room = length - bytes.len();
        match count {
            // As many bytes as they are, and one more.
            0..=127 => {
                let run = usize::from(count) + 1;
                let (literal, rest) = rest.split_at_checked(run).ok_or_else(short)?;
                bytes.extend_from_slice(&literal[..run.min(room)]);
                packed = rest;
            }
            128 => packed = rest,
            // The next byte, 257 - count times.
            129..=255 => {
                let (&value, rest) = rest.split_first().ok_or_else(short)?;
                bytes.resize(bytes.len() + (257 - usize::from(count)).min(room), value);
                packed = rest;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(starts: &[u32], packed: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(starts.len()).expect("few").to_le_bytes().to_vec();
        frame.extend(starts.iter().flat_map(|start| start.to_le_bytes()));
        frame.resize(HEADER, 0);
        [&frame, packed].concat()
    }

    #[test]
    fn runs_of_both_kinds_are_unpacked_and_the_header_says_where_planes_begin() {
        // Two literal bytes, nothing, three times 9; padding. Then five literal bytes.
        let packed = [1, 7, 8, 128, 254, 9, 0, 0, 4, 1, 2, 3, 4, 5];
        let found = planes(&frame(&[64, 72], &packed), 2, 5).expect("whole");
        assert_eq!(found, [[7, 8, 9, 9, 9], [1, 2, 3, 4, 5]]);
    }

    #[test]
    fn a_run_beyond_the_last_sample_is_cut() {
        assert_eq!(planes(&frame(&[64], &[129, 3]), 1, 2).expect("whole"), [[3, 3]]);
        assert_eq!(planes(&frame(&[64], &[2, 3, 4, 5]), 1, 2).expect("whole"), [[3, 4]]);
    }

    #[test]
    fn segments_that_are_short_or_elsewhere_are_refused() {
        for (starts, packed) in [
            (&[64_u32][..], &[0, 7][..]),
            (&[64], &[1, 7]),
            (&[64], &[255]),
            (&[64], &[]),
            (&[63], &[1, 7, 8]),
            (&[68], &[1, 7, 8]),
            (&[64, 64], &[1, 7, 8]),
            (&[], &[1, 7, 8]),
        ] {
            assert!(planes(&frame(starts, packed), 1, 2).is_err(), "{starts:?} {packed:?}");
        }
        assert!(planes(&frame(&[66, 64], &[1, 7, 8]), 2, 2).is_err(), "segments out of order");
        assert!(planes(&[0; 63], 1, 2).is_err(), "no header");
        assert!(planes(&frame(&[64; 15], &[]), 0, 0).is_err());
    }
}
