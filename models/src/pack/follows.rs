//! What of a bundle does not follow from the files that it was made of, by name.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::files::CARD;
use crate::samples::floats;

/// Tensors that were fitted may differ by so much of their largest value: other CPUs round sums
/// otherwise. Text and whole numbers may not differ at all.
const APART: f32 = 1e-6;

/// Differences that are told of one file, at most: the first says where to look.
const TOLD: usize = 20;

/// One thing that is not what the sources give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    /// In which file.
    pub file: String,
    /// What, inside the file.
    pub what: String,
    /// What the sources give.
    pub expected: String,
    /// What the bundle holds.
    pub found: String,
}

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, what, expected, found } = self;
        write!(f, "{file}: {what}: expected {expected}, found {found}")
    }
}

/// Files of a bundle by their path inside it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Everything in which the files of a bundle differ from those that its sources give. Hashes are not
/// looked at: who alters a number can hash it again.
#[must_use]
pub fn differences(expected: &Files, found: &Files) -> Vec<Differs> {
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let one = |name: &String| -> Vec<Differs> {
        let tell = |what: String, expected: String, found: String| Differs {
            file: name.clone(),
            what,
            expected,
            found,
        };
        let (Some(expected), Some(found)) = (expected.get(name), found.get(name)) else {
            let there = |of: Option<&Vec<u8>>| String::from(of.map_or("no file", |_| "a file"));
            return vec![tell(
                "the file".into(),
                there(expected.get(name)),
                there(found.get(name)),
            )];
        };
        let mut all: Vec<[String; 3]> = match name.rsplit('.').next() {
            _ if expected == found => Vec::new(),
            Some("json") => both(expected, found, |bytes| serde_json::from_slice(bytes).ok()),
            Some("toml") => both(expected, found, toml_value),
            Some("safetensors") => tensors(expected, found),
            _ if name == CARD => lines(expected, found),
            _ => vec![["its bytes".into(), "the same".into(), "others".into()]],
        };
        all.truncate(TOLD);
        all.into_iter().map(|[what, expected, found]| tell(what, expected, found)).collect()
    };
    names.into_iter().flat_map(one).collect()
}

/// A manifest without its hashes.
fn toml_value(bytes: &[u8]) -> Option<Value> {
    let mut table: toml::Table = toml::from_slice(bytes).ok()?;
    table.remove("files");
    serde_json::to_value(table).ok()
}

fn both(expected: &[u8], found: &[u8], read: impl Fn(&[u8]) -> Option<Value>) -> Vec<[String; 3]> {
    let mut out = Vec::new();
    match (read(expected), read(found)) {
        (Some(expected), Some(found)) => values("", &expected, &found, &mut out),
        (_, found) => out.push([
            "its text".into(),
            "one that can be read".into(),
            if found.is_some() { "one" } else { "none" }.into(),
        ]),
    }
    out
}

/// Walks two values together and notes each leaf that differs by its path.
fn values(path: &str, expected: &Value, found: &Value, out: &mut Vec<[String; 3]>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = &Value::Null;
                values(&inner, a.get(key).unwrap_or(null), b.get(key).unwrap_or(null), out);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                // A list of findings or features is told by id or latent, not by place.
                let [own, other] = [a, b].map(|of| of.get(at).unwrap_or(&Value::Null));
                let id = [own, other].into_iter().find_map(name_of).unwrap_or(at.to_string());
                values(&format!("{path}[{id}]"), own, other, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push([path.to_owned(), a.to_string(), b.to_string()]),
    }
}

fn name_of(value: &Value) -> Option<String> {
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    id.or_else(|| value.get("latent").map(|latent| format!("latent {latent}")))
}

fn lines(expected: &[u8], found: &[u8]) -> Vec<[String; 3]> {
    let text = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
    };
    let (expected, found) = (text(expected), text(found));
    let line = |of: &[String], at: usize| of.get(at).cloned().unwrap_or("no line".into());
    (0..expected.len().max(found.len()))
        .filter(|at| line(&expected, *at) != line(&found, *at))
        .map(|at| [format!("line {}", at + 1), line(&expected, at), line(&found, at)])
        .collect()
}

