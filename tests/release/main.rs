//! The release: the scripts of `.ci/release` as the release workflow runs them, against registries on
//! loopback, and the install script against a web server on loopback. Nothing here needs the network.
//!
//! The binary that is released is the program under test: that a release build is reproducible is
//! `.ci/reproducible`'s.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

// Only what needs nothing of the library: so it is not linked.
#[path = "../support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of several programs")]
mod support {
    pub mod http;
    pub mod process;
    pub mod scripted_registry;
    pub mod server;
    pub mod skip;
}

mod bill_of_materials;
mod chart;
mod files;
mod image;
mod install;
mod scripts;
