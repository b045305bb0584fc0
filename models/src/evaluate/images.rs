//! The images of an evaluation: embeddings, labels, patients, and what is known of how they were
//! taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::labels::{Labels, Mark};
use super::permute::Blocks;
use super::plan::{Count, Data};

/// What a table says of images, column by column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns {
    /// Names of the images.
    pub image: Vec<String>,
    /// Whose they are.
    pub patient: Vec<String>,
    /// Which part they belong to.
    pub split: Vec<Option<String>>,
    /// Columns of words.
    pub words: BTreeMap<String, Vec<Option<String>>>,
    /// Columns of numbers.
    pub numbers: BTreeMap<String, Vec<Option<f64>>>,
    /// Labels: 1, 0, -1 uncertain.
    pub labels: Vec<(String, Vec<Option<i32>>)>,
}

/// Columns that hold the eight statistics of a picture's grey values.
pub const INTENSITY: &str = "intensity_";

/// Images and everything that is asked of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// `[n, d]`.
    pub embeddings: Vec<f32>,
    /// Values of an embedding.
    pub d: usize,
    /// Names.
    pub names: Vec<String>,
    /// A number for each patient.
    pub patients: Vec<u32>,
    /// A number for each stratum.
    pub strata: Vec<u32>,
    /// All labels.
    pub labels: Labels,
    /// Acquisition, `[n, columns]`: words as one column each, numbers with a column for missing.
    pub metadata: (Vec<f64>, usize),
    /// Statistics of grey values, `[n, columns]`.
    pub intensity: (Vec<f64>, usize),
    /// Images that taught.
    pub train: Vec<usize>,
    /// Images that features are matched with labels on.
    pub find: Vec<usize>,
    /// Images that everything is measured on.
    pub test: Vec<usize>,
}

/// Images that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImagesError {
    /// A column that the plan names is not there.
    #[error("the table: expected a column {name}, found {found}")]
    Column {
        /// Which.
        name: String,
        /// Those that there are.
        found: String,
    },
    /// A part has no images.
    #[error("the table: expected images of the splits {splits:?}, found none of {of}")]
    Empty {
        /// Which splits.
        splits: Vec<String>,
        /// How many images there are in all.
        of: usize,
    },
    /// A patient is in the training and the test part.
    #[error("the table: expected no patient in both {train:?} and {test:?}, found {count}")]
    Shared {
        /// Splits.
        train: Vec<String>,
        /// Splits.
        test: Vec<String>,
        /// Patients in both.
        count: usize,
    },
    /// Two tables are of other images.
    #[error("{what}: expected the embeddings of the same {expected} images, found {found} alike")]
    Others {
        /// Which table.
        what: String,
        /// Images of the first.
        expected: usize,
        /// Of them in the second.
        found: usize,
    },
}

impl Images {
    /// Brings a table and embeddings `[n, d]` into the form that is evaluated.
    ///
    /// # Errors
    /// A column is missing, a part is empty, or a patient is on both sides.
    pub fn of(
        columns: &Columns,
        embeddings: Vec<f32>,
        d: usize,
        data: &Data,
    ) -> Result<Self, ImagesError> {
        let n = columns.image.len();
        let of = |splits: &[String]| {
            let found: Vec<usize> = (0..n)
                .filter(|row| columns.split[*row].as_ref().is_some_and(|s| splits.contains(s)))
                .collect();
            if found.is_empty() {
                return Err(ImagesError::Empty { splits: splits.to_vec(), of: n });
            }
            Ok(found)
        };
        let (train, find, test) = (of(&data.train)?, of(&data.find)?, of(&data.test)?);
        let patients = numbered(columns.patient.iter().map(String::as_str));
        let own = |rows: &[usize]| rows.iter().map(|row| patients[*row]).collect::<BTreeSet<_>>();
        let count = own(&train).intersection(&own(&test)).count();
        if count > 0 {
            let (train, test) = (data.train.clone(), data.test.clone());
            return Err(ImagesError::Shared { train, test, count });
        }
        let keys = (0..n).map(|row| {
            let values = data.strata.iter().map(|name| columns.text(name, row));
            values.collect::<Result<Vec<String>, ImagesError>>().map(|v| v.join("\u{1f}"))
        });
        let keys: Vec<String> = keys.collect::<Result<_, _>>()?;
        let mut metadata = Vec::new();
        for name in &data.metadata {
            metadata.extend(columns.readable(name)?);
        }
        let intensity: Vec<Vec<f64>> = (columns.numbers.keys())
            .filter(|name| name.starts_with(INTENSITY))
            .map(|name| columns.readable(name))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        let labels = columns.labels_of(data)?;
        let labels = match data.shuffle {
            Some(seed) => labels.shuffled(&patients, seed),
            None => labels,
        };
        Ok(Self {
            labels,
            embeddings,
            d,
            names: columns.image.clone(),
            strata: numbered(keys.iter().map(String::as_str)),
            patients,
            metadata: rows_of(&metadata, n),
            intensity: rows_of(&intensity, n),
            train,
            find,
            test,
        })
    }

