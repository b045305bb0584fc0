//! The tests of the test: each rule sees the violation that was planted for it, and nothing in
//! what is in order.

use clearfilm_tests::File;

use super::{rules, sources};

/// A rule's findings on planted files: one that holds each of `expected`, and no others.
#[track_caller]
fn check(wrong: &[String], expected: &[&str]) {
    assert_eq!(wrong.len(), expected.len(), "expected {expected:?}, found {wrong:?}");
    for (wrong, expected) in wrong.iter().zip(expected) {
        assert!(wrong.contains(expected), "expected {expected:?}, found {wrong:?}");
    }
}

fn upstream(path: &str, text: &str) -> Vec<String> {
    let lib = "pub mod id;\n\n// The data's way.\npub mod gate;\nmod store;\npub mod publish;\n";
    sources::upstream(&sources::order(lib), &[File::planted(path, text)])
}

fn doors(path: &str, text: &str) -> Vec<String> {
    sources::doors(&[File::planted(path, text)])
}

#[test]
fn a_gate_that_uses_publish_is_seen() {
    check(
        &upstream("runtime/src/gate.rs", "use crate::publish::Outbox;\n"),
        &["gate.rs:1: gate looks at publish"],
    );
    check(
        &upstream("runtime/src/gate.rs", "use crate::{id::Uid, publish};\n"),
        &["gate looks at publish"],
    );
    check(
        &upstream("runtime/src/gate.rs", "fn f() {\n    crate::store::open();\n}\n"),
        &["gate.rs:2: gate looks at store"],
    );
}

#[test]
fn looking_down_from_a_test_or_by_super_is_seen_too() {
    let test = "mod tests {\n    use crate::publish;\n}\n";
    check(&upstream("runtime/src/gate.rs", test), &["gate.rs:2: gate looks at publish"]);
    check(
        &upstream("runtime/src/gate/words.rs", "use super::super::publish::A;\n"),
        &["gate looks at publish"],
    );
    check(
        &upstream("runtime/src/gate.rs", "mod tests { use super::super::store; }\n"),
        &["gate looks at store"],
    );
    check(
        &upstream("runtime/src/gate/mod.rs", "use super::{store, id};\n"),
        &["gate looks at store"],
    );
}

#[test]
fn looking_up_or_inside_is_in_order() {
    let text =
        "use crate::id::Uid;\nuse self::words::A;\nmod tests { use super::*; use super::words; }\n";
    check(&upstream("runtime/src/gate/mod.rs", text), &[]);
    check(&upstream("runtime/src/gate/words.rs", "use super::check;\nuse crate::gate::B;\n"), &[]);
    check(&upstream("runtime/src/cli/read.rs", "use crate::publish;\n"), &[]);
    check(
        &upstream(
            "runtime/src/gate.rs",
            "//! [`crate::publish`] sends it.\n/* crate::publish::x */\n",
        ),
        &[],
    );
    check(&upstream("runtime/src/gate.rs", "const A: &str = \"crate::publish::x\";\n"), &[]);
}

#[test]
fn a_module_that_is_not_declared_is_seen() {
    check(&upstream("runtime/src/gate.rs", "use crate::helpers::x;\n"), &["gate looks at helpers"]);
    let order = sources::order("pub mod id;\n");
    let files = [
        "runtime/src/id.rs",
        "runtime/src/lib.rs",
        "runtime/src/cli/read.rs",
        "runtime/src/stray.rs",
    ];
    check(&sources::declared(&order, &files.map(|f| File::planted(f, ""))), &["stray.rs"]);
}

#[test]
fn a_crate_that_comes_in_by_another_door_is_seen() {
    check(
        &doors("runtime/src/gate.rs", "use sled::Db;\n"),
        &["gate.rs:1: expected sled only in store, found it in gate"],
    );
    check(
        &doors("runtime/src/store/mod.rs", "fn f() { rumqttc::v5::x() }\n"),
        &["expected rumqttc only in publish"],
    );
    check(
        &doors("runtime/src/sparse.rs", "use {std::fs, tract_onnx::prelude::*};\n"),
        &["expected tract_onnx only in encode"],
    );
    check(
        &doors("runtime/src/health.rs", "extern crate dicom_core;\n"),
        &["expected dicom_core only in"],
    );
    check(
        &doors("runtime/src/reading.rs", "async fn f() { tokio::spawn(g()); }\n"),
        &["expected tokio only in"],
    );
}

