//! One dictionary, measured.

use clearfilm::bundle::Sae;
use serde::Serialize;

use super::absorb::{Absorption, Asked, Family, absorption, families};
use super::alignment::{Firing, Information, Parity, firings, information};
use super::auroc::{Agreement, agreements};
use super::bootstrap::Estimate;
use super::ground::{Ground, Sets};
use super::images::Images;
use super::labels::Mark;
use super::monosemantic::{Monosemanticity, monosemanticity};
use super::permute::{Chance, chances};
use super::plan::Plan;
use super::probes::Single;
use super::readout::{Difference, Reader, Readout};
use super::reconstruct::{Reconstruction, mean, reconstruction, reconstructions};
use super::sparsity::{Sparsity, sparsity};
use super::stable::{Redundancy, Stability, redundancy, stability};
use crate::codes::Codes;

/// Features among which families are looked for: the most frequent ones that are not dense.
const FAMILIES: usize = 512;

/// Chance of any mistake among all pairs, below which a pair counts as found.
pub const FAMILY: f64 = 0.05;

/// Features of the map, at most: what a page holds.
const MAPPED: usize = 24;

/// Features and their AUROC with each label.
type Map = Vec<(usize, Vec<Option<f64>>)>;

/// What one dictionary comes to.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub note: String,
    /// Latents.
    pub latents: usize,
    /// Which of the evaluation's grounds its embeddings are.
    pub ground: usize,
    /// On training and on test images.
    pub reconstruction: [Reconstruction; 2],
    /// Share of the test images' variance that as many principal components leave as features
    /// are active in the mean.
    pub components_fvu: f64,
    /// On training and on test images.
    pub sparsity: [Sparsity; 2],
    /// Who judged monosemanticity.
    pub judge: String,
    /// On the test images.
    pub monosemanticity: Monosemanticity,
    /// MedSAE's figures, for each set of labels.
    pub parity: Vec<Parity>,
    /// MedSAE's best probes of one feature, for each label of the last set.
    pub singles: Vec<Option<Single>>,
    /// Features that fire for a label, by F1.
    pub firings: Vec<Firing>,
    /// Features and labels that go together beyond chance, and how they do on test images.
    pub found: Vec<Found>,
    /// Pairs of feature and label that were held against chance.
    pub pairs: usize,
    /// Those of them that are beyond it, by [`FAMILY`].
    pub beyond: usize,
    /// The features that were found, and their AUROC with each label on test images.
    pub map: Vec<(usize, Vec<Option<f64>>)>,
    /// Readouts of a few features.
    pub readouts: Vec<Readout>,
    /// Readouts beside what needs no dictionary.
    pub differences: Vec<Difference>,
    /// What readouts of the embedding lose on its reconstruction.
    pub downstream: Vec<Difference>,
    /// Absorption, by label.
    pub absorption: Vec<(String, Absorption)>,
    /// Features that hardly fire alone.
    pub families: Vec<Family>,
    /// How alike the rows are.
    pub redundancy: Redundancy,
    /// Beside other seeds, where there are any.
    pub stability: Option<Stability>,
    /// Feature by feature.
    pub features: Vec<Feature>,
}

/// A feature and a label that go together in the images where they were matched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Which.
    pub feature: usize,
    /// With what.
    pub label: String,
    /// Beside chance.
    pub chance: Chance,
    /// Where they were matched.
    pub find: Agreement,
    /// On test images; none where they have only one kind.
    pub test: Option<Agreement>,
    /// The AUROC there.
    pub test_auroc: Option<Estimate>,
}

/// One feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Feature {
    /// Share of the training images on which it fires.
    pub train_rate: f64,
    /// Share of the test images.
    pub test_rate: f64,
    /// Above chance.
    pub monosemanticity_lift: Option<f64>,
    /// What its firings say about labels, on test images.
    pub information: Option<Information>,
    /// Share of the other seeds that find it too.
    pub stable: Option<f64>,
}

/// Everything that one dictionary is measured with.
pub(super) struct Bench<'a> {
    pub(super) images: &'a Images,
    pub(super) reader: &'a Reader<'a>,
    pub(super) sets: &'a Sets,
    pub(super) ground: &'a Ground,
    pub(super) plan: &'a Plan,
    /// Who judges monosemanticity: a name, embeddings of the test images, and their width.
    pub(super) judge: (String, Vec<f32>, usize),
}

