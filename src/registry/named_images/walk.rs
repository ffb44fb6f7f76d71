//! Walk through all that an image needs: what the storage has, and with sources, the copy of what it lacks.
//!
//! Blobs and children come before what names them, so that the storage never has a manifest that it cannot serve. A copy
//! that was cut off goes on where it ended, because what is there is not fetched again.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{FetchError, Fetches, Opened, Request, SourceError};
use quinistry_oci::{Descriptor, Digest, Manifest, RepositoryName, WithCauses, media_type};
use quinistry_store::Tagged;

use super::sources::{BlobSource, Sources};
use crate::LimitedStore;
use crate::api::response::error::Error;
use crate::peers::{MAX_DEPTH, MAX_PARTS, find_stored};
use crate::upstreams::verification::VerifiedManifest;

/// Greatest number of blobs that are copied at once. Each takes up to 512 KiB of memory.
pub(super) const BLOBS_AT_ONCE: usize = 4;

/// Walk through one image.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) own: &'a LimitedStore,
    pub(super) repository: &'a RepositoryName,
    /// Sources of what the storage lacks; `None` for a look at the storage alone.
    pub(super) copy: Option<Copying<'a>>,
    pub(super) parts_left: &'a AtomicUsize,
}

/// Means of a copy.
#[derive(Clone, Copy)]
pub(super) struct Copying<'a> {
    pub(super) sources: &'a Arc<Sources>,
    pub(super) fetches: &'a Fetches,
    /// Called when a source has begun to send a blob.
    pub(super) on_found: &'a (dyn Fn() + Sync),
    /// Bytes that were copied.
    pub(super) bytes: &'a AtomicU64,
}

/// Result for a manifest with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Some children of an index are nowhere.
    Sparse,
    /// The manifest is nowhere.
    Absent,
    /// Content that the manifest needs is nowhere.
    Incomplete(Digest),
}

/// Reasons for which a walk ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no peer answers: {0}")]
    Unanswered(String),
    #[error("blob {digest} was not copied: {error}")]
    Blob { digest: Digest, error: String },
    #[error("the storage does not take it: {0}; free some room in the storage, or repair it")]
    Storage(String),
    #[error("it has more than {MAX_PARTS} parts, or indexes nest deeper than {MAX_DEPTH}")]
    TooLarge,
}

/// Returns a number of parts that one walk may look at.
pub(super) fn part_limit() -> AtomicUsize {
    AtomicUsize::new(MAX_PARTS)
}

impl<'a> Walk<'a> {
    /// Walks through a manifest, and has it stored if a copy is wanted and all that it needs is there.
    pub(super) fn manifest(
        self,
        digest: Digest,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Part, Fault>> + Send + 'a>> {
        Box::pin(async move {
            let own = find_stored(self.own, self.repository, &digest).await;
            let is_own = own.is_some();
            let found = match (own, self.copy) {
                (Some(own), _) => Some(own),
                (None, Some(copy)) => copy.sources.manifest(self.repository, &digest).await?,
                (None, None) => None,
            };
            let Some(found) = found else { return Ok(Part::Absent) };
            let part = self.parts(&found.manifest, depth).await?;
            if !is_own && matches!(part, Part::Whole | Part::Sparse) {
                self.put(&digest, found).await?;
            }
            Ok(part)
        })
    }

    /// Walks through the parts of a manifest.
    async fn parts(self, manifest: &Manifest, depth: usize) -> Result<Part, Fault> {
        let blobs: BTreeMap<&Digest, &Descriptor> =
            manifest.blobs.iter().map(|blob| (&blob.digest, blob)).collect();
        self.take(blobs.len() + manifest.manifests.len())?;
        let blobs: Vec<Descriptor> = blobs.into_values().cloned().collect();
        let walked = stream::iter(blobs).map(|blob| async move {
            let is_there = self.blob(&blob).await?;
            Ok((!is_there).then_some(blob.digest))
        });
        // A copy that has begun is not dropped because another one has failed.
        let walked: Vec<Result<Option<Digest>, Fault>> =
            walked.buffer_unordered(BLOBS_AT_ONCE).collect().await;
        let missing = walked.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().next();
        if let Some(missing) = missing {
            return Ok(Part::Incomplete(missing));
        }
        let (mut has_child, mut is_sparse) = (manifest.manifests.is_empty(), false);
        for child in &manifest.manifests {
            let part = if media_type::known(&child.media_type).is_none() {
                if self.blob(child).await? { Part::Whole } else { Part::Absent }
            } else if depth == MAX_DEPTH {
                return Err(Fault::TooLarge);
            } else {
                self.manifest(child.digest.clone(), depth + 1).await?
            };
            match part {
                Part::Whole => has_child = true,
                Part::Sparse => (has_child, is_sparse) = (true, true),
                Part::Absent => is_sparse = true,
                Part::Incomplete(digest) => return Ok(Part::Incomplete(digest)),
            }
        }
        match manifest.manifests.first() {
            Some(child) if !has_child => Ok(Part::Incomplete(child.digest.clone())),
            _ => Ok(if is_sparse { Part::Sparse } else { Part::Whole }),
        }
    }

