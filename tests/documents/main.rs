//! The documents: their links, every table that code can check, and the rooms that `ARCHITECTURE.md` draws.
//!
//! These tests read files and ask Cargo, and need nothing of the library. Tests that need the program's types
//! stand beside those types: the remedies in `up`, the metrics in `tests/kubernetes/chart`, the exit codes in
//! `cli`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod air_gap;
mod conditions;
mod contributing;
mod hostile_inputs;
mod links;
mod metrics;
mod page;
mod reproducible_builds;
mod resource;
mod rooms;
mod security;
