//! Distribution's configuration, given to distribution's registries and to this program: the same file, the
//! same variables and the same folder give the same answers.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod collection;
mod exchanges;
mod login_times;
mod notifications;
mod pages;
mod program;
mod questions;
mod races;
mod replacement;
mod same_answers;
mod start;
mod tls;
mod tokens;
mod users;
mod variables;
mod warnings;
