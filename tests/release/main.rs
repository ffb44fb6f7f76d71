//! The release: the scripts of `.ci/release` as the release workflow runs them, against registries on
//! loopback, and the install script against a web server on loopback. Nothing here needs the network.
//!
//! The binary that is released is the program under test: that a release build is reproducible is
//! `.ci/reproducible`'s.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod bill_of_materials;
mod chart;
mod files;
mod image;
mod install;
mod scripts;
