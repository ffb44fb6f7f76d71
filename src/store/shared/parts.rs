//! Blobs and parts of manifests on a shared storage: links and bytes are asked for at once.

use std::time::Duration;

use quinistry_oci::{Algorithm, Content, Descriptor, Digest, Manifest, RepositoryName};

use crate::cache::ReadStart;
use crate::gc::online::subject::Subject;
use crate::layout::{Key, RepositoryKeys, blob};
use crate::manifests::{AbsentParts, MissingParts};
use crate::storage::{LookedUp, Meta};
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// Number of parts that are looked up at once.
const MAX_PARTS_AT_ONCE: usize = 64;

/// Blob of a shared storage.
#[derive(Clone, Debug)]
pub enum RemoteBlob {
    /// Place from which the client can read the blob.
    Redirect {
        /// URL of the blob.
        url: String,
        /// Length of the blob in bytes.
        length: u64,
    },
    /// Content, which is read when it is needed.
    Content(Content),
}

/// Kind of a link, which makes bytes a part of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LinkKind {
    Blob,
    Manifest,
}

impl LinkKind {
    fn link(self, name: &RepositoryName, digest: &Digest) -> Key {
        match self {
            Self::Blob => RepositoryKeys(name).layer_link(digest),
            Self::Manifest => RepositoryKeys(name).revision_link(digest),
        }
    }
}

/// Start of a change that links bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkStart(ReadStart, Duration);

/// Way in which a client wants a blob to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteAnswer {
    /// Least length of a blob whose client is redirected, in bytes, and the least lifetime of the URL; `None` if no
    /// client is.
    pub redirect: Option<(u64, Duration)>,
    /// True if the client came over TLS. Many clients then refuse a URL without it.
    pub is_protected: bool,
}

