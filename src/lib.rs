//! Quinistry, the registry that ships itself.
//!
//! One static binary that is an OCI registry serving an image of itself. The rooms, from the inside out. All
//! but the last two are crates of their own, and Cargo enforces that arrows point one way:
//!
//! - [`oci`]: the nouns of the OCI specifications, parsed once and valid ever after; content at an offset
//!   ([`oci::Content`]); images as files ([`oci::layout`]); untrusted text on its way to a terminal or a log
//!   ([`oci::escape`]).
//! - [`quine`]: the image computed from an executable's bytes alone. Pure, except for reading `/proc/self/exe`.
//! - [`store`]: pushed content in distribution's layout, in memory or in a folder.
//! - [`bucket`]: object stores as the storage of a registry.
//! - [`http`]: server parts: a listener with limits per client, shutdown and telemetry.
//! - [`client`]: pulls from and pushes to any registry.
//! - [`upstream`]: the registries that a pull-through cache asks.
//! - [`registry`]: the registry's HTTP API over the quine and the store.
//! - [`crd`], [`seed`], [`operator`], [`install`]: Kubernetes: the resource definition; generation 0; the operator
//!   that raises generations on nodes; `up`, `down`, `check` and `status` for a cluster without an image of quinistry.
//! - [`chain`]: generations on one machine, each pulled from the one before and proven equal to it.
//! - [`cli`]: the program's subcommands, one file each.
//!
//! `oci ← quine`, `oci ← store`, `store ← {bucket, fetch}`, `oci ← client`, `{oci, client, fetch} ← upstream`,
//! `{oci, quine, store, fetch, http} ← registry`,
//! `{oci, quine, client, http} ← {crd, seed, operator, install}`, `{oci, quine, client} ← chain`, everything `← cli`.
//! The registry and the Kubernetes crates never import each other, and `http` imports none of the others.

pub mod chain;
pub mod cli;

pub use quinistry_bucket as bucket;
pub use quinistry_client as client;
pub use quinistry_http as http;
pub use quinistry_kube::{api, crd, install, operator, seed};
pub use quinistry_oci::{self as oci, escape, layout};
pub use quinistry_quine as quine;
pub use quinistry_registry as registry;
pub use quinistry_store as store;
pub use quinistry_upstream as upstream;

use quinistry_http::{nss, shutdown, telemetry};
