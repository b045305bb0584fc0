//! Does every message's schema accept its example in `docs/topics.md` and refuse its mutants?
//!
//! The examples are also what the appliance's own types read and write, so that document, schema
//! and code cannot part.

use clearfilm::findings::Finding;
use clearfilm::gate::{Check, Judgement};
use clearfilm::ood::Ood;
use clearfilm::publish::Receipt;
use clearfilm::report::DraftReport;
use clearfilm_tests::text;
use jsonschema::{Registry, Validator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Every schema of version 1.
const NAMES: [&str; 10] = [
    "envelope", "status", "about", "health", "alarm", "state", "gate", "findings", "report",
    "receipt",
];

/// Nothing wrong.
const NONE: [&str; 0] = [];

/// What stands before an example.
const ANNOUNCED: &str = "Example of `urn:clearfilm:schema:";

fn schema(name: &str) -> Value {
    serde_json::from_str(&text(&format!("runtime/schemas/{name}.json"))).expect("a schema is JSON")
}

/// Where `message` is not of the form that the named schema says.
pub(crate) fn wrong(name: &str, message: &Value) -> Vec<String> {
    let all = NAMES.iter().map(|name| (format!("urn:clearfilm:schema:{name}:1"), schema(name)));
    let registry = Registry::new()
        .extend(all)
        .and_then(jsonschema::RegistryBuilder::prepare)
        .expect("the schemas refer to each other");
    let validator: Validator = jsonschema::options()
        .with_registry(&registry)
        .should_validate_formats(true)
        .build(&schema(name))
        .expect("a schema is a schema");
    validator.iter_errors(message).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// The example of a schema in `docs/topics.md`.
fn example(name: &str) -> Value {
    let document = text("docs/topics.md");
    let begin =
        document.find(&format!("{ANNOUNCED}{name}:1`")).expect("every schema has an example");
    let block =
        document[begin..].split("```json\n").nth(1).expect("a block follows").split("```").next();
    serde_json::from_str(block.expect("the block ends")).expect("an example is JSON")
}

/// The example of `name` passes; each mutant, made by setting a member (or, with null, taking it
/// away), is refused.
#[track_caller]
fn check(name: &str, mutants: &[(&str, Value)]) {
    let good = example(name);
    assert_eq!(wrong(name, &good), NONE);
    assert!(mutants.len() >= 3, "expected at least 3 mutants, found {}", mutants.len());
    for (at, value) in mutants {
        let mut mutant = good.clone();
        let (parent, member) = at.rsplit_once('/').expect("a pointer");
        let parent = mutant.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        if value.is_null() {
            parent.remove(member).expect("a mutant takes away what is there");
        } else {
            parent.insert(member.into(), value.clone());
        }
        assert_ne!(wrong(name, &mutant), NONE, "{name}: {at} = {value} is accepted");
    }
}

/// What stands at `at` in an example is what the type reads, and what it writes.
#[track_caller]
fn check_type<T: Serialize + DeserializeOwned>(name: &str, at: &str) {
    let value = example(name).pointer(at).expect("the example has this part").clone();
    let typed: T = serde_json::from_value(value.clone()).expect("the type reads the example");
    let written = serde_json::to_value(&typed).expect("the type is written");
    // The type may hold less than the message, never more nor anything else.
    for (key, written) in written.as_object().expect("an object") {
        assert_eq!(value.get(key), Some(written), "{name}{at}: {key}");
    }
}

#[test]
fn the_envelope_is_checked() {
    check(
        "envelope",
        &[
            ("/id", Value::Null),
            ("/id", json!("not a uuid")),
            ("/seq", json!(-1)),
            ("/schema", json!("findings")),
            ("/use", json!("trial")),
            ("/surprise", json!(1)),
            ("/unit/name", Value::Null),
            ("/software/config_digest", json!("sha256:77")),
            ("/engine/backend", json!("abacus")),
            ("/bundle/digest", json!("md5:0")),
            ("/payload", json!([])),
        ],
    );
}

#[test]
fn a_payload_in_an_envelope_follows_its_own_schema() {
    assert_eq!(wrong("state", &example("envelope")["payload"]), NONE);
}

#[test]
fn status_is_checked() {
    check(
        "status",
        &[
            ("/state", json!("asleep")),
            ("/boot", Value::Null),
            ("/since", json!("yesterday")),
            ("/seq", json!("1")),
        ],
    );
}

#[test]
fn about_is_checked() {
    check(
        "about",
        &[
            ("/bundle", Value::Null),
            ("/unit", json!("Room 2")),
            ("/ae_title", json!("MORE THAN 16 BYTES")),
            ("/engines/0/verdict", json!("tired")),
            ("/schemas", json!(["findings"])),
            ("/software/surprise", json!(1)),
        ],
    );
}

#[test]
fn health_is_checked() {
    check(
        "health",
        &[
            ("/ok", json!("yes")),
            ("/outbox/depth", json!(-1)),
            ("/readings", Value::Null),
            ("/checks/0/name", Value::Null),
        ],
    );
}

#[test]
fn alarms_are_checked() {
    check(
        "alarm",
        &[
            ("/type", json!("Disk low")),
            ("/severity", json!("bad")),
            ("/text", json!("")),
            ("/since", Value::Null),
            ("/runbook", Value::Null),
        ],
    );
}

#[test]
fn receipts_are_checked() {
    check(
        "receipt",
        &[("/id", json!("1")), ("/id", Value::Null), ("/consumer", json!("Reading Room"))],
    );
    check_type::<Receipt>("receipt", "");
}

#[test]
fn state_is_checked() {
    check(
        "state",
        &[
            ("/state", json!("final")),
            ("/exam_key", json!("1.2.840.10008")),
            ("/state", Value::Null),
            // An exam that ends early says why.
            ("/reason", Value::Null),
            ("/reason/code", json!("Not A Code")),
        ],
    );
}

#[test]
fn gate_is_checked() {
    check(
        "gate",
        &[
            ("/accept", json!("true")),
            ("/image", Value::Null),
            ("/checks/0/outcome", json!("maybe")),
            ("/checks/0/code", json!({"system": "DCM", "code": "111211"})),
        ],
    );
}

#[test]
fn findings_are_checked() {
    check(
        "findings",
        &[
            ("/exam/key", json!("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
            ("/exam/patient", json!("somebody")),
            ("/images", json!([])),
            ("/images/0/view", json!("oblique")),
            ("/images/0/ood", Value::Null),
            ("/findings/0/decision", json!("certain")),
            ("/findings/0/probability", json!(1.2)),
            ("/findings/0/validation", Value::Null),
            // A finding that is not absent stands on something.
            ("/findings/0/evidence", json!([])),
            ("/findings/0/evidence/0/share", json!("most")),
            ("/findings/0/evidence/0/region/type", json!("cloud")),
            ("/findings/0/evidence/0/region/space", json!("model-pixels")),
        ],
    );
}

#[test]
fn reports_are_checked_and_never_final() {
    check(
        "report",
        &[
            ("/status", json!("final")),
            ("/status", json!("withheld")),
            ("/watermark", json!("VERIFIED")),
            ("/watermark", Value::Null),
            ("/revision", json!(0)),
            ("/sections/0/code", json!("diagnosis")),
            ("/sections/0/sentences/0/origin", json!("guess")),
            ("/sections/0/sentences/0/support", Value::Null),
        ],
    );
}

#[test]
fn the_examples_are_what_the_appliance_writes() {
    check_type::<Judgement>("gate", "");
    check_type::<Check>("findings", "/images/0/conformance/1");
    check_type::<Ood>("findings", "/images/0/ood");
    check_type::<Finding>("findings", "/findings/0");
    check_type::<Finding>("findings", "/findings/1");
    check_type::<DraftReport>("report", "");
}
