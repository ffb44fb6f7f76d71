//! The registry from outside: the program through sockets, and the same registry in this process where a test
//! needs limits that the command line does not offer.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod peers;
mod prepare_storage;
mod push;
mod serve;
mod wire;
