//! The client: its library against registries that misbehave, and the commands of the program.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod credentials;
mod distribution;
mod fallbacks;
mod login;
mod peers;
mod referrers;
mod tls;
mod transfers;
