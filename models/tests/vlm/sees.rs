//! What the server sees: the protocol of a request, and bright marks in pictures.

use data_encoding::BASE64;
use image::GrayImage;
use serde_json::{Value, json};

use super::pictures::{CELLS, bright};

/// Holds a request against the protocol; its pictures.
pub(super) fn request(body: &Value, wrong: &mut Vec<String>) -> Vec<GrayImage> {
    let mut is = |fits: bool, what: &str| {
        if !fits {
            wrong.push(format!("{what} in {body:.300}"));
        }
    };
    is(body["model"].as_str().is_some_and(|model| !model.is_empty()), "model");
    is(body["temperature"].as_f64() == Some(0.0), "temperature");
    is(body["max_tokens"].as_u64().is_some_and(|most| most > 0), "max_tokens");
    is(body["seed"].is_u64(), "seed");
    is(body["stream"] == false, "stream");
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    is(roles == ["system", "user"], "roles");
    is(messages[0]["content"].is_string(), "system's words");
    let format = &body["response_format"];
    is(format["type"] == "json_schema", "response_format");
    is(format["json_schema"]["strict"] == true, "strict");
    is(format["json_schema"]["name"].is_string(), "the schema's name");
    let schema = &format["json_schema"]["schema"];
    is(jsonschema::meta::is_valid(schema) && schema["type"] == "object", "schema");
    is(schema["additionalProperties"] == false, "additionalProperties");
    let mut pictures = Vec::new();
    let parts = messages[1]["content"].as_array().cloned().unwrap_or_default();
    for part in &parts {
        match part["type"].as_str() {
            Some("text") => is(part["text"].is_string(), "text"),
            Some("image_url") => {
                let url = part["image_url"]["url"].as_str().unwrap_or_default();
                let bytes = url.strip_prefix("data:image/png;base64,").unwrap_or_default();
                let bytes = BASE64.decode(bytes.as_bytes()).unwrap_or_default();
                let png = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png);
                is(png.is_ok(), "PNG");
                pictures.extend(png.ok().map(|png| png.to_luma8()));
            }
            _ => is(false, "part"),
        }
    }
    is(!parts.is_empty() && parts[0]["type"] == "text", "words first");
    pictures
}

/// A right answer, valid against the request's own schema, and its tokens' probabilities.
pub(super) fn answer(body: &Value, pictures: &[GrayImage]) -> (Value, Value) {
    let text = body["messages"][1]["content"][0]["text"].as_str().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = || serde_json::from_str::<Value>(lines[lines.len() - 1]).expect("JSON last");
    let schema = &body["response_format"]["json_schema"];
    let answer = match schema["name"].as_str().expect("a name") {
        "name" => name(pictures),
        "marks" => {
            let cell = cell(&serde_json::from_str(lines[1]).expect("a name"));
            let marks = pictures.iter().map(|p| u8::from(shows(p, cell)));
            json!({ "present": marks.collect::<Vec<u8>>() })
        }
        "mark" if pictures.is_empty() => {
            let data = last();
            let finding = data["description"].as_str().unwrap_or_default();
            json!({ "present": u8::from(says(&data["report"], finding)) })
        }
        "mark" => {
            let cell = cell(&serde_json::from_str(lines[1]).expect("a name"));
            json!({ "present": u8::from(shows(&pictures[0], cell)) })
        }
        "picks" => {
            let names: Vec<Value> = serde_json::from_str(lines[1]).expect("names");
            let fits = |name: &Value| {
                let cell = cell(name);
                pictures.iter().filter(|p| shows(p, cell)).count()
            };
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.sort_by_key(|at| std::cmp::Reverse(fits(&names[*at])));
            json!({ "picks": [order[0] + 1, order[1] + 1] })
        }
        "description" => describe(&last()),
        other => unreachable!("a schema {other}"),
    };
    let validator = jsonschema::validator_for(&schema["schema"]).expect("a schema");
    assert!(validator.is_valid(&answer), "{answer} against {schema}");
    let one = answer["present"].as_u64().filter(|_| body["logprobs"] == true);
    let logprobs = one.map_or(Value::Null, |one| {
        let p = |digit: u64| if digit == one { -0.1_f64 } else { -2.4 };
        let top = json!([{"token": "0", "logprob": p(0)}, {"token": "1", "logprob": p(1)}]);
        let token = |text: &str, top: Value| {
            json!({"token": text, "logprob": -0.1,
            "top_logprobs": top})
        };
        let digit = token(&one.to_string(), top);
        json!({"content": [token("{\"present\":", json!([])), digit, token("}", json!([]))]})
    });
    (answer, logprobs)
}

/// The mark that most pictures show; of several as frequent ones the first.
fn name(pictures: &[GrayImage]) -> Value {
    let count = |cell: usize| pictures.iter().filter(|p| shows(p, cell)).count();
    let cell = (0..CELLS.len()).rev().max_by_key(|cell| count(*cell)).expect("cells");
    let concept = format!("bright mark in the {}", CELLS[cell]);
    json!({ "concept": concept, "description": "A mark that is brighter than all around it." })
}

fn cell(concept: &Value) -> usize {
    let words = concept["concept"].as_str().expect("a concept");
    CELLS.iter().position(|place| words.ends_with(place)).expect("a place")
}

fn shows(picture: &GrayImage, cell: usize) -> bool {
    bright(picture, cell)
}

/// Whether a report says that a finding is there.
fn says(report: &Value, finding: &str) -> bool {
    let report = report.as_str().expect("a report").to_lowercase();
    report.contains(finding) && !report.contains(&format!("no {finding}"))
}

/// The finding that most reports have and fewest others.
fn describe(data: &Value) -> Value {
    let of = |side: &str, finding: &str| -> f64 {
        let reports = data[side].as_array().expect("a list");
        let count = reports.iter().filter(|report| says(report, finding)).count();
        f64::from(u32::try_from(count).expect("few"))
            / f64::from(u32::try_from(reports.len().max(1)).expect("few"))
    };
    let score = |finding: &&str| of("with", finding) - of("without", finding);
    let best = super::pictures::FINDINGS.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    json!({ "description": best.expect("findings") })
}
