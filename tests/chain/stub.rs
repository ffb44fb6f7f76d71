//! The stub of generation zero, run for real: what it becomes, how it fails, and what it does where memory must not be
//! executed.
//!
//! As the user that a pod has, if the tests are root; some need to be, and say so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod becomes;
mod fails;
mod file;
mod pod;
mod scratch;
mod seccomp;
