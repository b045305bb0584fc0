//! The house inspected, in one binary: one link for all system tests.

mod schemas;
mod tidy;
