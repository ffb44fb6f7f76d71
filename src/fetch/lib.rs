//! Blobs that other places have, streamed to clients while they are fetched.
//!
//! A [`Source`] sends content by its digest: an upstream registry, or a store of the same cluster. [`Fetches`] asks it
//! once for each blob, by a task that outlives its first client. Every client reads the staged bytes behind that task,
//! at its own speed. The last bytes are withheld until the hash holds: no client ever receives a complete wrong blob,
//! and none waits for a complete right one. Blobs are published by [`Store::commit`](quinistry_store::Store::commit)
//! alone; those that are too long to be stored, or have no store, are passed through with the same withholding.
//!
//! | step | file |
//! |---|---|
//! | what follows an answer, a piece or a break (pure) | `transfer.rs` |
//! | lengths: withheld, worth storing, worth going on (pure) | `policy.rs` |
//! | sources that lied a moment ago, or are too slow (pure) | `poison.rs`, `pace.rs` |
//! | what clients know of a fetch, and what they do next (pure) | `progress.rs` |
//! | which repositories have the blob in the end (pure) | `publication.rs` |
//! | one request to a source, with its deadlines | `exchange.rs` |
//! | where bytes lie until they are stored | `staging.rs` |
//! | the task of a fetch | `task.rs` |
//! | a client's reading | `reader.rs`, `pass_through.rs` |
//! | how many caches a request has passed | `hops.rs` |
//! | which fetches run, for whom, and the room that they will take | `fetches.rs`, `running.rs`, `promised_room.rs` |
//!
//! Knows nothing of HTTP, routes or rights: the caller decides who may have a blob, and of which source. Used by
//! `registry`.

mod error;
mod exchange;
mod fetches;
pub mod hops;
mod pace;
mod pass_through;
mod peer;
mod poison;
mod policy;
mod progress;
mod promised_room;
mod publication;
mod reader;
mod running;
mod source;
mod staging;
mod task;
mod transfer;
mod upstream;

#[cfg(test)]
mod tests;

pub use error::{FetchError, Lie};
pub use fetches::{FetchObserver, FetchOptions, Fetched, Fetches, Opened, Request};
pub use peer::Peer;
pub use reader::{READ_BYTES, Reader};
pub use source::{Answer, Answered, Body, Source, SourceError, Turn, TurnWait, Validator, Wanted};
pub use upstream::{ManifestHead, ManifestHeaders, Told, Upstream, UpstreamManifest};
