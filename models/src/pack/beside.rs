//! What a bundle is held against: labels read in other ways, other dictionaries, other files and
//! engines.

use std::fs;
use std::path::Path;

use clearfilm::bundle::{Bundle, Sae};
use serde_json::Value;

use super::apart::{Apart, apart};
use super::assemble::{Fault, PackError, file, json, unfit};
use super::int8;
use super::plan::Plan;
use super::readings::{self, Table};
use super::through::{Folders, Passed, through};
use crate::dictionary;
use crate::encoder::Encoder;
use crate::evaluate::images::Images;
use crate::samples::floats;

/// A dictionary that does not ship: its name, its training, and its labels.
pub type Instead = (String, Value, Vec<Table>);

/// Labels read for comparison, by the dictionary that ships and by those that do not.
pub(super) fn readouts(
    plan: &Plan,
    bundle: &Bundle,
    encoder: &Encoder,
    folders: &mut Folders<'_, Fault>,
) -> Result<(Vec<Table>, Vec<Instead>), PackError> {
    let name = &plan.readouts.collection;
    let collection = plan.calibrate.images.iter().find(|images| images.name == *name);
    let Some(collection) = collection else {
        return Err(unfit("readouts.collection", "a collection of the calibration", name));
    };
    let loaded = folders.tokens(&collection.vectors).map_err(PackError::Source)?;
    let passed = through(bundle, loaded);
    let embeddings: Vec<f32> = passed.iter().flat_map(|p| &p.embedding.values).copied().collect();
    let d = bundle.head.weight.rows;
    let images = Images::of(&loaded.columns, embeddings.clone(), d, &collection.data)
        .map_err(|error| file(&collection.vectors, &error))?;
    let (teachers, width) = teachers(&plan.readouts.teachers, &images)?;
    let tables = |bundle: &Bundle| {
        let codes = readings::codes(bundle, &loaded.embeddings, &embeddings);
        let sources = readings::Sources {
            images: &images,
            embeddings: (&embeddings, d),
            teachers: (&teachers, width),
            codes: &codes,
        };
        let how = (&plan.calibrate.fit, &plan.calibrate.bootstrap);
        readings::tables(sources, &plan.readouts, &collection.probing, how)
    };
    let mut instead = Vec::new();
    for other in &plan.instead {
        let sae = dictionary::read(&other.dictionary.join("sae.safetensors"))?;
        let with = Bundle { sae: int8::quantised(&sae, other.level, None), ..encoder.alone() };
        let run = json(&other.dictionary.join("run.json"))?;
        instead.push((other.name.clone(), run, tables(&with)));
    }
    Ok((tables(bundle), instead))
}

/// The teachers' features `[n, d]` of these images, side by side.
fn teachers(path: &Path, images: &Images) -> Result<(Vec<f32>, usize), PackError> {
    let bytes = fs::read(path).map_err(|error| file(path, &error))?;
    let read = |error: safetensors::SafeTensorError| file(path, &error);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(read)?;
    let names = header.metadata().as_ref().and_then(|words| words.get("images"));
    let names: Vec<String> =
        names.map(|names| names.lines().map(str::to_owned).collect()).unwrap_or_default();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(read)?;
    let mut all = tensors.tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let own: Vec<String> = images
        .names
        .iter()
        .map(|name| {
            Path::new(name).file_name().map_or_else(|| name.clone(), |n| n.display().to_string())
        })
        .collect();
    let place = |name: &String| names.iter().position(|known| known == name);
    let mut parts = Vec::new();
    for (_, view) in &all {
        if let (Some(values), [_, d]) = (floats(view), view.shape()) {
            parts.push((values, *d));
        }
    }
    let width = parts.iter().map(|(_, d)| d).sum();
    let mut rows = Vec::with_capacity(own.len() * width);
    for name in &own {
        let Some(at) = place(name) else {
            return Err(unfit(&path.display().to_string(), format!("features of {name}"), "none"));
        };
        for (values, d) in &parts {
            rows.extend(&values[at * d..][..*d]);
        }
    }
    Ok((rows, width))
}

/// The same images through other files and engines, and through the dictionary before it was
/// quantised.
pub(super) fn engines(
    plan: &Plan,
    bundle: &Bundle,
    folders: &mut Folders<'_, Fault>,
) -> Result<Vec<Apart>, PackError> {
    let mut found = Vec::new();
    for other in &plan.engines {
        let first = through(bundle, folders.tokens(&other.vectors).map_err(PackError::Source)?);
        let second = through(bundle, folders.tokens(&other.other).map_err(PackError::Source)?);
        let of = |passed: &'_ [Passed]| -> Vec<String> {
            passed.iter().map(|p| p.image.clone()).collect()
        };
        if of(&first) != of(&second) {
            let expected = format!("the images of {}", other.vectors.display());
            return Err(unfit(&other.other.display().to_string(), expected, "others"));
        }
        let chosen = |passed: &[Passed]| -> Vec<usize> {
            (0..passed.len()).filter(|at| other.splits.contains(&passed[*at].split)).collect()
        };
        let rows = chosen(&first);
        let [a, b] = [&first, &second].map(|p| rows.iter().map(|at| &p[*at]).collect::<Vec<_>>());
        found.push(apart(&other.name, (bundle, &a), (bundle, &b)));
    }
    if let Some(other) = plan.engines.first() {
        let sae = dictionary::read(&plan.dictionary.join("sae.safetensors"))?;
        let level = bundle.sae.level;
        let wide = Bundle { sae: Sae { level, ..sae }, ..bundle.clone() };
        let loaded = folders.tokens(&other.vectors).map_err(PackError::Source)?;
        let [first, second] = [bundle, &wide].map(|bundle| through(bundle, loaded));
        let of = |passed: &[Passed]| -> Vec<usize> {
            (0..passed.len()).filter(|at| other.splits.contains(&passed[*at].split)).collect()
        };
        let rows = of(&first);
        let [a, b] = [&first, &second].map(|p| rows.iter().map(|at| &p[*at]).collect::<Vec<_>>());
        found.push(apart("dictionary in int8 and in fp32", (bundle, &a), (&wide, &b)));
    }
    Ok(found)
}