    /// Embeddings of some of the images.
    #[must_use]
    pub fn embeddings_of(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|row| &self.embeddings[row * self.d..][..self.d]).copied().collect()
    }

    /// Patients of some of the images.
    #[must_use]
    pub fn patients_of(&self, rows: &[usize]) -> Vec<u32> {
        rows.iter().map(|row| self.patients[*row]).collect()
    }

    /// Which labels may change places among some of the images.
    #[must_use]
    pub fn blocks_of(&self, rows: &[usize]) -> Blocks {
        let strata: Vec<u32> = rows.iter().map(|row| self.strata[*row]).collect();
        Blocks::of(&self.patients_of(rows), &strata)
    }

    /// Another encoder's embeddings `[n, d]` in the order of these images.
    ///
    /// # Errors
    /// One of these images is not among them.
    pub fn matched(
        &self,
        what: &str,
        names: &[String],
        embeddings: &[f32],
        d: usize,
    ) -> Result<Vec<f32>, ImagesError> {
        let place: HashMap<&str, usize> =
            names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let rows: Vec<usize> =
            self.names.iter().filter_map(|name| place.get(name.as_str()).copied()).collect();
        if rows.len() < self.names.len() {
            let (expected, found) = (self.names.len(), rows.len());
            return Err(ImagesError::Others { what: what.to_owned(), expected, found });
        }
        Ok(rows.iter().flat_map(|row| &embeddings[row * d..][..d]).copied().collect())
    }
}

impl Columns {
    fn missing(&self, name: &str) -> ImagesError {
        let mut found: Vec<&str> =
            self.words.keys().chain(self.numbers.keys()).map(String::as_str).collect();
        found.extend(self.labels.iter().map(|(name, _)| name.as_str()));
        ImagesError::Column { name: name.to_owned(), found: found.join(", ") }
    }

    /// A value as text; empty where it is missing.
    fn text(&self, name: &str, row: usize) -> Result<String, ImagesError> {
        if let Some(words) = self.words.get(name) {
            return Ok(words[row].clone().unwrap_or_default());
        }
        let numbers = self.numbers.get(name).ok_or_else(|| self.missing(name))?;
        Ok(numbers[row].map_or_else(String::new, |number| number.to_string()))
    }

    /// A column as numbers that a regression can read.
    fn readable(&self, name: &str) -> Result<Vec<Vec<f64>>, ImagesError> {
        if let Some(words) = self.words.get(name) {
            let all: BTreeSet<&String> = words.iter().flatten().collect();
            let one =
                |word: &String| words.iter().map(|w| f64::from(w.as_ref() == Some(word))).collect();
            return Ok(all.into_iter().map(one).collect());
        }
        let numbers = self.numbers.get(name).ok_or_else(|| self.missing(name))?;
        let known: Vec<f64> = numbers.iter().flatten().copied().collect();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 images")]
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let mut columns = vec![numbers.iter().map(|x| x.unwrap_or(mean)).collect()];
        if known.len() < numbers.len() {
            columns.push(numbers.iter().map(|x| f64::from(x.is_none())).collect());
        }
        Ok(columns)
    }

