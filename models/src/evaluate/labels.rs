//! What is known of images: labels, and whose they are.

use std::collections::BTreeMap;

use rand::seq::SliceRandom as _;

use crate::start::{Stream, numbers};

/// Labels that are counted beside each other: one register of 16 numbers (AVX-512).
pub const LANES: usize = 16;

/// What one label says of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is there.
    Positive,
    /// It is not.
    Negative,
    /// Nobody knows; the image does not count for this label.
    Unknown,
}

/// Labels of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// By column.
    pub names: Vec<String>,
    /// `[n, names]`.
    marks: Vec<Mark>,
}

/// [`LANES`] labels of every image, as numbers that can be added.
#[derive(Debug, Clone, PartialEq)]
pub struct Lanes {
    /// `[n]`, 1 where the label is positive.
    pub positive: Vec<[u8; LANES]>,
    /// `[n]`, 1 where it is negative.
    pub negative: Vec<[u8; LANES]>,
}

impl Labels {
    /// Of columns, each as long as there are images.
    #[must_use]
    pub fn of(columns: Vec<(String, Vec<Mark>)>) -> Self {
        let n = columns.first().map_or(0, |(_, marks)| marks.len());
        let marks = (0..n).flat_map(|row| columns.iter().map(move |(_, marks)| marks[row]));
        Self { marks: marks.collect(), names: columns.into_iter().map(|(name, _)| name).collect() }
    }

    /// The same, after each patient took the labels of another one, image by image; where that one
    /// has fewer images, its first ones again.
    #[must_use]
    pub fn shuffled(&self, patients: &[u32], seed: u64) -> Self {
        let mut images: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, patient) in patients.iter().enumerate() {
            images.entry(*patient).or_default().push(row);
        }
        let mut givers: Vec<&Vec<usize>> = images.values().collect();
        givers.shuffle(&mut numbers(seed, Stream::Labels(0)));
        let mut from = vec![0; self.samples()];
        for (own, theirs) in images.values().zip(givers) {
            own.iter().zip(theirs.iter().cycle()).for_each(|(to, giver)| from[*to] = *giver);
        }
        let width = self.names.len();
        let marks = from.iter().flat_map(|row| &self.marks[row * width..][..width]);
        Self { names: self.names.clone(), marks: marks.copied().collect() }
    }

    /// How many images they are of.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.marks.len() / self.names.len().max(1)
    }

    /// What a label says of an image.
    #[must_use]
    pub fn mark(&self, sample: usize, label: usize) -> Mark {
        self.marks[sample * self.names.len() + label]
    }

    /// One label of every image.
    #[must_use]
    pub fn column(&self, label: usize) -> Vec<Mark> {
        (0..self.samples()).map(|sample| self.mark(sample, label)).collect()
    }

    /// How many images are positive, and how many negative.
    #[must_use]
    pub fn counts(&self, label: usize) -> [usize; 2] {
        let of = |mark| (0..self.samples()).filter(|i| self.mark(*i, label) == mark).count();
        [of(Mark::Positive), of(Mark::Negative)]
    }

    /// Where each image takes the marks of the image that `from` names.
    #[must_use]
    pub fn moved(&self, from: &[usize]) -> Self {
        let width = self.names.len();
        let marks = from.iter().flat_map(|at| &self.marks[at * width..][..width]);
        Self { names: self.names.clone(), marks: marks.copied().collect() }
    }

    /// All labels in groups of [`LANES`], the last filled up with what nobody knows.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lanes> {
        let groups = (0..self.names.len()).step_by(LANES);
        groups
            .map(|first| {
                let lanes_of = |wanted: Mark| {
                    let one = |sample: usize| {
                        std::array::from_fn(|lane| {
                            let label = first + lane;
                            let known = label < self.names.len();
                            u8::from(known && self.mark(sample, label) == wanted)
                        })
                    };
                    (0..self.samples()).map(one).collect()
                };
                Lanes { positive: lanes_of(Mark::Positive), negative: lanes_of(Mark::Negative) }
            })
            .collect()
    }

    /// MedSAE's balanced subset (its code, `get_chexpert5x200`): an image is taken, in order,
    /// when it has a positive label and none of its positive labels has `most` images yet.
    #[must_use]
    pub fn balanced(&self, most: usize) -> Vec<usize> {
        let mut taken = vec![0; self.names.len()];
        let mut kept = Vec::new();
        for sample in 0..self.samples() {
            let positive = |label: &usize| self.mark(sample, *label) == Mark::Positive;
            let positives: Vec<usize> = (0..self.names.len()).filter(positive).collect();
            if !positives.is_empty() && positives.iter().all(|label| taken[*label] < most) {
                positives.iter().for_each(|label| taken[*label] += 1);
                kept.push(sample);
            }
        }
        kept
    }
}

impl Lanes {
    /// Where each image takes the labels of the image that `from` names.
    #[must_use]
    pub fn moved(&self, from: &[u32]) -> Self {
        let moved = |lanes: &[[u8; LANES]]| from.iter().map(|at| lanes[*at as usize]).collect();
        Self { positive: moved(&self.positive), negative: moved(&self.negative) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balanced_subset_takes_no_label_beyond_its_share() {
        let mark = |c| if c == '1' { Mark::Positive } else { Mark::Negative };
        let column = |name: &str, of: &str| (name.to_owned(), of.chars().map(mark).collect());
        let labels = Labels::of(vec![column("a", "110100"), column("b", "010011")]);
        // Image 2 has none; image 3 would be the third "a".
        assert_eq!(labels.balanced(2), [0, 1, 4]);
    }

    #[test]
    fn shuffled_labels_come_to_a_patient_from_one_other() {
        // Each image says by its marks whose it is: 1 + patient, in bits.
        let patients: [u32; 7] = [0, 1, 1, 1, 2, 2, 3];
        let bit = |at: u32| {
            let one = |p: &u32| ((p + 1) >> at) & 1 == 1;
            let mark = |p| if one(p) { Mark::Positive } else { Mark::Negative };
            (at.to_string(), patients.iter().map(mark).collect())
        };
        let labels = Labels::of((0..3).map(bit).collect());
        let giver = |shuffled: &Labels, image: usize| -> usize {
            let bits = (0..3).filter(|at| shuffled.mark(image, *at) == Mark::Positive);
            bits.map(|at| 1 << at).sum::<usize>() - 1
        };
        let mut moved = false;
        for seed in 0..20 {
            let shuffled = labels.shuffled(&patients, seed);
            let from: Vec<usize> = (0..7).map(|image| giver(&shuffled, image)).collect();
            assert!(from[1] == from[2] && from[2] == from[3] && from[4] == from[5], "{from:?}");
            let mut all = [from[0], from[1], from[4], from[6]];
            moved |= all != [0, 1, 2, 3];
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3], "each gives once");
        }
        assert!(moved);
    }
}