#[test]
fn a_crate_at_its_own_door_is_in_order_and_a_name_is_no_crate() {
    check(&doors("runtime/src/store/mod.rs", "use sled::{Db, Tree};\n"), &[]);
    check(
        &doors(
            "runtime/src/evidence.rs",
            "fn f(x: X) -> Y { let image = x.image; crate::image::of(image) }\n",
        ),
        &[],
    );
    check(&doors("provisioning/src/main.rs", "use anyhow::Context;\n"), &[]);
}

#[test]
fn a_source_without_a_header_is_seen() {
    let files = [
        File::planted("a.rs", "use std::fs;\n"),
        File::planted("b.rs", "\n//! Says what it is.\n"),
        File::planted("c.py", "#!/usr/bin/env python3\nimport os\n"),
        File::planted("d.py", "#!/usr/bin/env python3\n\"\"\"Says what it is.\"\"\"\n"),
        File::planted("e.sh", "#!/bin/sh\nset -e\n"),
        File::planted(".ci/run", "#!/bin/sh\n# Says what it is.\n"),
        File::planted("f.toml", "a = 1\n"),
    ];
    check(&rules::headers(&files), &["a.rs", "c.py", "e.sh"]);
}

#[test]
fn a_source_of_401_lines_is_seen() {
    let of = |path, lines| File::planted(path, &"x\n".repeat(lines));
    check(
        &rules::sizes(&[of("a.rs", 400), of("b.rs", 401), of("c.py", 500), of("d.md", 900)]),
        &["b.rs", "c.py"],
    );
}

#[test]
fn a_stray_entry_of_the_top_level_is_seen() {
    let files = [
        ".ci/run",
        "runtime/src/lib.rs",
        "tests/src/lib.rs",
        "README.md",
        "notes.txt",
        "src/lib.rs",
    ];
    check(&rules::top_level(&files.map(|f| File::planted(f, ""))), &["notes.txt", "src"]);
}

#[test]
fn a_picture_or_a_dicom_object_is_seen_under_any_name() {
    let object = [&[0; 128][..], b"DICM"].concat();
    let files = [
        File::planted("docs/chest.PNG", ""),
        File::planted("tests/golden/phantom.png", ""),
        File::planted("tests/golden/image.dcm", ""),
        File { path: "models/data.bin".into(), bytes: object },
    ];
    check(&rules::forbidden(&files), &["docs/chest.PNG", "image.dcm", "data.bin"]);
}

#[test]
fn a_code_map_that_is_not_the_code_is_seen() {
    let map = |modules: &[&str]| {
        let rows: String = modules.iter().map(|m| format!("| `{m}` | words |\n")).collect();
        format!(
            "# A\n\n## Code map\n\n| module | does |\n| --- | --- |\n{rows}\n## Doors\n\n| `sled` | store |\n"
        )
    };
    let order: Vec<String> = ["id", "gate"].map(Into::into).into();
    check(&rules::code_map(&order, &map(&["id", "gate"])), &[]);
    check(&rules::code_map(&order, &map(&["gate", "id"])), &["order"]);
    check(&rules::code_map(&order, &map(&["id", "gates"])), &["module gate in", "lists gates"]);
    check(&rules::code_map(&order, "# A\n"), &["module id", "module gate"]);
}

#[test]
fn a_link_that_leads_nowhere_or_outside_is_seen() {
    let text = "[a](b.md) [c](../README.md#x) [d](sub) [e](https://example.org/x.md)\n\
                ```\n[f](not-a-link.md)\n```\n[g](gone.md)\n[h](../../other/x.md)\n[i](#here)\n";
    let files = [
        File::planted("docs/a.md", text),
        File::planted("docs/b.md", ""),
        File::planted("docs/sub/c.md", ""),
        File::planted("README.md", ""),
    ];
    check(
        &rules::links(&files),
        &["docs/a.md:5: expected docs/gone.md", "docs/a.md:6: ../../other/x.md leads out"],
    );
}

#[test]
fn a_decision_that_rambles_is_seen() {
    let parts = "# A\n## Context\n## Decision\n## Consequences\n## Rejected\n";
    let long = format!("{parts}{}", "x\n".repeat(60));
    let files = [
        File::planted("docs/decisions/0001-a.md", parts),
        File::planted("docs/decisions/0003-b.md", parts),
        File::planted("docs/decisions/0003-c.md", &long),
        File::planted(
            "docs/decisions/0004-d.md",
            "# A\n## Context\n## Decision\n## Consequences\n",
        ),
    ];
    check(&rules::decisions(&files), &["0002-", "at most 60 lines, found 65", "Rejected"]);
}
