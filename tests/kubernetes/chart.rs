//! The Helm chart, through a real helm: it renders what it is meant to, and refuses what makes no sense.
//!
//! Whether a cluster takes what is rendered is shown by the end-to-end suite.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test")]

#[path = "../support/skip.rs"]
#[expect(dead_code, reason = "what other test programs use of it")]
mod skip;

mod alerts;
mod helm;
mod metadata;
mod objects;
mod package;
mod readme;
mod renders;
mod restricted;
mod rights;
mod values;
