//! The seed: generation 0, raised in a cluster that can reach no registry and holds no image of ours.
//!
//! What its pods are made of, and nothing that speaks to a cluster: the executable lies in `ConfigMap`s, and a [`STUB`] of
//! some kilobytes puts it together in memory within any image that a node has. Pure. To be used by the operator and by the
//! command line.

mod stub;

pub use stub::{STUB, exit};
