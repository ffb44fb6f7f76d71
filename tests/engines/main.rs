//! Real clients against the real program: what the README promises about container engines and registry
//! tools.
//!
//! Each test raises a machine of its own (see [`machine`]), with the registry and the client's daemon in it,
//! and shares nothing with the others. Where root or a client is missing the test is skipped and says so;
//! with `QUINISTRY_TESTS_STRICT=1`, as in CI, it fails instead. `.ci/tools` installs what is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

// Only what needs nothing of the library: so it is not linked.
#[path = "../support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of several programs")]
mod support {
    pub mod process;
    pub mod skip;
}

mod containerd;
mod crane;
mod curl;
mod docker;
mod helm;
mod machine;
mod mirrors;
mod program;
mod regctl;
mod skopeo;
mod sub_path;
mod tls;
mod upstreams;
