//! Generation 0: a registry that is raised with no registry at all.
//!
//! The executable is cut into `ConfigMaps` ([`SplitExecutable`]), which the API server keeps. On each node a pod in a *carrier*, an
//! image that the node has anyway ([`carrier`]), runs the *stub* ([`STUB`]), a program of a few kilobytes from a `ConfigMap`
//! of its own: it puts the pieces together in memory, checks their hash, and executes them ([`pod`]). What runs then is
//! the whole executable, which serves its own image as every generation does.
//!
//! Pure: no client, no files. Called by `operator`, which owns generation 0, and by `up`, which begins it.

pub mod carrier;
mod embedded_stub;
pub mod pod;
mod split;
mod stub;

pub use embedded_stub::stub_of;
pub use split::{SEED_PART_BYTES, SeedNames, SeedPart, SplitExecutable};
pub use stub::{STUB, exit};

pub use crate::api::names::labels::{NAME, SEED};
