//! Metrics and access log as other programs read them: `promtool`, `goaccess` and distribution's own page
//! beside ours. `docs/metrics.md` describes the same metrics.
//!
//! Where a program is missing the test is skipped and says so; with `QUINISTRY_TESTS_STRICT=1`, as in CI, it
//! fails instead. `.ci/tools` installs what is needed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod distribution;
mod documents;
mod exposition;
mod registry;
mod tools;
