//! Dictionaries of other libraries, by the names of their tensors, brought into the form that a
//! device runs.
//!
//! | library | tensors | settings |
//! | --- | --- | --- |
//! | dictionary_learning and EIDOSLAB/medsae, Standard | `bias`, `encoder.weight`, `encoder.bias`, `decoder.weight` | |
//! | dictionary_learning, TopK and BatchTopK | `b_dec`, `encoder.weight`, `encoder.bias`, `decoder.weight`, `k`, `threshold` | |
//! | dictionary_learning, Gated | `decoder_bias`, `encoder.weight`, `decoder.weight`, `r_mag`, `gate_bias`, `mag_bias` | |
//! | dictionary_learning and EIDOSLAB/medsae, Matryoshka | `W_enc`, `b_enc`, `W_dec`, `b_dec`, `k`, `threshold`, `group_sizes` | |
//! | dictionary_learning, JumpReLU | `W_enc`, `b_enc`, `W_dec`, `b_dec`, `threshold` | `apply_b_dec_to_input` |
//! | SAELens | the same, or with `b_gate`, `r_mag`, `b_mag`, or no threshold | `cfg.json` |
//! | sparsify | `encoder.weight`, `encoder.bias`, `W_dec`, `b_dec` | `cfg.json` |
//!
//! `W_enc` is `[d, latents]`, `encoder.weight` `[latents, d]`, `decoder.weight` `[d, latents]`.

use std::fs;
use std::path::Path;

use clearfilm::bundle::{Level, Matrix, Sae, Weights};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{DictionaryError, Tensors};
use crate::kernel::dot;

/// A dictionary of another library.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// In the form that a device runs. Where `k` is set its thresholds are 0 and still to be found.
    pub sae: Sae,
    /// The `k` largest of a sample fire, and no threshold says how large that is.
    pub k: Option<usize>,
    /// Whose it is.
    pub library: &'static str,
}

/// What says who fires.
enum Rule {
    /// Above a value each.
    Above(Vec<f32>),
    /// The largest of each sample.
    Largest(usize),
}

/// The parts that all have, in one layout.
struct Parts {
    /// `[latents, d]`.
    w_enc: Vec<f32>,
    b_enc: Vec<f32>,
    /// `[latents, d]`.
    w_dec: Vec<f32>,
    b_dec: Vec<f32>,
    /// Is `b_dec` taken from a sample before it is encoded?
    subtracted: bool,
    rule: Rule,
}

/// Reads a dictionary; `cfg.json` or `config.json` beside the file is read where there is one.
///
/// # Errors
/// The file cannot be read, its names are of no known library, or it does something that a
/// device's dictionary does not.
pub fn read(path: &Path) -> Result<Foreign, DictionaryError> {
    let bytes =
        fs::read(path).map_err(|source| DictionaryError::Io { file: path.into(), source })?;
    let failed = |source| DictionaryError::Tensor { file: path.into(), source };
    let all = SafeTensors::deserialize(&bytes).map_err(failed)?;
    let settings = settings(path)?;
    let file = File { tensors: Tensors { file: path, all }, settings };
    let mut names: Vec<&str> = file.tensors.all.names();
    names.sort_unstable();
    let (library, parts) = match names.as_slice() {
        ["bias", "decoder.weight", "encoder.bias", "encoder.weight"] => {
            ("dictionary_learning", file.linear("bias", "decoder.weight")?)
        }
        ["W_dec", "b_dec", "encoder.bias", "encoder.weight"] => ("sparsify", file.sparsify()?),
        ["b_dec", "decoder.weight", "encoder.bias", "encoder.weight", "k", "threshold"]
        | ["b_dec", "decoder.weight", "encoder.bias", "encoder.weight", "k"] => {
            ("dictionary_learning", file.linear("b_dec", "decoder.weight")?)
        }
        ["decoder.weight", "decoder_bias", "encoder.weight", "gate_bias", "mag_bias", "r_mag"] => {
            ("dictionary_learning", file.gated_linear()?)
        }
        ["W_dec", "W_enc", "b_dec", "b_enc", "group_sizes", "k", "threshold"]
        | ["W_dec", "W_enc", "b_dec", "b_enc", "k", "threshold"] => {
            ("dictionary_learning", file.matrices(Some(true))?)
        }
        ["W_dec", "W_enc", "b_dec", "b_enc", "threshold"]
        | ["W_dec", "W_enc", "b_dec", "b_enc"] => (file.either(), file.matrices(None)?),
        ["W_dec", "W_enc", "b_dec", "b_gate", "b_mag", "r_mag"] => ("SAELens", file.gated()?),
        other => {
            let expected = "the tensors of dictionary_learning, SAELens, sparsify or medsae";
            return Err(file.tensors.unfit(expected, other.join(", ")));
        }
    };
    Ok(parts.foreign(library))
}

