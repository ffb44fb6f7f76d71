//! Registries on buckets: this program and distribution's registries on one bucket, several replicas of this
//! program, and stores that fail.
//!
//! versitygw and Azurite are real stores; the stub of `tests/support` fails as a test tells it to, and counts
//! requests. A missing program skips its tests; with `QUINISTRY_TESTS_STRICT=1`, as in CI, they fail instead.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of several programs")]
mod support {
    pub mod azurite;
    pub mod certificates;
    pub mod delay_proxy;
    pub mod distribution;
    pub mod http;
    pub mod images;
    pub mod ports;
    pub mod process;
    pub mod round_robin;
    pub mod server;
    pub mod skip;
    pub mod stub_store;
    pub mod tools;
    pub mod versitygw;
}

mod attempt;
mod azure;
mod baseline;
mod client;
mod collection;
mod conformance;
mod credentials;
mod faults;
mod gcs;
mod immutability;
mod interchange;
mod kept_probe;
mod kills;
mod leader;
mod memory;
mod migrate;
mod pending;
mod probe;
mod replicas;
mod requests;
mod roots;
mod scrub;
mod soak;
mod start;
mod stores;
mod stub;
mod tags;
mod upstreams;
