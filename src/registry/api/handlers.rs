//! Handlers of the endpoints, one file per kind of object.

pub(super) mod blobs;
pub(super) mod listing;
pub(super) mod manifests;
pub(super) mod peers;
pub(super) mod readyz;
pub(super) mod referrers;
mod remote_blobs;
pub(super) mod tokens;
pub(super) mod uploads;
pub(super) mod upstreams;