fn settings(path: &Path) -> Result<Value, DictionaryError> {
    for name in ["cfg.json", "config.json"] {
        let file = path.with_file_name(name);
        if file.exists() {
            let text = fs::read_to_string(&file)
                .map_err(|source| DictionaryError::Io { file: file.clone(), source })?;
            return serde_json::from_str(&text).map_err(|error| DictionaryError::Unfit {
                file,
                expected: "JSON".to_owned(),
                found: error.to_string(),
            });
        }
    }
    Ok(Value::Null)
}

/// A file and its settings.
struct File<'a> {
    tensors: Tensors<'a>,
    settings: Value,
}

impl File<'_> {
    /// A matrix `[rows, columns]`, turned over where latents are its columns.
    fn matrix(
        &self,
        name: &str,
        turned: bool,
    ) -> Result<(Vec<f32>, usize, usize), DictionaryError> {
        let values = self.tensors.floats(name)?;
        let view = self.tensors.view(name)?;
        let &[rows, columns] = view.shape() else {
            let found = format!("shape {:?}", view.shape());
            return Err(self.tensors.unfit(format!("a matrix {name}"), found));
        };
        if !turned {
            return Ok((values, rows, columns));
        }
        let over = (0..columns).flat_map(|column| {
            let values = &values;
            (0..rows).map(move |row| values[row * columns + column])
        });
        Ok((over.collect(), columns, rows))
    }

    /// `[latents, d]` twice, and the biases.
    fn parts(
        &self,
        [w_enc, b_enc, w_dec, b_dec]: [&str; 4],
        [enc_turned, dec_turned]: [bool; 2],
        (subtracted, rule): (bool, Rule),
    ) -> Result<Parts, DictionaryError> {
        let (w_enc, latents, d) = self.matrix(w_enc, enc_turned)?;
        let name = w_dec;
        let (w_dec, rows, columns) = self.matrix(w_dec, dec_turned)?;
        if [rows, columns] != [latents, d] {
            let found = format!("[{rows}, {columns}]");
            return Err(self.tensors.unfit(format!("{name} of [{latents}, {d}]"), found));
        }
        let b_enc = self.tensors.vector(b_enc, latents)?;
        let b_dec = self.tensors.vector(b_dec, d)?;
        Ok(Parts { w_enc, b_enc, w_dec, b_dec, subtracted, rule })
    }

    /// dictionary_learning's form of two linear layers.
    fn linear(&self, b_dec: &str, w_dec: &str) -> Result<Parts, DictionaryError> {
        let latents = self.tensors.view("encoder.weight")?.shape()[0];
        let rule =
            if b_dec == "bias" { Rule::Above(vec![0.0; latents]) } else { self.rule(latents)? };
        self.parts(["encoder.weight", "encoder.bias", w_dec, b_dec], [false, true], (true, rule))
    }

    fn sparsify(&self) -> Result<Parts, DictionaryError> {
        for (name, wanted) in [("transcode", false), ("skip_connection", false)] {
            self.refuse(name, &Value::Bool(wanted))?;
        }
        self.refuse("activation", &Value::String("topk".to_owned()))?;
        let k =
            self.settings.get("k").and_then(Value::as_u64).and_then(|k| usize::try_from(k).ok());
        let Some(k) = k else {
            return Err(self.tensors.unfit("k in cfg.json beside the file", "none"));
        };
        let names = ["encoder.weight", "encoder.bias", "W_dec", "b_dec"];
        self.parts(names, [false, false], (true, Rule::Largest(k)))
    }

    /// A form with latents along the columns of `W_enc`.
    fn matrices(&self, subtracted: Option<bool>) -> Result<Parts, DictionaryError> {
        let subtracted = match subtracted {
            Some(known) => known,
            None => self.subtracted()?,
        };
        let latents = self.tensors.vector_length("b_enc")?;
        let rule = self.rule(latents)?;
        self.parts(["W_enc", "b_enc", "W_dec", "b_dec"], [true, false], (subtracted, rule))
    }

    /// Both have a JumpReLU under the same names; only SAELens's settings name an architecture.
    fn either(&self) -> &'static str {
        if self.settings.get("architecture").is_some() { "SAELens" } else { "dictionary_learning" }
    }

    /// Does the library take `b_dec` from a sample? Only its settings say.
    fn subtracted(&self) -> Result<bool, DictionaryError> {
        self.refuse("normalize_activations", &Value::String("none".to_owned()))?;
        self.refuse("rescale_acts_by_decoder_norm", &Value::Bool(false))?;
        let said = self.settings.get("apply_b_dec_to_input").and_then(Value::as_bool);
        said.ok_or_else(|| {
            self.tensors.unfit("apply_b_dec_to_input in cfg.json beside the file", "none")
        })
    }

    /// Something that only one value of can be run by a device.
    fn refuse(&self, name: &str, wanted: &Value) -> Result<(), DictionaryError> {
        match self.settings.get(name) {
            Some(found) if found != wanted => {
                Err(self.tensors.unfit(format!("{name} = {wanted} in cfg.json"), found.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// A threshold each, one for all, or none but a `k`.
    fn rule(&self, latents: usize) -> Result<Rule, DictionaryError> {
        let has = |name: &str| self.tensors.all.names().contains(&name);
        if has("threshold") {
            let found = self.tensors.floats("threshold")?;
            match *found.as_slice() {
                // Not found yet, as dictionary_learning marks it.
                [one] if one < 0.0 => {}
                [one] => return Ok(Rule::Above(vec![one; latents])),
                // Below 0 a value would fire that is not above 0; the libraries have a ReLU there.
                _ => {
                    let each = self.tensors.vector("threshold", latents)?;
                    return Ok(Rule::Above(each.into_iter().map(|t| t.max(0.0)).collect()));
                }
            }
        }
        let setting = self.settings.get("k").and_then(Value::as_u64);
        let k = if has("k") { Some(self.tensors.whole("k")?) } else { setting };
        let top_k = self.settings.get("architecture").and_then(Value::as_str).unwrap_or("topk");
        match k.and_then(|k| usize::try_from(k).ok()) {
            Some(k) if top_k.contains("topk") => Ok(Rule::Largest(k)),
            _ if top_k == "standard" => Ok(Rule::Above(vec![0.0; latents])),
            _ => Err(self.tensors.unfit("a threshold, or k", "neither")),
        }
    }

    fn gated_linear(&self) -> Result<Parts, DictionaryError> {
        let names = ["encoder.weight", "mag_bias", "decoder.weight", "decoder_bias"];
        let parts = self.parts(names, [false, true], (true, Rule::Above(Vec::new())))?;
        self.opened(parts, "gate_bias", "mag_bias")
    }

    fn gated(&self) -> Result<Parts, DictionaryError> {
        let names = ["W_enc", "b_mag", "W_dec", "b_dec"];
        let rule = Rule::Above(Vec::new());
        let parts = self.parts(names, [true, false], (self.subtracted()?, rule))?;
        self.opened(parts, "b_gate", "b_mag")
    }

    /// A gate and a magnitude as one threshold: with `m = exp(r) z + b_mag` the gate `z + b_gate`
    /// is open where `m` is above `b_mag - exp(r) b_gate`.
    fn opened(&self, mut parts: Parts, gate: &str, mag: &str) -> Result<Parts, DictionaryError> {
        let latents = parts.b_enc.len();
        let d = parts.b_dec.len();
        let r_mag = self.tensors.vector("r_mag", latents)?;
        let gate = self.tensors.vector(gate, latents)?;
        let mag = self.tensors.vector(mag, latents)?;
        for (row, r) in parts.w_enc.chunks_exact_mut(d).zip(&r_mag) {
            row.iter_mut().for_each(|w| *w *= r.exp());
        }
        let thresholds = gate.iter().zip(&mag).zip(&r_mag);
        let thresholds = thresholds.map(|((gate, mag), r)| (mag - r.exp() * gate).max(0.0));
        parts.rule = Rule::Above(thresholds.collect());
        Ok(parts)
    }
}

impl Parts {
    fn foreign(self, library: &'static str) -> Foreign {
        let (rows, columns) = (self.b_enc.len(), self.b_dec.len());
        let mut b_enc = self.b_enc;
        if self.subtracted {
            for (bias, row) in b_enc.iter_mut().zip(self.w_enc.chunks_exact(columns)) {
                *bias -= dot(row, &self.b_dec);
            }
        }
        let (threshold, k) = match self.rule {
            Rule::Above(thresholds) => (thresholds, None),
            Rule::Largest(k) => (vec![0.0; rows], Some(k)),
        };
        let matrix = |values| Weights::F32(Matrix { rows, columns, values });
        let sae = Sae {
            level: Level::Embedding,
            w_enc: matrix(self.w_enc),
            b_enc,
            w_dec: matrix(self.w_dec),
            b_dec: self.b_dec,
            threshold,
        };
        Foreign { sae, k, library }
    }
}

/// The one threshold above which `k` latents of a sample `[n, d]` fire in the mean.
pub fn find_threshold(foreign: &mut Foreign, samples: &[f32]) {
    use crate::codes::Codes;
    let Some(k) = foreign.k.take() else { return };
    let codes = Codes::of(&foreign.sae, samples);
    let mut values: Vec<f32> = (0..codes.features())
        .flat_map(|feature| codes.column(feature).iter().map(|value| value.value))
        .collect();
    let wanted = k * codes.samples;
    if wanted == 0 || values.len() <= wanted {
        return;
    }
    // The largest value that does not fire.
    let (_, at, _) = values.select_nth_unstable_by(wanted, |a, b| b.total_cmp(a));
    let threshold = *at;
    foreign.sae.threshold.fill(threshold);
}
