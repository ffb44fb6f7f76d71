//! Several stores over one storage that is shared, as replicas over a bucket are.

mod catalog;
mod coherence;
mod interleavings;
mod lead;
mod referrers;
mod replicas;
mod requests;
mod retention;
pub(crate) mod storage;
mod tags;

use bytes::Bytes;
use quinistry_oci::{Digest, Reference};

pub(super) use self::storage::SharedMemory;
use super::{manifest, name, push_blob, put};
use crate::{Store, StoreError};

/// Repository of most tests.
const NAME: &str = "team/app";

/// Opens one more replica over a storage.
fn replica(storage: &SharedMemory) -> Store {
    Store::open(storage.clone(), false).unwrap()
}

/// Makes a replica the leader.
fn lead(store: &Store) {
    store.renew_lead().unwrap();
    assert!(store.lead().is_some(), "no other replica leads");
}

/// Pushes the parts of a manifest with this note, and returns its bytes.
fn image(store: &Store, note: &str) -> Bytes {
    push_blob(store, NAME, b"{}").unwrap();
    push_blob(store, NAME, b"layer").unwrap();
    manifest(b"layer", note)
}

/// Returns the digest that a tag is served with.
fn served(store: &Store, tag: &str) -> Result<Digest, StoreError> {
    store.manifest(&name(NAME), &Reference::Tag(tag.parse().unwrap())).map(|manifest| manifest.digest)
}
