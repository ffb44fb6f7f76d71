//! Cache of manifests that were read and checked: their bytes never change, so that no entry is ever out of
//! date. The cache does not tell whether a repository still has a manifest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quinistry_oci::{Content, Digest};

use crate::statistics::CacheUses;
use crate::storage::ObjectTag;

/// Capacity for the bytes of manifests, most of which have a few kilobytes.
const CAPACITY_BYTES: usize = 4 * 1024 * 1024;

/// Length of the longest manifest whose bytes are cached. Longer ones are rare, and would evict all others.
pub(crate) const MAX_CACHED_MANIFEST_BYTES: usize = 256 * 1024;

/// Capacity for longer manifests, which are cached as open files that were checked.
const LONG_MANIFEST_CAPACITY: usize = 32;

/// Bytes of a manifest that has the SHA-256 it is cached under, with the media type that the bytes tell.
#[derive(Clone, Debug)]
pub(crate) struct CachedManifest {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
    /// The bytes have a member `mediaType`, so that the manifest was pushed as that type.
    pub(crate) declares_type: bool,
}

/// Content of a manifest that was checked; long manifests are read in chunks.
#[derive(Clone, Debug)]
pub(crate) struct CheckedManifest {
    pub(crate) content: Content,
    pub(crate) media_type: &'static str,
    /// The bytes have a member `mediaType`, so that the manifest was pushed as that type.
    pub(crate) declares_type: bool,
    /// Tag of the bytes that were checked.
    pub(crate) tag: Option<ObjectTag>,
}

/// Cache of manifests by their SHA-256; the oldest are evicted first.
#[derive(Debug, Default)]
pub(crate) struct ManifestCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Digest, CachedManifest>,
    /// Digests in the order in which they were cached.
    order: VecDeque<Digest>,
    used_bytes: usize,
    /// Long manifests in the order in which they were cached.
    long: VecDeque<(Digest, CheckedManifest)>,
    uses: CacheUses,
}

impl ManifestCache {
    pub(crate) fn get(&self, canonical: &Digest) -> Option<CachedManifest> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = inner.known.get(canonical).cloned()?;
        inner.uses.hits += 1;
        Some(known)
    }

    /// Returns a longer manifest that was checked before.
    pub(crate) fn long(&self, canonical: &Digest) -> Option<CheckedManifest> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let long = inner.long.iter().find(|(digest, _)| digest == canonical).map(|(_, long)| long.clone())?;
        inner.uses.hits += 1;
        Some(long)
    }

    /// Returns the uses of the cache.
    pub(crate) fn uses(&self) -> CacheUses {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).uses
    }

    /// Removes a manifest, because its stored bytes are damaged.
    pub(crate) fn remove(&self, canonical: &Digest) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = inner.known.remove(canonical).map_or(0, |known| known.bytes.len());
        inner.used_bytes -= removed;
        inner.order.retain(|digest| digest != canonical);
        inner.long.retain(|(digest, _)| digest != canonical);
    }

    pub(crate) fn put_long(&self, canonical: &Digest, long: CheckedManifest) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.long.retain(|(digest, _)| digest != canonical);
        inner.long.push_back((canonical.clone(), long));
        if inner.long.len() > LONG_MANIFEST_CAPACITY {
            inner.long.pop_front();
        }
    }

    /// Caches a manifest that was read from the storage, which is a miss of the cache.
    pub(crate) fn put(&self, canonical: &Digest, known: &CachedManifest) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        inner.uses.misses += 1;
        if known.bytes.len() > MAX_CACHED_MANIFEST_BYTES {
            return;
        }
        if inner.known.insert(canonical.clone(), known.clone()).is_some() {
            return;
        }
        inner.order.push_back(canonical.clone());
        inner.used_bytes += known.bytes.len();
        while inner.used_bytes > CAPACITY_BYTES {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.used_bytes -= inner.known.remove(&oldest).map_or(0, |known| known.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_long_manifests_is_bounded() {
        let cache = ManifestCache::default();
        let long =
            CheckedManifest { content: Content::default(), media_type: "x", declares_type: true, tag: None };
        let digests: Vec<Digest> = (0..40_u8).map(|i| Digest::sha256(&[i])).collect();
        for digest in digests.iter().chain(&digests[39..]) {
            cache.put_long(digest, long.clone());
        }
        let is_cached: Vec<bool> = digests.iter().map(|digest| cache.long(digest).is_some()).collect();
        assert_eq!(is_cached, [vec![false; 8], vec![true; 32]].concat());
    }

    #[test]
    fn the_oldest_are_evicted() {
        let cache = ManifestCache::default();
        let known = CachedManifest {
            bytes: vec![0; MAX_CACHED_MANIFEST_BYTES].into(),
            media_type: "x",
            declares_type: true,
        };
        let digests: Vec<Digest> = (0..20_u8).map(|i| Digest::sha256(&[i])).collect();
        for digest in &digests {
            cache.put(digest, &known);
            cache.put(digest, &known);
        }
        let is_cached: Vec<bool> = digests.iter().map(|digest| cache.get(digest).is_some()).collect();
        assert_eq!(is_cached, [vec![false; 4], vec![true; 16]].concat());
        assert_eq!(cache.0.lock().unwrap().used_bytes, CAPACITY_BYTES);
    }
}