    /// Takes parts from the number that one walk may look at.
    fn take(self, parts: usize) -> Result<(), Fault> {
        let left = |left: usize| left.checked_sub(parts);
        let taken = self.parts_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        taken.map(drop).map_err(|_| Fault::TooLarge)
    }

    /// Returns true if the repository has a blob, or has it now.
    async fn blob(self, blob: &Descriptor) -> Result<bool, Fault> {
        let (name, digest) = (self.repository.clone(), blob.digest.clone());
        if self.own.run(move |store| store.has_blob(&name, &digest)).await? {
            return Ok(true);
        }
        let Some(copy) = self.copy else { return Ok(false) };
        // Images of one bundle share layers, in repositories of their own.
        let (name, digest) = (self.repository.clone(), blob.digest.clone());
        if self.own.write(move |store| store.mount(&name, &digest, None)).await?.is_some() {
            return Ok(true);
        }
        self.fetch(copy, blob).await
    }

    /// Copies a blob. Returns false if no source has it.
    async fn fetch(self, copy: Copying<'_>, blob: &Descriptor) -> Result<bool, Fault> {
        let digest = &blob.digest;
        let source = BlobSource { sources: copy.sources.clone(), repository: self.repository.clone() };
        let request = Request {
            digest: digest.clone(),
            length: Some(blob.size),
            source: Arc::new(source),
            repository: self.repository.clone(),
            is_proven: true,
            max_stored_bytes: None,
        };
        let failed = |error: FetchError| match &error {
            FetchError::Source { reason, .. } => match &**reason {
                SourceError::NotFound => None,
                reason => Some(Fault::from(reason)),
            },
            FetchError::Broken { .. } => Some(Fault::Unanswered(error.to_string())),
            FetchError::Store(_) | FetchError::Staged(_) | FetchError::Unpublished(_) => {
                Some(Fault::Storage(WithCauses(&error).to_string()))
            }
            FetchError::Unstored => Some(Fault::Storage(format!("blob of {} bytes has no room", blob.size))),
            _ => Some(Fault::Blob { digest: digest.clone(), error: WithCauses(&error).to_string() }),
        };
        let stored = match copy.fetches.open(request).await {
            Ok(Opened::Fetched(fetched)) => {
                (copy.on_found)();
                fetched.stored().await.map(|()| blob.size)
            }
            // An empty blob is stored at once, too.
            Ok(Opened::Stored) => Ok(0),
            Ok(Opened::Unproven) => Err(FetchError::Interrupted),
            Err(error) => Err(error),
        };
        match stored {
            Ok(bytes) => {
                copy.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) => failed(error).map_or(Ok(false), Err),
        }
    }

    async fn put(self, digest: &Digest, found: VerifiedManifest) -> Result<(), Fault> {
        let (name, digest) = (self.repository.clone(), digest.clone());
        let put = move |store: &quinistry_store::Store| {
            store.put_manifest(&name, &found.bytes, &found.manifest, Tagged { digest: &digest, tags: &[] })
        };
        Ok(self.own.write_locked(self.repository, put).await?)
    }
}

// === impl Fault ===

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Storage(WithCauses(&error).to_string())
    }
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        Self::from(&error)
    }
}

impl From<&SourceError> for Fault {
    fn from(error: &SourceError) -> Self {
        Self::Unanswered(WithCauses(error).to_string())
    }
}
