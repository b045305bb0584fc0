//! Is the house in order? Each rule is a pure function over the workspace's files, and each is
//! tried on planted violations first, so that a rule that sees nothing is noticed.

mod paths;
mod planted;
mod rules;
mod sources;

use clearfilm_tests::{text, tracked};

/// Every finding of a rule on the tree, or none.
#[track_caller]
fn check(rule: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{rule}: {} found\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_module_looks_only_upstream() {
    check(
        "looks only upstream",
        sources::upstream(&sources::order(&text(sources::LIB)), &tracked()),
    );
}

#[test]
fn every_file_of_the_runtime_belongs_to_a_declared_module() {
    check(
        "declared in lib.rs",
        sources::declared(&sources::order(&text(sources::LIB)), &tracked()),
    );
}

#[test]
fn each_outside_crate_has_one_door() {
    check("one door per crate", sources::doors(&tracked()));
}

#[test]
fn every_source_says_what_it_is() {
    check("header", rules::headers(&tracked()));
}

#[test]
fn no_source_is_longer_than_can_be_read_at_once() {
    check("size", rules::sizes(&tracked()));
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    check("top level", rules::top_level(&tracked()));
}

#[test]
fn no_picture_and_no_dicom_object_is_in_the_repository() {
    check("forbidden file", rules::forbidden(&tracked()));
}

#[test]
fn the_code_map_lists_the_modules_as_they_are_declared() {
    let order = sources::order(&text(sources::LIB));
    check("code map", rules::code_map(&order, &text("ARCHITECTURE.md")));
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    check("links", rules::links(&tracked()));
}

#[test]
fn decisions_are_short_and_numbered() {
    check("decisions", rules::decisions(&tracked()));
}
