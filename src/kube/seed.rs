//! Generation 0: a registry that needs no registry to start.
//!
//! The executable is split into `ConfigMaps` ([`SplitExecutable`]), which the API server stores. On each node
//! a pod in a *carrier*, an image that the node already has ([`carrier`]), runs the *stub* ([`STUB`]), a
//! program of a few kilobytes from a `ConfigMap` of its own. The stub assembles the parts in memory, checks
//! their hash, and executes them ([`pod`]). From then on the whole executable runs and serves its own image,
//! as every generation does.
//!
//! Pure: no client, no files. Called by `operator`, which owns generation 0, and by `install`, which starts
//! it.

pub mod carrier;
mod embedded_stub;
pub mod pod;
mod split;
mod stub;

pub use embedded_stub::stub_of;
pub use split::{SEED_PART_BYTES, SeedNames, SeedPart, SplitExecutable};
pub use stub::{STUB, exit};

pub use crate::api::names::labels::{NAME, SEED};
