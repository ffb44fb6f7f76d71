//! Quinistry on Kubernetes.
//!
//! - [`api`]: what the operator and the installer share of the Kubernetes API: shapes, connections, names.
//! - [`crd`]: the resource, its schema and its vocabulary.
//! - [`operator`]: raises generations on the nodes of a cluster: observe, plan, build, apply, verify, report.
//! - [`seed`]: generation 0: the executable in `ConfigMaps`, and the images that carry it.
//! - [`install`]: all of that raised on a cluster that holds nothing of ours, shown, and taken down again.
//!
//! Arrows point one way: `api ← {crd, seed}`, `{crd, seed} ← operator`, `{crd, seed, operator} ← install`.

pub mod api;
mod connector;
#[allow(unreachable_pub, reason = "the derive macros of kube repeat the types in private modules")]
pub mod crd;
pub mod install;
mod lenient;
mod one_line;
pub mod operator;
pub mod seed;
