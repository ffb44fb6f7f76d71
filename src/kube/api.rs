//! Parts of the Kubernetes API that the operator and the installer share: types of objects, connections to
//! the API server, kubeconfigs, errors, names, and condition types.
//!
//! Makes no decisions: the operator and the installer do. Called by both, and by `seed` for the names.

pub(crate) mod client;
pub mod conditions;
pub(crate) mod credentials;
pub(crate) mod errors;
pub(crate) mod kubeconfig;
pub(crate) mod locks;
pub mod names;
pub(crate) mod tls;
pub(crate) mod types;
