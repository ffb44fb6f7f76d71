//! The documents: every table that code can check says what the code says.
//!
//! These tests read files alone. Tests that need the program's types stand beside those types: the remedies in
//! `up`, the metrics in `tests/chart`, the exit codes in `cli`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod conditions;
mod contributing;
mod hostile_inputs;
mod metrics;
mod page;
mod reproducible_builds;
mod resource;
mod security;
