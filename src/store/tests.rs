//! Tests of the store as a whole, on a folder.

mod absent_parts;
mod collection;
mod contract;
mod copies;
mod failures;
mod fsck;
mod integrity;
mod lists;
mod migrate;
mod model;
mod referrers;
mod replay;
mod retention;
mod scrub;
pub(crate) mod shared;
mod tag_rules;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quinistry_oci::{Digest, Manifest, Reference, RepositoryName, Tag, media_type, to_json};
use serde_json::{Value, json};

use super::layout::{Key, blob};
use super::{Access, Filesystem, Store, StoreError, Tagged};

/// Creates a folder on a file system that flushes at once, if there is one: these tests do not cut off the
/// power.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(folder: &Path) -> Store {
    Store::open(Filesystem::open(folder, Access::Write).unwrap(), false).unwrap()
}

fn open_again(store: Store, folder: &Path) -> Store {
    drop(store);
    open(folder)
}

pub(super) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

pub(super) fn push_blob(store: &Store, repository: &str, bytes: &[u8]) -> Result<Digest, StoreError> {
    let digest = Digest::sha256(bytes);
    let mut receiver = store.receive(&digest, None)?;
    receiver.append(bytes)?;
    store.commit(&name(repository), &mut receiver, &digest)?;
    Ok(digest)
}

/// Creates a manifest of one layer, which differs from others by a note.
fn manifest(layer: &[u8], note: &str) -> Bytes {
    let descriptor = |bytes: &[u8]| json!({"mediaType": "application/octet-stream", "digest": Digest::sha256(bytes), "size": bytes.len()});
    let manifest: Value = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "annotations": {"note": note},
        "config": descriptor(b"{}"), "layers": [descriptor(layer)],
    });
    to_json(&manifest).into()
}

fn put_as(
    store: &Store,
    repository: &str,
    digest: &Digest,
    bytes: &Bytes,
    names: &[&str],
) -> Result<(), StoreError> {
    let parsed = Manifest::parse(bytes, None).unwrap();
    store.put_manifest(&name(repository), bytes, &parsed, Tagged { digest, tags: &tags(names) })
}

fn put(store: &Store, repository: &str, bytes: &Bytes, names: &[&str]) -> Result<Digest, StoreError> {
    let digest = Digest::sha256(bytes);
    put_as(store, repository, &digest, bytes, names).map(|()| digest)
}

/// Returns the digest that a tag refers to, if any.
fn resolve_tag(store: &Store, repository: &str, tag: &str) -> Option<Digest> {
    let reference = Reference::Tag(tag.parse().unwrap());
    match store.manifest(&name(repository), &reference) {
        Ok(manifest) => Some(manifest.digest),
        Err(StoreError::ManifestUnknown) => None,
        Err(error) => panic!("{tag}: {error}"),
    }
}

fn path(folder: &Path, key: &Key) -> PathBuf {
    folder.join(key.as_str())
}

/// Overwrites the bytes of a digest in place, so that the file keeps its inode.
fn damage(folder: &Path, digest: &Digest, bytes: &[u8]) {
    fs::write(path(folder, &blob(digest)), bytes).unwrap();
}