fn tensors(expected: &[u8], found: &[u8]) -> Vec<[String; 3]> {
    let (Ok(expected), Ok(found)) =
        (SafeTensors::deserialize(expected), SafeTensors::deserialize(found))
    else {
        return vec![["its tensors".into(), "ones that can be read".into(), "none".into()]];
    };
    let names: BTreeSet<String> =
        (expected.names().into_iter().chain(found.names())).map(|name| name.to_owned()).collect();
    let mut out = Vec::new();
    for name in names {
        let (Ok(a), Ok(b)) = (expected.tensor(&name), found.tensor(&name)) else {
            out.push([name, "in both".into(), "in one".into()]);
            continue;
        };
        let form =
            |v: &safetensors::tensor::TensorView<'_>| format!("{:?} {:?}", v.dtype(), v.shape());
        if form(&a) != form(&b) {
            out.push([name, form(&a), form(&b)]);
        } else if a.dtype() == Dtype::F32 {
            out.extend(numbers(&name, floats(&a), floats(&b)));
        } else if let Some(at) = (0..a.data().len()).find(|at| a.data()[*at] != b.data()[*at]) {
            let of = |data: &[u8]| data[at].to_string();
            out.push([format!("{name}[{at}]"), of(a.data()), of(b.data())]);
        }
    }
    out
}

/// The number that differs most, where it differs by more than rounding does.
fn numbers(name: &str, a: Option<Vec<f32>>, b: Option<Vec<f32>>) -> Option<[String; 3]> {
    let (a, b) = (a?, b?);
    let most = a.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let apart = |at: &usize| (a[*at] - b[*at]).abs();
    let worst = (0..a.len()).max_by(|x, y| apart(x).total_cmp(&apart(y)))?;
    // Written so that what is no number differs.
    let alike = apart(&worst) <= APART * most.max(f32::MIN_POSITIVE);
    (!alike).then(|| [format!("{name}[{worst}]"), a[worst].to_string(), b[worst].to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str, text: &str) -> Files {
        Files::from([(name.to_owned(), text.as_bytes().to_vec())])
    }

    fn said(name: &str, expected: &str, found: &str) -> Vec<String> {
        let all = differences(&files(name, expected), &files(name, found));
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_number_is_named_by_where_it_stands() {
        let rules = |weight: f64| {
            format!(
                r#"{{"findings":[{{"id":"edema","weights":[{{"latent":7,"weight":{weight}}}]}}]}}"#
            )
        };
        assert_eq!(
            said("findings.json", &rules(0.5), &rules(0.25)),
            ["findings.json: findings[edema].weights[latent 7].weight: expected 0.5, found 0.25"]
        );
        assert_eq!(
            said("card.md", "a\nb 1\n", "a\nb 2\n"),
            ["card.md: line 2: expected b 1, found b 2"]
        );
    }

    #[test]
    fn hashes_are_not_compared_and_everything_else_of_a_manifest_is() {
        let manifest = |hash: u8, threshold: f64| {
            format!("name = \"x\"\n[files]\n\"a\" = \"{hash}\"\n[ood]\nthreshold = {threshold:?}\n")
        };
        assert!(said("manifest.toml", &manifest(1, 2.0), &manifest(2, 2.0)).is_empty());
        assert_eq!(
            said("manifest.toml", &manifest(1, 2.0), &manifest(1, 2.5)),
            ["manifest.toml: ood.threshold: expected 2.0, found 2.5"]
        );
    }

    #[test]
    fn a_file_that_is_missing_or_too_many_is_named() {
        let one = files("card.md", "a");
        assert_eq!(differences(&one, &Files::new()).len(), 1);
        assert_eq!(differences(&Files::new(), &one)[0].expected, "no file");
    }
}
