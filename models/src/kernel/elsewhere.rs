//! In the place of the scan in bf16 on CPUs for which there is none: it says so, and tells nobody
//! apart.

use super::{Floor, Reached, Rows};

/// Does this CPU have what is needed? No.
#[must_use]
pub fn runs_here() -> bool {
    false
}

/// Asks for values before they are needed; the CPU does so by itself.
#[inline]
pub fn fetch(_values: &[f32]) {}

/// An encoder in bf16; never one that was packed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panels {
    d: usize,
}

/// The state of one task's scan: none.
#[derive(Debug, Default)]
pub struct Scan;

impl Panels {
    /// Packs nothing: the CPU cannot scan.
    #[must_use]
    pub fn pack(&mut self, rows: Rows<'_>, _bias: &[f32]) -> bool {
        self.d = rows.length;
        false
    }

    /// Says of each of the samples `[n, d]` that anybody may reach the floor; gives how many.
    pub fn scan(
        &self,
        samples: &[f32],
        _floor: Floor,
        _scan: &mut Scan,
        mut each: impl FnMut(usize, Reached<'_>),
    ) -> usize {
        let count = samples.len().checked_div(self.d).unwrap_or(0);
        (0..count).for_each(|sample| each(sample, Reached::Any));
        count
    }
}