impl Bench<'_> {
    /// Measures a dictionary, beside others of its recipe.
    pub(super) fn measure(&self, sae: &Sae, seeds: &[Sae]) -> Measured {
        let images = self.images;
        let codes = Codes::of(sae, &images.embeddings);
        let [train, test] = [&images.train, &images.test].map(|rows| codes.only(rows));
        let reconstructed = reconstructions(sae, &codes);
        let sparsity = [sparsity(&train), sparsity(&test)];
        let (judge, embeddings, width) = &self.judge;
        let patients = images.patients_of(&images.test);
        let monosemanticity = monosemanticity(&test, embeddings, *width, &patients);
        let readouts = self.reader.sparse("features", &codes);
        let (found, [pairs, beyond], map) = self.found(&codes);
        let stability = (!seeds.is_empty()).then(|| self.stability(sae, &test, seeds));
        let information = information(&test, &images.labels.moved(&images.test));
        let features = (0..codes.features()).map(|feature| Feature {
            train_rate: sparsity[0].rates[feature],
            test_rate: sparsity[1].rates[feature],
            monosemanticity_lift: monosemanticity.scores[feature].lift,
            information: information[feature],
            stable: stability.as_ref().map(|stability| stability.found[feature]),
        });
        let by_image = codes.by_sample();
        Measured {
            name: String::new(),
            note: String::new(),
            ground: 0,
            latents: codes.features(),
            reconstruction: self.reconstruction(&reconstructed),
            components_fvu: self.components_fvu(sparsity[1].l0[0]),
            judge: judge.clone(),
            parity: self.sets.parity(&codes),
            singles: self.sets.singles(&codes, self.plan.probing.seed),
            firings: self.firings(&test),
            found,
            pairs,
            beyond,
            map,
            differences: self.differences(&readouts),
            downstream: self.downstream(&reconstructed),
            absorption: self.absorption(sae, &by_image, &readouts),
            families: self.families(&by_image, &sparsity[0]),
            redundancy: redundancy(&sae.w_dec),
            features: features.collect(),
            monosemanticity,
            readouts,
            stability,
            sparsity,
        }
    }

    fn reconstruction(&self, reconstructed: &[f32]) -> [Reconstruction; 2] {
        let (images, d) = (self.images, self.images.d);
        let mean = mean(&images.embeddings_of(&images.train), d);
        [&images.train, &images.test].map(|rows| {
            let of = |all: &[f32]| -> Vec<f32> {
                rows.iter().flat_map(|row| &all[row * d..][..d]).copied().collect()
            };
            reconstruction(&of(&images.embeddings), &of(reconstructed), &mean)
        })
    }

    /// What as many components leave as features are active.
    fn components_fvu(&self, l0: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0")]
        let at = l0.round() as usize;
        let left = &self.ground.components;
        left.get(at).or(left.last()).copied().unwrap_or(f64::NAN)
    }

    /// Pairs beyond chance where they are matched, first those that chance explains least.
    fn found(&self, codes: &Codes) -> (Vec<Found>, [usize; 2], Map) {
        let images = self.images;
        let find = codes.only(&images.find);
        let labels = images.labels.moved(&images.find);
        let blocks = images.blocks_of(&images.find);
        let chances = chances(&find, &labels, &blocks, &self.plan.permutations);
        let here = agreements(&find, &labels);
        let there = agreements(&codes.only(&images.test), &images.labels.moved(&images.test));
        let mut pairs = Vec::new();
        for (feature, row) in chances.iter().enumerate() {
            for (label, chance) in row.iter().enumerate() {
                if let (Some(chance), Some(find)) = (chance, here[feature][label]) {
                    pairs.push((feature, label, *chance, find));
                }
            }
        }
        let beyond = pairs.iter().filter(|pair| pair.2.p_family < FAMILY).count();
        let asked = [pairs.len(), beyond];
        pairs.sort_by(|a, b| b.2.z.abs().total_cmp(&a.2.z.abs()).then((a.0, a.1).cmp(&(b.0, b.1))));
        pairs.truncate(self.plan.lines);
        let found: Vec<Found> = pairs
            .into_iter()
            .map(|(feature, label, chance, find)| {
                let values: Vec<f64> =
                    codes.spread(feature).iter().map(|v| f64::from(*v)).collect();
                Found {
                    feature,
                    label: labels.names[label].clone(),
                    chance,
                    find,
                    test: there[feature][label],
                    test_auroc: self.reader.auroc(label, &values),
                }
            })
            .collect();
        let mut shown: Vec<usize> = Vec::new();
        for pair in &found {
            if shown.len() < MAPPED && !shown.contains(&pair.feature) {
                shown.push(pair.feature);
            }
        }
        let row = |feature: usize| {
            (feature, there[feature].iter().map(|a| Some(a.as_ref()?.auroc)).collect())
        };
        (found, asked, shown.into_iter().map(row).collect())
    }

    fn firings(&self, test: &Codes) -> Vec<Firing> {
        let labels = self.images.labels.moved(&self.images.test);
        let mut found = firings(test, &labels, 5);
        found.sort_by(|a, b| {
            b.f1.total_cmp(&a.f1).then((a.feature, a.label).cmp(&(b.feature, b.label)))
        });
        found.truncate(self.plan.lines);
        found
    }

    /// Each sparse readout beside acquisition, grey values, and as many dimensions or components.
    fn differences(&self, readouts: &[Readout]) -> Vec<Difference> {
        let rivals = |own: &Readout| {
            let (label, size) = (own.label.clone(), own.size);
            self.ground.readouts.iter().filter(move |rival| {
                rival.label == label && (rival.size == size || rival.size == 0)
            })
        };
        readouts
            .iter()
            .flat_map(|own| rivals(own).map(|rival| self.reader.difference(own, rival)))
            .collect()
    }

    /// What the embedding's own readouts are given the reconstruction in its place.
    fn downstream(&self, reconstructed: &[f32]) -> Vec<Difference> {
        let rows: Vec<f64> = reconstructed.iter().map(|x| f64::from(*x)).collect();
        let kept = self.reader.rows("reconstruction", &self.ground.taught, &rows);
        let own = |kept: &Readout| {
            let mut all = self.ground.readouts.iter();
            let own = all.find(|own| own.from == "embedding" && own.label == kept.label)?;
            Some(self.reader.difference(kept, own))
        };
        kept.iter().filter_map(own).collect()
    }

    /// By the dense readout of the first fold, and the largest sparse readout's features.
    fn absorption(
        &self,
        sae: &Sae,
        by_image: &[Vec<(u32, f32)>],
        readouts: &[Readout],
    ) -> Vec<(String, Absorption)> {
        let images = self.images;
        let size = self.plan.probing.sizes.iter().copied().max().unwrap_or(1);
        let own = readouts.iter().filter(|readout| readout.size == size);
        own.filter_map(|readout| {
            let label = images.labels.names.iter().position(|name| *name == readout.label)?;
            let marks = images.labels.column(label);
            let fold = self.reader.folds.first()?;
            let dense = self.ground.taught.labels[label].as_ref()?.first()?;
            let positives: Vec<usize> =
                fold.read.iter().copied().filter(|image| marks[*image] == Mark::Positive).collect();
            let asked = Asked {
                direction: &dense.direction(),
                own: &readout.features,
                positives: &positives,
            };
            Some((readout.label.clone(), absorption(sae, &images.embeddings, by_image, asked)))
        })
        .collect()
    }

    fn families(&self, by_image: &[Vec<(u32, f32)>], train: &Sparsity) -> Vec<Family> {
        let here: Vec<Vec<(u32, f32)>> =
            self.images.train.iter().map(|image| by_image[*image].clone()).collect();
        let often = |feature: &usize| {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 images")]
            let times = train.rates[*feature] * here.len() as f64;
            train.rates[*feature] <= crate::measure::DENSE
                && times >= super::monosemantic::FIRINGS_MIN as f64
        };
        let mut asked: Vec<usize> = (0..train.rates.len()).filter(often).collect();
        asked.sort_by(|a, b| train.rates[*b].total_cmp(&train.rates[*a]).then(a.cmp(b)));
        asked.truncate(FAMILIES);
        families(&here, &asked, self.plan.lines)
    }

    fn stability(&self, sae: &Sae, test: &Codes, seeds: &[Sae]) -> Stability {
        let embeddings = self.images.embeddings_of(&self.images.test);
        let codes: Vec<Codes> = seeds.iter().map(|seed| Codes::of(seed, &embeddings)).collect();
        let others: Vec<(&Sae, &Codes)> = seeds.iter().zip(&codes).collect();
        stability((sae, test), &others)
    }
}
