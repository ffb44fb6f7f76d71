//! Quinistry, the registry that ships itself.
//!
//! One static binary that is an OCI registry serving an image of itself. The rooms, from the inside out:
//!
//! - [`oci`]: the nouns of the OCI specifications, parsed once and valid ever after. Pure.
//! - [`quine`]: the image computed from an executable's bytes, and nothing else. Pure, but for reading
//!   `/proc/self/exe`.
//! - [`layout`]: images as files: OCI image layouts and archives, written and read.
//! - [`store`]: what was pushed, in distribution's layout, on memory or a folder.
//! - [`registry`]: HTTP over the above.
//! - [`client`]: pulling from and pushing to any registry.
//! - [`chain`]: generations on one machine, each pulled from the one before and proven equal to it.
//! - [`crd`]: the Kubernetes resource, its schema and its vocabulary.
//! - [`operator`]: raises generations on the nodes of a cluster: observe, plan, build, apply, verify, report.
//! - [`seed`]: generation 0: the executable in `ConfigMaps`, and the images that carry it.
//! - [`up`]: all of that raised on a cluster that holds nothing of ours, shown, and taken down again.
//! - [`escape`]: untrusted text on its way to a terminal or a log. Pure.
//! - `proxy`: which proxy leads to an address. Pure, but for the connections through it.
//! - [`cli`]: the program's subcommands, one file each.
//!
//! Arrows point one way: `oci ← quine`, `oci ← layout`, `oci ← store`, `{oci, quine, store} ← registry`, `{oci, layout} ← client`,
//! `{quine, client} ← chain`, `{crd, oci, client, seed} ← operator`, `{crd, seed, operator} ← up`, everything `← cli`.

pub mod api;
pub mod chain;
pub mod cli;
pub mod client;
#[allow(unreachable_pub, reason = "the derive macros of kube repeat the types in private modules")]
pub mod crd;
pub mod escape;
pub mod layout;
mod lenient;
pub mod nss;
pub mod oci;
mod one_line;
pub mod operator;
mod proxy;
pub mod quine;
pub mod registry;
pub mod seed;
pub mod segments;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod up;
