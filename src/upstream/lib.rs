//! Upstream registries of a pull-through cache, over HTTP.
//!
//! [`Remote`] asks one registry for manifests, tags, referrers and blobs, as the traits
//! [`Upstream`](quinistry_fetch::Upstream) and [`Source`](quinistry_fetch::Source) of `fetch` have it. Neither side is
//! trusted: nothing of a client's request reaches the upstream, and of an answer's headers only type, digest, length,
//! range and entity tag are read, each parsed and made again. Content is hashed by the caller.
//!
//! | idea | file |
//! |---|---|
//! | distance of addresses from this machine (pure) | `address.rs` |
//! | hosts that get credentials, and where they may be (pure) | `trust.rs` |
//! | meaning of statuses and headers (pure) | `answer.rs` |
//! | resolving, checking and dialling | `network.rs` |
//! | one request to one address | `transport.rs` |
//! | requests along redirects, with authorization | `exchange.rs`, `authorize.rs` |
//! | tokens, credentials, and programs that print them | `tokens.rs`, `credentials.rs`, `helper.rs` |
//! | connections at a time | `connections.rs` |
//! | questions | `manifests.rs`, `lists.rs`, `blobs.rs` |
//! | the upstream, and its options | `remote.rs`, `options.rs` |
//! | registries of the same cluster, without all of this | `peer.rs` |
//!
//! Redirects lead no nearer to this machine than the upstream itself is: an upstream on the internet cannot have this
//! registry ask a private address, nor the metadata service of a cloud, by a name that resolves to one either. Where
//! the environment names a proxy, the proxy resolves names, so that only addresses in URLs are checked.
//!
//! Uses `client` for the grammar of headers, TLS, proxies and credentials. Used by the program, which gives it to
//! `registry`.

mod address;
mod answer;
mod authorize;
mod blobs;
mod body;
mod connections;
mod credentials;
mod error;
mod exchange;
mod helper;
mod lists;
mod manifests;
mod network;
mod options;
mod peer;
mod remote;
mod tokens;
mod transport;
mod trust;

#[cfg(test)]
mod tests;

pub use options::{DEFAULT_MAX_CONNECTIONS, Insecure, RemoteCredentials, RemoteError, RemoteOptions};
pub use peer::{HttpPeer, PeerAddress, PeerAddressError, PeerError};
pub use remote::Remote;
