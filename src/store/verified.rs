//! Cache of verification results: whether content has the digest under which it is stored.
//!
//! A disk may lose bits, and another program's crash may tear a file. Bytes are therefore hashed before they
//! are served: a short blob each time that it is read, a longer one once for each tag of its bytes.
//! Damaged content counts as absent, so that a client that checks before it pushes pushes the content again,
//! which repairs it. Called wherever the store reports that a blob exists.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, PoisonError};

use quinistry_oci::{Content, Digest};
use rustix::io::Errno;

use super::layout::blob;
use super::storage::{Meta, ObjectTag, StorageError};
use super::{Store, StoreError};

/// Capacity of the cache, in blobs; an entry takes about 150 bytes.
const VERIFICATION_CACHE_CAPACITY: usize = 65_536;

/// Results of hashing, by content.
#[derive(Debug, Default)]
pub(super) struct VerificationCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<DigestPrefix, (ObjectTag, bool)>,
    /// Prefixes in the order of their arrival, the oldest first.
    order: VecDeque<DigestPrefix>,
}

/// First 128 bits of a digest: bytes of equal tag are of one file, so that the prefix suffices to tell
/// contents apart.
type DigestPrefix = u128;

fn prefix(digest: &Digest) -> DigestPrefix {
    DigestPrefix::from_str_radix(&digest.hex()[..32], 16).expect("a digest is hexadecimal")
}

impl VerificationCache {
    /// Returns the cached result for that digest and that tag.
    pub(super) fn get(&self, digest: &Digest, tag: &ObjectTag) -> Option<bool> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.known.get(&prefix(digest)).filter(|(known, _)| known == tag).map(|(_, is_sound)| *is_sound)
    }

    pub(super) fn put(&self, digest: &Digest, tag: ObjectTag, is_sound: bool) {
        let prefix = prefix(digest);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.known.insert(prefix, (tag, is_sound)).is_some() {
            return;
        }
        inner.order.push_back(prefix);
        if inner.order.len() > VERIFICATION_CACHE_CAPACITY
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.known.remove(&oldest);
        }
    }

    /// Removes the result for a digest.
    pub(super) fn remove(&self, digest: &Digest) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = prefix(digest);
        if inner.known.remove(&prefix).is_some() {
            inner.order.retain(|other| *other != prefix);
        }
    }
}

impl Store {
    /// Returns the length of stored content if it has `digest`, which may differ from the digest that it is
    /// stored under: a link may lead to other bytes.
    pub(super) fn sound(&self, canonical: &Digest, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let key = blob(canonical);
        let Some(found) = self.storage().head(&key)? else { return Ok(None) };
        if let Some(is_sound) = self.known_to_be_sound(digest, &found.tag) {
            return Ok(is_sound.then_some(found.length));
        }
        let Some((content, tag)) = self.storage().open(&key)? else { return Ok(None) };
        Ok(self.is_sound(digest, &content, tag)?.then_some(content.len()))
    }

    /// Hashes opened content, unless the result for its file is cached.
    pub(super) fn is_sound(
        &self,
        digest: &Digest,
        content: &Content,
        tag: ObjectTag,
    ) -> Result<bool, StoreError> {
        if let Some(is_sound) = self.known_to_be_sound(digest, &tag) {
            return Ok(is_sound);
        }
        let found = match content.digest(digest.algorithm()) {
            Ok(found) => Some(found),
            Err(error) if is_damage(&error) => None,
            Err(source) => {
                return Err(StorageError::Io { what: "read", key: digest.to_string(), source }.into());
            }
        };
        let is_sound = found.as_ref() == Some(digest);
        if !is_sound {
            tracing::warn!(%digest, length = content.len(), "blob damaged, treating it as absent");
            self.suspect(digest);
        }
        // A disk may return at the next attempt what it failed to read, and the tag stays.
        if found.is_some() {
            self.0.verified.put(digest, tag, is_sound);
        }
        Ok(is_sound)
    }

    /// Records that content, which was hashed while it was received, is stored, and that it has `digest` as
    /// well.
    pub(super) fn note_sound(&self, canonical: &Digest, digest: &Digest) {
        // If this fails, the content is hashed when it is requested.
        let Ok(Some(Meta { tag, .. })) = self.storage().head(&blob(canonical)) else { return };
        if tag.can_change() {
            if digest != canonical {
                self.0.verified.put(digest, tag.clone(), true);
            }
            self.0.verified.put(canonical, tag, true);
        }
    }

    fn known_to_be_sound(&self, digest: &Digest, tag: &ObjectTag) -> Option<bool> {
        if tag.can_change() { self.0.verified.get(digest, tag) } else { Some(true) }
    }
}

/// Returns true if bytes cannot be read because they are lost: the file was truncated, or the disk is
/// defective.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
        || matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn lost_bytes_are_damage_and_temporary_errors_are_not() {
        let of = |errno: Errno| is_damage(&errno.into());
        assert!(of(Errno::IO) && of(Errno::BADMSG) && is_damage(&io::ErrorKind::UnexpectedEof.into()));
        assert!(!of(Errno::MFILE) && !of(Errno::ACCESS) && !of(Errno::STALE));
    }

    #[test]
    fn unreadable_content_is_read_again_the_next_time() {
        let store = Store::open(crate::Memory::new(1 << 20), false).unwrap();
        // Nothing is mapped at its beginning: EIO.
        let lost = Content::of_file(std::fs::File::open("/proc/self/mem").unwrap(), 4);
        let (digest, tag) = (Digest::sha256(b"abcd"), ObjectTag::of_file(4, [1; 6]));
        assert!(!store.is_sound(&digest, &lost, tag.clone()).unwrap());
        assert!(store.is_sound(&digest, &[Bytes::from("abcd")].into(), tag).unwrap());
    }

    #[test]
    fn a_result_holds_for_one_file_and_the_oldest_make_room() {
        let verified = VerificationCache::default();
        let digest = |i: usize| Digest::sha256(&i.to_le_bytes());
        let [one, other] = [1, 2].map(|inode| ObjectTag::of_file(9, [inode; 6]));
        verified.put(&digest(0), one.clone(), true);
        assert_eq!(verified.get(&digest(0), &one), Some(true));
        assert_eq!(verified.get(&digest(0), &other), None);
        assert_eq!(verified.get(&digest(1), &one), None);
        verified.put(&digest(0), other.clone(), false);
        assert_eq!(verified.get(&digest(0), &other), Some(false));
        for i in 1..=VERIFICATION_CACHE_CAPACITY {
            verified.put(&digest(i), one.clone(), true);
        }
        assert_eq!(verified.get(&digest(0), &other), None);
        assert_eq!(verified.get(&digest(1), &one), Some(true));
        assert_eq!(verified.0.lock().unwrap().known.len(), VERIFICATION_CACHE_CAPACITY);
    }
}
