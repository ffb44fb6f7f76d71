//! What the operator and `up` share of the Kubernetes API: the shapes of its objects, connections to its server,
//! answers that are errors, names, and types of conditions.
//!
//! No decisions: those are the operator's and `up`'s. Called by both, and by `seed` for the names.

pub(crate) mod client;
pub mod conditions;
pub(crate) mod errors;
pub(crate) mod locks;
pub mod names;
pub(crate) mod types;
