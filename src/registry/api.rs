//! HTTP API of the OCI distribution-spec: from request to response.
//!
//! Reads a request (route, method, query, references, body), calls the handler of its endpoint, and writes
//! the response. Mounted by the crate's [`State`](crate::State); knows the store, and nothing of listeners.

mod access;
mod authorization;
pub(crate) mod dispatch;
mod handlers;
pub(crate) mod method;
mod panic;
pub(crate) mod query;
pub(crate) mod references;
mod request_body;
pub(crate) mod response;
pub(crate) mod route;
pub(crate) mod trail;
pub(crate) mod upload_state;
pub(crate) mod validation;
