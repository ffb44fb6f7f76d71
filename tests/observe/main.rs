//! Metrics and access log as other programs read them: `promtool`, `goaccess` and distribution's own page
//! beside ours. `docs/metrics.md` describes the same metrics.
//!
//! A test whose program is missing is skipped and prints that. With `QUINISTRY_TESTS_STRICT=1`, as in CI, the
//! test fails. `.ci/tools` installs the programs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod distribution;
mod documents;
mod exposition;
mod failures;
mod registry;
mod tools;