impl Store {
    /// Returns a blob of a shared storage, or a URL of it.
    pub fn remote_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        answer: RemoteAnswer,
    ) -> Result<RemoteBlob, StoreError> {
        let (canonical, meta) = self.find_blob(name, digest)?.ok_or(StoreError::BlobUnknown)?;
        self.touch_for_pull(&[Subject::link(name, &canonical), Subject::bytes(&canonical)]);
        let key = blob(&canonical);
        let redirect = answer.redirect.filter(|(least, _)| meta.length >= *least);
        let url = redirect.and_then(|(_, lifetime)| self.storage().redirect(&key, lifetime));
        if let Some(url) = url.filter(|url| !answer.is_protected || url.starts_with("https:")) {
            return Ok(RemoteBlob::Redirect { url, length: meta.length });
        }
        let content = self.storage().open_known(&key, &meta)?.ok_or(StoreError::BlobUnknown)?;
        Ok(RemoteBlob::Content(content))
    }

    /// Finds the bytes of a repository's blob.
    fn find_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(Digest, Meta)>, StoreError> {
        if digest.algorithm() != Algorithm::Sha256 {
            let Some(canonical) = self.linked(name, digest)? else { return Ok(None) };
            return Ok(self.storage().head(&blob(&canonical))?.map(|meta| (canonical, meta)));
        }
        let pair = (RepositoryKeys(name).layer_link(digest), blob(digest));
        let find = || {
            let found = self.storage().look_up(std::slice::from_ref(&pair), MAX_LINK_BYTES)?.pop();
            Ok::<_, StoreError>(found.filter(|found| is_link_to(found, digest)))
        };
        let mut found = find()?;
        // Where a bucket is copied to another region, the bytes may come after their link.
        if found.as_ref().is_some_and(|found| found.target.is_none()) {
            found = find()?;
        }
        if found.as_ref().is_some_and(|found| found.target.is_none()) && self.restore_from_trash(digest)? {
            found = find()?;
        }
        Ok(found.and_then(|found| found.target).map(|meta| (digest.clone(), meta)))
    }

    /// Checks that everything a manifest refers to is in the repository, in the declared size.
    pub(crate) fn check_shared_parts(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        absent: AbsentParts,
    ) -> Result<(), StoreError> {
        let mut missing = MissingParts::new(absent);
        'search: for (parts, are_manifests) in [(&manifest.blobs, false), (&manifest.manifests, true)] {
            for parts in parts.chunks(MAX_PARTS_AT_ONCE) {
                let digests: Vec<&Digest> = parts.iter().map(|part| &part.digest).collect();
                let lengths = self.find_parts(name, &digests, are_manifests)?;
                for (Descriptor { digest, size, .. }, stored) in parts.iter().zip(lengths) {
                    match stored {
                        Some(stored) if stored != *size => {
                            return Err(StoreError::Size { digest: digest.clone(), declared: *size, stored });
                        }
                        Some(_) => missing.found(are_manifests),
                        None if missing.note(digest, are_manifests) => {}
                        None => break 'search,
                    }
                }
            }
        }
        let missing = missing.into_refused();
        if missing.is_empty() { Ok(()) } else { Err(StoreError::Missing(missing)) }
    }

    /// Returns the lengths of a manifest's parts, in their order; `None` for those that are not in the repository.
    /// With `may_be_manifest`, a part is a manifest, or else a blob.
    pub(super) fn find_parts(
        &self,
        name: &RepositoryName,
        parts: &[&Digest],
        may_be_manifest: bool,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        if !self.is_shared() {
            return Ok(vec![None; parts.len()]);
        }
        let kinds: &[LinkKind] =
            if may_be_manifest { &[LinkKind::Manifest, LinkKind::Blob] } else { &[LinkKind::Blob] };
        let recent = |part: &Digest| kinds.iter().find_map(|kind| self.recent_length(name, *kind, part));
        let mut lengths: Vec<Option<u64>> = parts.iter().map(|part| recent(part)).collect();
        for kind in kinds {
            let link = |digest: &Digest| kind.link(name, digest);
            let missing: Vec<usize> = (0..parts.len()).filter(|at| lengths[*at].is_none()).collect();
            let (simple, others): (Vec<usize>, Vec<usize>) =
                missing.into_iter().partition(|at| parts[*at].algorithm() == Algorithm::Sha256);
            let pairs: Vec<(Key, Key)> =
                simple.iter().map(|at| (link(parts[*at]), blob(parts[*at]))).collect();
            if !pairs.is_empty() {
                let found = self.storage().look_up(&pairs, MAX_LINK_BYTES)?;
                for (at, found) in simple.into_iter().zip(found) {
                    let target = is_link_to(&found, parts[at]).then_some(found.target).flatten();
                    lengths[at] = target.map(|meta| meta.length);
                }
            }
            // The place of the bytes stands in the link.
            for at in others {
                let Some(canonical) = self.canonical(&link(parts[at]), parts[at])? else { continue };
                lengths[at] = self.storage().head(&blob(&canonical))?.map(|meta| meta.length);
            }
        }
        Ok(lengths)
    }

    /// Returns the length of bytes that this process has linked in a repository a moment ago.
    fn recent_length(&self, name: &RepositoryName, kind: LinkKind, part: &Digest) -> Option<u64> {
        let shared = self.0.shared.as_ref()?;
        let (length, at) = shared.recent_links.get(name, &(kind, part.clone()))?;
        // The clock of the cache stands still in suspension, in which a collector may have come.
        let age = shared.clock.now().saturating_sub(at);
        (age <= self.0.collector.view_lifetime()).then_some(length)
    }

    /// Returns true if this process has linked bytes in a repository a moment ago, with all that they need.
    pub(super) fn is_recent(&self, name: &RepositoryName, kind: LinkKind, part: &Digest) -> bool {
        self.recent_length(name, kind, part).is_some()
    }

    /// Records the start of a change that links bytes. Call before bytes and links are written: they count as present from
    /// then on, since a process that stops between the two may find that a collector has removed the bytes.
    pub(crate) fn begin_link(&self) -> Option<LinkStart> {
        self.0.shared.as_ref().map(|shared| LinkStart(shared.recent_links.begin(), shared.clock.now()))
    }

    /// Remembers for a minute from the start that this process has linked bytes in a repository, unless it has removed
    /// links of one since the change began.
    pub(crate) fn note_linked(
        &self,
        begun: Option<LinkStart>,
        kind: LinkKind,
        name: &RepositoryName,
        (digest, length): (&Digest, u64),
    ) {
        if let (Some(shared), Some(LinkStart(begun, at))) = (&self.0.shared, begun) {
            shared.recent_links.insert(begun, name, (kind, digest.clone()), (length, at), 1);
        }
    }

    /// Forgets all links that were made a moment ago, because bytes were removed.
    pub(crate) fn forget_recent_links(&self) {
        if let Some(shared) = &self.0.shared {
            shared.recent_links.clear();
        }
    }

    /// Runs a change that removes links of a repository, and forgets those that were made a moment ago.
    pub(crate) fn forget_linked_during<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        match &self.0.shared {
            Some(shared) => shared.recent_links.invalidate_during(name, change),
            None => change(),
        }
    }
}

fn is_link_to(found: &LookedUp, digest: &Digest) -> bool {
    found.link.as_ref().is_some_and(|link| link.trim_ascii() == digest.as_str().as_bytes())
}
