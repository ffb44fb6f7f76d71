//! Quinistry on Kubernetes.
//!
//! - [`api`]: parts of the Kubernetes API that the operator and the installer share: types, connections,
//!   names.
//! - [`crd`]: the resource, its schema and its vocabulary.
//! - [`operator`]: raises generations on the nodes of a cluster: observe, plan, build, apply, verify, report.
//! - [`seed`]: generation 0: the executable in `ConfigMaps`, and the images that carry it.
//! - [`install`]: installs all of that on a cluster without images of quinistry, shows its status, and
//!   removes it; finds the way to the pods of a store.
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
mod sorted;