    fn labels_of(&self, data: &Data) -> Result<Labels, ImagesError> {
        let find = |name: &str| self.labels.iter().find(|(own, _)| own == name);
        let counted = |count: Count| match count {
            Count::Unknown => Mark::Unknown,
            Count::Negative => Mark::Negative,
            Count::Positive => Mark::Positive,
        };
        let mark = |value: &Option<i32>| match value {
            Some(1) => Mark::Positive,
            Some(0) => Mark::Negative,
            Some(_) => counted(data.uncertain),
            None => counted(data.missing),
        };
        let mut columns = Vec::new();
        let all: Vec<&str> = if data.labels.is_empty() {
            self.labels.iter().map(|(name, _)| name.as_str()).collect()
        } else {
            data.labels.iter().map(String::as_str).collect()
        };
        for name in all {
            let (_, values) = find(name).ok_or_else(|| self.missing(name))?;
            columns.push((name.to_owned(), values.iter().map(mark).collect()));
        }
        for derived in &data.derived {
            let mut marks: Vec<Mark> = match derived.label.split_once('=') {
                Some((column, word)) => {
                    let words = self.words.get(column).ok_or_else(|| self.missing(column))?;
                    let is = |found: &Option<String>| match found {
                        Some(found) if found == word => Mark::Positive,
                        Some(_) => Mark::Negative,
                        None => Mark::Unknown,
                    };
                    words.iter().map(is).collect()
                }
                None => {
                    let found = find(&derived.label).ok_or_else(|| self.missing(&derived.label))?;
                    found.1.iter().map(mark).collect()
                }
            };
            if let Some((among, at)) = &derived.among {
                let (_, values) = find(among).ok_or_else(|| self.missing(among))?;
                for (mark, value) in marks.iter_mut().zip(values) {
                    if *value != Some(*at) {
                        *mark = Mark::Unknown;
                    }
                }
            }
            columns.push((derived.name.clone(), marks));
        }
        Ok(Labels::of(columns))
    }
}

/// A number for each different text, by rising text.
fn numbered<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Vec<u32> {
    let all: BTreeSet<&str> = texts.clone().collect();
    let place: HashMap<&str, u32> = all.into_iter().zip(0..).collect();
    texts.map(|text| place[text]).collect()
}

/// Columns as rows.
fn rows_of(columns: &[Vec<f64>], n: usize) -> (Vec<f64>, usize) {
    let rows = (0..n).flat_map(|row| columns.iter().map(move |column| column[row]));
    (rows.collect(), columns.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::plan::Derived;

    fn columns() -> Columns {
        let text = |words: &[&str]| words.iter().map(|w| Some((*w).to_owned())).collect();
        Columns {
            image: ["a", "b", "c", "d"].map(String::from).to_vec(),
            patient: ["1", "1", "2", "3"].map(String::from).to_vec(),
            split: text(&["train", "train", "test", "test"]),
            words: BTreeMap::from([("position".to_owned(), text(&["AP", "PA", "PA", "AP"]))]),
            numbers: BTreeMap::from([("age".to_owned(), vec![Some(40.0), None, Some(60.0), None])]),
            labels: vec![
                ("edema".to_owned(), vec![Some(1), Some(0), Some(-1), None]),
                ("normal".to_owned(), vec![Some(0), Some(1), Some(0), Some(0)]),
            ],
        }
    }

    fn data() -> Data {
        Data {
            strata: vec!["position".to_owned()],
            metadata: vec!["position".to_owned(), "age".to_owned()],
            derived: vec![
                Derived { name: "view".into(), label: "position=AP".into(), among: None },
                Derived {
                    name: "sick".into(),
                    label: "edema".into(),
                    among: Some(("normal".into(), 0)),
                },
            ],
            missing: Count::Negative,
            ..Data::default()
        }
    }

    #[test]
    fn words_numbers_and_labels_come_out_as_the_plan_says() {
        let images = Images::of(&columns(), vec![0.0; 8], 2, &data()).expect("images");
        // AP, PA, age, age missing.
        assert_eq!(
            images.metadata,
            (vec![1., 0., 40., 0., 0., 1., 50., 1., 0., 1., 60., 0., 1., 0., 50., 1.], 4)
        );
        use Mark::{Negative, Positive, Unknown};
        assert_eq!(images.labels.column(0), [Positive, Negative, Unknown, Negative]);
        assert_eq!(images.labels.column(2), [Positive, Negative, Negative, Positive]);
        assert_eq!(images.labels.column(3), [Positive, Unknown, Unknown, Negative]);
        assert_eq!((images.strata[0], images.strata[3]), (images.strata[3], images.strata[0]));
    }

    #[test]
    fn what_cannot_be_evaluated_says_why() {
        let mut shared = columns();
        shared.patient[2] = "1".into();
        let error = Images::of(&shared, vec![0.0; 8], 2, &data()).expect_err("shared");
        assert!(error.to_string().contains("found 1"), "{error}");
        let mut plan = data();
        plan.metadata.push("scanner".into());
        let error = Images::of(&columns(), vec![0.0; 8], 2, &plan).expect_err("no column");
        assert!(error.to_string().contains("scanner"), "{error}");
        plan = data();
        plan.test = vec!["dev".into()];
        let error = Images::of(&columns(), vec![0.0; 8], 2, &plan).expect_err("no split");
        assert!(error.to_string().contains("dev"), "{error}");
    }
}
