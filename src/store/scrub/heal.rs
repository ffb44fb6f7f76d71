//! Sources of content that replaces damaged one.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use quinistry_oci::{Algorithm, Digest, Hasher, RepositoryName, WithCauses};

use crate::layout::blob;
use crate::storage::{Storage, StorageError, Upload, UploadStart};
use crate::{Store, StoreError};

/// Error of a source.
pub type HealError = Box<dyn Error + Send + Sync>;

/// Place that has the same content as this registry, or parts of it. Blocks.
pub trait HealSource: fmt::Debug + Send + Sync {
    /// Returns the name of the source for the log, without credentials.
    fn name(&self) -> String;

    /// Reads content, which one of the repositories here has, and gives it to `receive` piece by piece.
    /// Returns false if the source does not have it. The caller hashes the bytes.
    fn fetch(
        &self,
        digest: &Digest,
        holders: &[Holder],
        receive: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<bool, HealError>;
}

/// Repository that has a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of the repository.
    pub repository: RepositoryName,
    /// Kind of the content there.
    pub kind: ContentKind,
}

/// Kind of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// Bytes of any kind.
    Blob,
    /// Manifest or index.
    Manifest,
}

/// Bytes that a source has for a content, which are not stored yet.
pub(super) struct Replacement {
    upload: Box<dyn Upload>,
    /// Name of the source.
    source: String,
}

/// Another storage with the layout of this one as a source.
#[derive(Debug)]
pub struct StorageSource<S> {
    name: String,
    storage: S,
}

impl<S: Storage> StorageSource<S> {
    /// Makes a source of a storage, with its name for the log.
    pub fn new(name: impl Into<String>, storage: S) -> Self {
        Self { name: name.into(), storage }
    }
}

impl<S: Storage> HealSource for StorageSource<S> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn fetch(
        &self,
        digest: &Digest,
        _: &[Holder],
        receive: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<bool, HealError> {
        let Some((content, _)) = self.storage.open(&blob(digest))? else { return Ok(false) };
        for chunk in content.chunks() {
            receive(&chunk?)?;
        }
        Ok(true)
    }
}

impl Store {
    /// Fetches content from the first source that has it; returns `None` if no source has it.
    pub(super) fn fetch_replacement(
        &self,
        canonical: &Digest,
        holders: &[Holder],
        sources: &[Arc<dyn HealSource>],
    ) -> Result<Option<Replacement>, StoreError> {
        for source in sources {
            let key = blob(canonical);
            let start = UploadStart::Whole { digest: canonical, length: None, key: Some(&key) };
            let mut upload = self.storage().uploads().begin(start)?;
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let fetched = source.fetch(canonical, holders, &mut |bytes| {
                hasher.update(bytes);
                upload.append(bytes)
            });
            let name = source.name();
            match fetched {
                Ok(true) if hasher.finish() == *canonical => {
                    return Ok(Some(Replacement { upload, source: name }));
                }
                Ok(true) => {
                    tracing::warn!(source = %name, digest = %canonical, "source has other bytes, ignoring them");
                }
                Ok(false) => {
                    tracing::debug!(source = %name, digest = %canonical, "source does not have the content");
                }
                Err(error) => {
                    tracing::warn!(source = %name, digest = %canonical, error = %WithCauses(&*error), "cannot read from source");
                }
            }
            upload.abort()?;
        }
        Ok(None)
    }

    /// Puts content from the first source that has it in its place. Returns true if there was one.
    pub(super) fn heal(
        &self,
        canonical: &Digest,
        holders: &[Holder],
        sources: &[Arc<dyn HealSource>],
    ) -> Result<bool, StoreError> {
        if holders.is_empty() {
            return Ok(false);
        }
        let Some(replacement) = self.fetch_replacement(canonical, holders, sources)? else {
            return Ok(false);
        };
        self.place_replacement(canonical, replacement)?;
        Ok(true)
    }

    /// Makes fetched bytes the content.
    pub(super) fn place_replacement(
        &self,
        canonical: &Digest,
        replacement: Replacement,
    ) -> Result<(), StoreError> {
        let Replacement { mut upload, source } = replacement;
        upload.finish(&blob(canonical), &[])?;
        self.note_sound(canonical, canonical);
        self.forget_content(canonical);
        self.0.scrub_counts.healed.add(1);
        tracing::info!(digest = %canonical, source, "damaged content replaced");
        Ok(())
    }
}
