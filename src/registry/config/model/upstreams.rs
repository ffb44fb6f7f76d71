//! Upstreams, whose settings are the registry's own.

pub use crate::upstreams::{
    InsecureUpstream, MissingPolicy, Namespace, PrefetchRule, UpstreamCredentials, UpstreamSettings,
};
