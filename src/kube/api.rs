//! Parts of the Kubernetes API that the operator and `up` share: shapes of objects, connections to the API server,
//! its error answers, names, and condition types.
//!
//! No decisions: those are the operator's and `up`'s. Called by both, and by `seed` for the names.

pub(crate) mod client;
pub mod conditions;
pub(crate) mod errors;
pub(crate) mod kubeconfig;
pub(crate) mod locks;
pub mod names;
pub(crate) mod types;
