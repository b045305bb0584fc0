//! Images through the device's own code: what is measured is what will run.

use std::collections::BTreeMap;
use std::path::Path;

use clearfilm::bundle::{Bundle, Level};
use clearfilm::encode::{self, Embedding, Tokens};
use clearfilm::sparse::{self, Code};
use rayon::prelude::*;

use crate::evaluate::evaluation::Loaded;

/// One image, from its tokens on.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Its name.
    pub image: String,
    /// Whose it is.
    pub patient: String,
    /// Which part it belongs to.
    pub split: String,
    /// Years, where they are known.
    pub age: Option<f64>,
    /// The encoder's output.
    pub tokens: Tokens,
    /// Pooled and projected.
    pub embedding: Embedding,
    /// What fires.
    pub code: Code,
}

/// Every image of a folder of tokens, in its order, by the head and dictionary of a bundle.
#[must_use]
pub fn through(bundle: &Bundle, loaded: &Loaded) -> Vec<Passed> {
    let spec = &bundle.manifest.encoder;
    let columns = &loaded.columns;
    let ages = columns.numbers.get("age");
    let one = |(at, values): (usize, &[f32])| {
        let tokens =
            Tokens { n_tokens: spec.n_tokens, d_token: spec.d_token, values: values.to_vec() };
        let embedding = encode::embed(&tokens, &bundle.head);
        let code = sparse::encode(&bundle.sae, &tokens, &embedding);
        Passed {
            image: columns.image[at].clone(),
            patient: columns.patient[at].clone(),
            split: columns.split[at].clone().unwrap_or_default(),
            age: ages.and_then(|ages| ages[at]),
            tokens,
            embedding,
            code,
        }
    };
    loaded.embeddings.par_chunks_exact(loaded.d).enumerate().map(one).collect()
}

/// Folders that were read, each once: tokens of many images are large, and asked for often.
pub struct Folders<'a, E> {
    load: &'a dyn Fn(&Path, Level) -> Result<Loaded, E>,
    read: BTreeMap<std::path::PathBuf, Loaded>,
}

impl<'a, E> Folders<'a, E> {
    /// None read yet.
    pub fn new(load: &'a dyn Fn(&Path, Level) -> Result<Loaded, E>) -> Self {
        Self { load, read: BTreeMap::new() }
    }

    /// The tokens of a folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tokens(&mut self, folder: &Path) -> Result<&Loaded, E> {
        if !self.read.contains_key(folder) {
            let loaded = (self.load)(folder, Level::Tokens)?;
            self.read.insert(folder.to_owned(), loaded);
        }
        Ok(&self.read[folder])
    }
}
