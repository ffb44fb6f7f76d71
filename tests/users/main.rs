//! Users and TLS, as real clients and distribution's registry see them.
//!
//! Each test raises a machine of its own, as those of `tests/engines` do: with registries, clients and their
//! daemons in it. Where root or a client is missing the test is skipped and says so; with
//! `QUINISTRY_TESTS_STRICT=1`, as in CI, it fails instead. `.ci/tools` installs what is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of several programs")]
mod support {
    pub mod images;
    pub mod process;
    pub mod skip;
}
#[path = "../engines/machine.rs"]
#[allow(dead_code, reason = "the same file is a module of two programs")]
mod machine;
#[path = "../engines/program.rs"]
#[allow(dead_code, reason = "the same file is a module of two programs")]
mod program;

mod attempt;
mod changes;
mod client_certificates;
mod clients;
mod instructions;
mod matrix;
mod proxy;
mod registry;
mod resumed_push;
mod scripted;
mod session;
mod tcp_proxy;
mod tokens;
