//! Registries on buckets. The stub of an object store in `tests/support` fails as a test tells it to, and counts
//! requests.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of several programs")]
mod support {
    pub mod http;
    pub mod stub_store;
}

mod stub;
