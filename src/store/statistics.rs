//! Numbers about a store that is in use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use quinistry_oci::WithCauses;

use super::Store;
use super::storage::{Space, StorageError};

/// Part of a backend that new content leaves free: a fiftieth.
const RESERVED_PART: u64 = 50;

/// Most room that new content leaves free, in bytes.
const MAX_RESERVED_BYTES: u64 = 10 << 30;

/// Uses of a cache since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUses {
    /// Look-ups that found an entry.
    pub hits: u64,
    /// Reads of the storage, because the cache had no entry.
    pub misses: u64,
}

/// Numbers about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Uses of each cache, by its name.
    pub caches: [(&'static str, CacheUses); Statistics::CACHES.len()],
    /// Number of open upload sessions of this process.
    pub open_uploads: usize,
}

impl Statistics {
    /// Names of the caches.
    pub const CACHES: [&'static str; 5] = ["references", "manifests", "blobs", "tags", "referrers"];
}

/// Memory of whether the storage tells its room, so that one warning stands for all failures in a row.
#[derive(Debug, Default)]
pub(super) struct SpaceAnswers {
    has_failed: AtomicBool,
}

impl SpaceAnswers {
    /// Notes an answer. Returns true for the first failure in a row.
    fn note(&self, has_failed: bool) -> bool {
        !self.has_failed.swap(has_failed, Ordering::Relaxed) && has_failed
    }
}

impl Store {
    /// Returns numbers about the store, from memory alone.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let inner = &*self.0;
        let uses = [
            inner.resolved_references.uses(),
            inner.manifest_cache.uses(),
            inner.blob_cache.uses(),
            inner.tag_list_cache.uses(),
            inner.referrers_cache.uses(),
        ];
        let caches = std::array::from_fn(|index| (Statistics::CACHES[index], uses[index]));
        Statistics { caches, open_uploads: inner.sessions.open().len() }
    }

    /// Returns true if the content outlives this process.
    #[must_use]
    pub fn outlives_process(&self) -> bool {
        self.is_persistent()
    }

    /// Returns the present time by the clock that gives the times of stored content.
    #[must_use]
    pub fn now(&self) -> std::time::SystemTime {
        self.storage().now()
    }

    /// Returns the number of answers so far by which the storage asked for fewer requests.
    #[must_use]
    pub fn throttlings(&self) -> u64 {
        self.storage().throttlings()
    }

    /// Returns the room in the storage. Reads the storage's state, so that it may block.
    pub fn space(&self) -> Result<Space, StorageError> {
        self.storage().space()
    }

    /// Returns the room in the storage, and nothing of it while the storage does not tell: a write into a full storage
    /// fails by itself. May block, as [`space`](Self::space).
    #[must_use]
    pub fn known_space(&self) -> Space {
        let asked = self.storage().space();
        let is_first_failure = self.0.space_answers.note(asked.is_err());
        asked.unwrap_or_else(|error| {
            if is_first_failure {
                let error = WithCauses(&error);
                tracing::warn!(%error, "cannot read the room in the storage, writing without a check of it; check the disk");
            }
            Space::default()
        })
    }

    /// Fails if so little room is left that new content must not take it: deletions, and other programs, need some.
    /// Cheap, though it asks the storage, so that it may block.
    pub fn check_room(&self) -> Result<(), StorageError> {
        if is_scarce(self.known_space()) { Err(StorageError::Full) } else { Ok(()) }
    }

    /// Returns the bytes that new content may take, beside those that are left to others; `None` if the storage does not
    /// tell. May block.
    #[must_use]
    pub fn room_bytes(&self) -> Option<u64> {
        let space = self.known_space();
        Some(space.free_bytes?.saturating_sub(reserved_bytes(space)))
    }

    /// Returns the bytes that copies of upstreams shall make free, so that new content is not refused soon: as much as
    /// [`check_room`](Self::check_room) leaves free, once more. `coming_bytes` will be free without them.
    pub(crate) fn wanted_room(&self, coming_bytes: u64) -> u64 {
        wanted_bytes(self.known_space(), coming_bytes)
    }

    /// Returns the time of the storage, by which all times in it are meant. That of this machine may be wrong. Never waits.
    #[must_use]
    pub fn storage_time(&self) -> SystemTime {
        self.storage().now()
    }

    /// Returns an error if the storage cannot be used, or refuses writes after a failed flush. May block.
    pub fn check(&self) -> Result<(), StorageError> {
        self.storage().check()
    }
}

/// Returns true if new content must not take the room that is left.
fn is_scarce(space: Space) -> bool {
    space.free_bytes.is_some_and(|free| free < reserved_bytes(space))
}

/// Returns the bytes that shall become free beside those that are free or will be.
fn wanted_bytes(space: Space, coming_bytes: u64) -> u64 {
    let free = space.free_bytes.unwrap_or(u64::MAX);
    (2 * reserved_bytes(space)).saturating_sub(free.saturating_add(coming_bytes))
}

/// Returns the room that new content leaves free, in bytes.
fn reserved_bytes(space: Space) -> u64 {
    space.total_bytes.map_or(0, |total| (total / RESERVED_PART).min(MAX_RESERVED_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failpoint::once::failing;
    use crate::{Access, Filesystem, Memory};

    #[test]
    fn a_fiftieth_of_a_disk_is_left_to_others_and_at_most_ten_gibibytes() {
        const GIB: u64 = 1 << 30;
        let cases = [
            (Some(0), None, false),
            (None, Some(100), false),
            (Some(2 * GIB), Some(100 * GIB), false),
            (Some(2 * GIB - 1), Some(100 * GIB), true),
            (Some(10 * GIB), Some(4000 * GIB), false),
            (Some(10 * GIB - 1), Some(4000 * GIB), true),
        ];
        for (free_bytes, total_bytes, expected) in cases {
            let space = Space { used_bytes: None, free_bytes, total_bytes };
            assert_eq!(is_scarce(space), expected, "{space:?}");
        }
    }

    #[test]
    fn copies_make_room_until_twice_the_reserve_is_free_or_coming() {
        let space = |free_bytes| Space { used_bytes: None, free_bytes, total_bytes: Some(5000) };
        for (free_bytes, coming_bytes, expected) in
            [(Some(200), 0, 0), (Some(50), 0, 150), (Some(50), 100, 50), (Some(50), 150, 0), (None, 0, 0)]
        {
            assert_eq!(
                wanted_bytes(space(free_bytes), coming_bytes),
                expected,
                "{free_bytes:?} {coming_bytes}"
            );
        }
        assert_eq!(wanted_bytes(space(Some(0)), u64::MAX), 0);
    }

    #[test]
    fn statistics_count_sessions_and_the_uses_of_caches() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let name = "a".parse().unwrap();
        let _session = store.begin(&name, None).unwrap();
        assert!(store.blob(&name, &quinistry_oci::Digest::sha256(b"")).is_err());
        let Statistics { caches, open_uploads } = store.statistics();
        assert_eq!(open_uploads, 1);
        assert_eq!(caches.map(|(cache, _)| cache), Statistics::CACHES);
        let uses = |wanted: &str| caches.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert_eq!(uses("manifests"), CacheUses::default());
        assert_eq!(uses("blobs"), CacheUses { hits: 0, misses: 1 });
    }

    #[test]
    fn a_storage_that_does_not_tell_its_room_takes_content() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
        let store = Store::open(storage, false).unwrap();
        let (is_reached, checked) = failing("space", 1, 5, || store.check_room());
        assert!(is_reached && checked.is_ok(), "{checked:?}");
        assert_eq!(failing("space", 1, 5, || store.wanted_room(0)), (true, 0));
    }

    #[test]
    fn the_first_of_several_failures_in_a_row_is_logged() {
        let answers = SpaceAnswers::default();
        let logged = [false, true, true, false, true].map(|has_failed| answers.note(has_failed));
        assert_eq!(logged, [false, true, false, false, true]);
    }

    #[test]
    fn memory_knows_its_room() {
        let store = Store::open(Memory::new(1000), false).unwrap();
        assert_eq!(
            store.space().unwrap(),
            Space { used_bytes: Some(0), free_bytes: Some(1000), total_bytes: None }
        );
        assert_eq!(store.room_bytes(), Some(1000));
        store.check().unwrap();
    }

    #[test]
    fn the_room_for_new_content_ends_where_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
        let store = Store::open(storage, false).unwrap();
        let space = store.space().unwrap();
        // Other programs write to the disk of the test, too.
        let room_bytes = store.room_bytes().unwrap();
        assert!(room_bytes < space.free_bytes.unwrap().max(1), "{room_bytes} of {space:?}");
    }
}
