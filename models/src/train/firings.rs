//! Which latents fire on which sample, by sample and by latent.

/// One latent that fires on one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Firing {
    /// Which.
    pub latent: u32,
    /// What it is decoded with.
    pub value: f32,
    /// Derivative of the loss by `w_enc . (x - b_dec)`; 0 until it is known.
    pub gain: f32,
    /// `w_enc . (x - b_dec)`, without any bias.
    pub z: f32,
}

/// The firings of some samples that follow each other, by rising latent in each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// Where each sample's firings end.
    pub ends: Vec<usize>,
    /// All of them.
    pub firings: Vec<Firing>,
}

impl Part {
    /// The firings of each sample, in their order.
    pub(super) fn samples_mut(&mut self) -> impl Iterator<Item = &mut [Firing]> {
        let mut rest = self.firings.as_mut_slice();
        let mut begun = 0;
        self.ends.iter().map(move |&end| {
            let (sample, behind) = std::mem::take(&mut rest).split_at_mut(end - begun);
            (rest, begun) = (behind, end);
            sample
        })
    }

    /// The same, to be looked at.
    pub fn samples(&self) -> impl Iterator<Item = &[Firing]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| &self.firings[begin..end])
    }
}

/// One sample on which a latent fires.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct At {
    /// Which sample of the batch.
    pub(super) sample: u32,
    /// As in [`Firing`].
    pub(super) value: f32,
    /// As in [`Firing`].
    pub(super) gain: f32,
    /// As in [`Firing`].
    pub(super) z: f32,
}

/// The firings of a batch by latent, by rising sample in each.
#[derive(Debug, Clone, Default)]
pub(super) struct ByLatent {
    /// Where each latent's begin, and where the last one's end: `[latents + 1]`.
    starts: Vec<usize>,
    entries: Vec<At>,
}

impl ByLatent {
    /// Turns the firings of a batch around.
    #[must_use]
    pub(super) fn of(parts: &[Part], latents: usize) -> Self {
        let mut starts = vec![0; latents + 1];
        for firing in parts.iter().flat_map(|part| &part.firings) {
            starts[firing.latent as usize + 1] += 1;
        }
        for latent in 0..latents {
            starts[latent + 1] += starts[latent];
        }
        let mut next = starts.clone();
        let mut entries = vec![At::default(); starts[latents]];
        for (sample, firings) in (0_u32..).zip(parts.iter().flat_map(Part::samples)) {
            for &Firing { latent, value, gain, z } in firings {
                let at = &mut next[latent as usize];
                entries[*at] = At { sample, value, gain, z };
                *at += 1;
            }
        }
        Self { starts, entries }
    }

    /// Where one latent fires; nowhere if nothing was turned around.
    #[must_use]
    pub(super) fn latent(&self, latent: usize) -> &[At] {
        match self.starts.get(latent..latent + 2) {
            Some(&[begin, end]) => &self.entries[begin..end],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firing(latent: u32, value: f32) -> Firing {
        Firing { latent, value, gain: 0.0, z: value }
    }

    #[test]
    fn firings_by_latent_are_those_by_sample_turned_around() {
        let parts = [
            Part { ends: vec![2, 2], firings: vec![firing(0, 1.0), firing(3, 2.0)] },
            Part { ends: vec![1], firings: vec![firing(3, 4.0)] },
        ];
        let turned = ByLatent::of(&parts, 4);
        let of = |latent| {
            turned.latent(latent).iter().map(|at| (at.sample, at.value)).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [(0, 1.0)]);
        assert_eq!(of(1), []);
        assert_eq!(of(3), [(0, 2.0), (2, 4.0)]);
    }
}
