//! Quinistry, the registry that ships itself.
//!
//! One static binary that is an OCI registry serving an image of itself. The rooms, from the inside out; all but the last
//! two are crates of their own, and Cargo sees to it that arrows point one way:
//!
//! - [`oci`]: the nouns of the OCI specifications, parsed once and valid ever after; content at an offset
//!   ([`oci::Content`]); images as files ([`oci::layout`]); untrusted text on its way to a terminal or a log
//!   ([`oci::escape`]).
//! - [`quine`]: the image computed from an executable's bytes, and nothing else. Pure, but for reading
//!   `/proc/self/exe`.
//! - [`store`]: what was pushed, in distribution's layout, on memory or a folder.
//! - [`http`]: servers: a listener whose clients are bounded, the end of the process, and its log.
//! - [`client`]: pulling from and pushing to any registry.
//! - [`registry`]: HTTP over the quine and the store.
//! - [`crd`], [`seed`], [`operator`], [`install`]: Kubernetes: the resource; generation 0; what raises generations on
//!   nodes; what raises all of that on a cluster that holds nothing of ours.
//! - [`chain`]: generations on one machine, each pulled from the one before and proven equal to it.
//! - [`cli`]: the program's subcommands, one file each.
//!
//! `oci ← quine`, `oci ← store`, `oci ← client`, `{oci, quine, store, http} ← registry`,
//! `{oci, quine, client, http} ← {crd, seed, operator, install}`, `{oci, quine, client} ← chain`, everything `← cli`.
//! The registry and Kubernetes know nothing of each other, and `http` knows none of the others.

pub mod chain;
pub mod cli;

pub use quinistry_client as client;
pub use quinistry_http as http;
pub use quinistry_kube::{api, crd, install, operator, seed};
pub use quinistry_oci::{self as oci, escape, layout};
pub use quinistry_quine as quine;
pub use quinistry_registry as registry;
pub use quinistry_store as store;

use quinistry_http::{nss, shutdown, telemetry};
