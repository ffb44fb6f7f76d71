//! View of a process: the subjects that the last sealed epoch has condemned.
//!
//! A view counts for [`VIEW_LIFETIME`] since before it was asked for, by a local clock that goes on in
//! suspension. While it counts, one read tells whether the next epoch was sealed. A view that grew too old is
//! made again from a list of all epochs: the next one may have been sealed, swept and cleared in the
//! meantime. A process that has the storage to itself replaces its view when it seals an epoch, and the view
//! never grows old.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::epoch::Seal;
use super::safeguard::Safeguard;
use super::subject::{Shard, SubjectHash, SubjectKind};
use crate::layout::collection::EpochKeys;
use crate::storage::StorageError;
use crate::{Store, StoreError};

/// Time since before its request for which a view counts (R of the specification).
pub(crate) const VIEW_LIFETIME: Duration = Duration::from_mins(1);

/// Time between two refreshments of a view: two may fail before it is too old.
const REFRESH_INTERVAL: Duration = Duration::from_secs(20);

/// Attempts to read the hashes of an epoch that others clear at the same time.
const MAX_LOADS: usize = 4;

/// Longest file of hashes that is read, in bytes: four million subjects.
const MAX_HASHES_BYTES: u64 = 64 * 1024 * 1024;

/// Condemned subjects of an epoch.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Number of the epoch; 0 before the first one.
    pub(super) epoch: u64,
    /// False before the storage was asked.
    is_loaded: bool,
    /// Highest epoch that is known to be closed.
    closed: AtomicU64,
    /// Short hashes of each kind, in order.
    hashes: [Vec<[u8; SubjectHash::SHORT_BYTES]>; 3],
    /// Time of the local clock at which this process has sealed the epoch; `None` if another one did.
    pub(super) sealed: Option<Duration>,
    /// Time of the local clock before the last request that confirmed the view, in nanoseconds.
    asked: AtomicU64,
    /// Subjects that do not go in this epoch.
    alive: Mutex<HashSet<SubjectHash>>,
}

// === impl View ===

impl View {
    fn new(
        epoch: u64,
        closed: u64,
        hashes: [Vec<[u8; SubjectHash::SHORT_BYTES]>; 3],
        asked: Duration,
    ) -> Self {
        let view = Self { epoch, is_loaded: true, closed: closed.into(), hashes, ..Self::default() };
        view.confirm(asked);
        view
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.iter().all(Vec::is_empty)
    }

    /// Returns the shard of a subject; `None` if it is not condemned.
    pub(super) fn shard(&self, kind: SubjectKind, hash: SubjectHash) -> Option<Shard> {
        let at = self.hashes[kind as usize].binary_search(&hash.short()).ok()?;
        Some(Shard { kind, number: at / Shard::LENGTH })
    }

    pub(super) fn is_known_alive(&self, hash: SubjectHash) -> bool {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).contains(&hash)
    }

    pub(super) fn note_alive(&self, hash: SubjectHash) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
    }

    fn confirm(&self, asked: Duration) {
        self.asked.fetch_max(u64::try_from(asked.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    pub(super) fn asked(&self) -> Duration {
        Duration::from_nanos(self.asked.load(Ordering::Acquire))
    }
}

impl Store {
    /// Returns the time after which [`refresh_gc_view`](Self::refresh_gc_view) must be called again; `None`
    /// if no other process collects, or the storage can only be read. A later call does no harm but to the
    /// requests that then wait for it.
    #[must_use]
    pub fn gc_view_interval(&self) -> Option<Duration> {
        (self.is_shared() && !self.is_reader())
            .then(|| REFRESH_INTERVAL.min(self.0.collector.view_lifetime / 3))
    }

    /// Reads which subjects were condemned since the last call. Changes and HEADs of a process whose view is
    /// older than a minute do it themselves.
    pub fn refresh_gc_view(&self) -> Result<(), StoreError> {
        if !self.is_shared() || self.is_reader() {
            return Ok(());
        }
        let _turn = crate::waiting::lock(&self.0.collector.refreshing);
        self.refresh_view()
    }

    /// Refreshes the view, unless another thread has tried to since a number of refreshments had ended: a request that
    /// has waited for one shares its outcome. Each of many would otherwise repeat in its turn what has just failed.
    fn refresh_old_view(&self, ended: u64) -> Result<(), StoreError> {
        let _turn = crate::waiting::lock(&self.0.collector.refreshing);
        if self.is_fresh(&self.0.collector.view(), self.0.collector.clock.now()) {
            return Ok(());
        }
        if self.0.collector.refreshments.load(Ordering::Acquire) != ended {
            return Err(StoreError::Unvouched);
        }
        self.refresh_view()
    }

    /// Refreshes the view, and counts that. Call by one thread at a time.
    fn refresh_view(&self) -> Result<(), StoreError> {
        let refreshed = self.ask_for_view();
        self.0.collector.refreshments.fetch_add(1, Ordering::AcqRel);
        refreshed
    }

    fn ask_for_view(&self) -> Result<(), StoreError> {
        // Before any request: their way takes time that belongs to the lifetime.
        let asked = self.0.collector.clock.now();
        let view = self.0.collector.view();
        if !self.is_fresh(&view, asked) {
            return self.load_view(asked);
        }
        loop {
            let next = view.closed.load(Ordering::Acquire) + 1;
            match self.seal(next)? {
                None => {
                    view.confirm(asked);
                    return Ok(());
                }
                Some(seal) if seal.abandoned => view.closed.store(next, Ordering::Release),
                Some(seal) => match self.read_hashes(next, &seal)? {
                    Some(hashes) => {
                        self.0.collector.set_view(View::new(next, next, hashes, asked));
                        return Ok(());
                    }
                    None => return self.load_view(asked),
                },
            }
        }
    }

    /// Makes the view from a list of all epochs.
    pub(super) fn load_view(&self, asked: Duration) -> Result<(), StoreError> {
        for _ in 0..MAX_LOADS {
            let epochs = self.epochs()?;
            let Some(last) = &epochs.last else {
                // Some may have been sealed and cleared while they were listed.
                if epochs.numbers.len() > epochs.open.len() && self.epoch_numbers()? != epochs.numbers {
                    continue;
                }
                let closed = epochs.open.first().map_or(epochs.highest(), |open| open - 1);
                self.0.collector.set_view(View::new(0, closed, <[Vec<_>; 3]>::default(), asked));
                return Ok(());
            };
            if let Some(hashes) = self.read_hashes(last.number, &last.seal)? {
                let closed = epochs.open.first().map_or(epochs.highest(), |open| open - 1);
                self.0.collector.set_view(View::new(last.number, closed, hashes, asked));
                return Ok(());
            }
        }
        Err(StoreError::Unvouched)
    }

    /// Replaces the view of a process that has sealed an epoch.
    pub(super) fn set_own_view(&self, number: u64, hashes: &[u8]) -> Result<(), StoreError> {
        let key = EpochKeys(number).folder();
        let hashes = parse_view(hashes).ok_or(StoreError::CollectionUnknown(key))?;
        let now = self.0.collector.clock.now();
        self.0.collector.set_view(View { sealed: Some(now), ..View::new(number, number, hashes, now) });
        Ok(())
    }

    fn read_hashes(
        &self,
        number: u64,
        seal: &Seal,
    ) -> Result<Option<[Vec<[u8; SubjectHash::SHORT_BYTES]>; 3]>, StoreError> {
        if seal.subjects == [0; 3] {
            return Ok(Some(<[Vec<_>; 3]>::default()));
        }
        let key = EpochKeys(number).hashes(&seal.nonce);
        let Some(bytes) = self.storage().read(&key, MAX_HASHES_BYTES)? else { return Ok(None) };
        parse_view(&bytes).map(Some).ok_or(StoreError::CollectionUnknown(key))
    }

    /// Returns the view if it counts at this moment, or a refreshed one; `None` if the process holds nothing,
    /// because it can only read the storage.
    pub(super) fn fresh_view(&self) -> Result<Option<Arc<View>>, StoreError> {
        if self.is_reader() {
            return Ok(None);
        }
        // Before the view is looked at, so that no refreshment since then goes unnoticed.
        let ended = self.0.collector.refreshments.load(Ordering::Acquire);
        let view = self.0.collector.view();
        if self.is_fresh(&view, self.0.collector.clock.now()) {
            return Ok(Some(view));
        }
        match self.refresh_old_view(ended) {
            Ok(()) => {}
            // A storage that turned out to be for reading only.
            Err(StoreError::Storage(StorageError::ReadOnly)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let view = self.0.collector.view();
        if self.is_fresh(&view, self.0.collector.clock.now()) {
            Ok(Some(view))
        } else {
            Err(StoreError::Unvouched)
        }
    }

    /// Returns true if a view counts at a time of the local clock.
    pub(super) fn is_fresh(&self, view: &View, now: Duration) -> bool {
        if !self.is_shared() || view.is_loaded && !self.has(Safeguard::FreshnessCheck) {
            return true;
        }
        view.is_loaded && now.saturating_sub(view.asked()) <= self.0.collector.view_lifetime
    }
}

/// Returns the file of all condemned subjects: of each kind their number, 4 bytes in little-endian order, and
/// their short hashes in order.
pub(super) fn write_view(hashes: &[Vec<SubjectHash>; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for kind in hashes {
        bytes.extend(u32::try_from(kind.len()).unwrap_or(u32::MAX).to_le_bytes());
        for hash in kind {
            bytes.extend(hash.short());
        }
    }
    bytes
}

fn parse_view(mut bytes: &[u8]) -> Option<[Vec<[u8; SubjectHash::SHORT_BYTES]>; 3]> {
    let mut hashes = <[Vec<_>; 3]>::default();
    for kind in &mut hashes {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*count)).ok()? * SubjectHash::SHORT_BYTES;
        let (own, rest) = rest.split_at_checked(length)?;
        *kind = own.chunks_exact(SubjectHash::SHORT_BYTES).filter_map(|hash| hash.try_into().ok()).collect();
        if !kind.is_sorted() {
            return None;
        }
        bytes = rest;
    }
    bytes.is_empty().then_some(hashes)
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;
    use crate::gc::online::subject::Subject;

    #[test]
    fn a_view_finds_the_shards_of_its_subjects_and_no_others() {
        let digests: Vec<Digest> = (0..2500_u32).map(|i| Digest::sha256(&i.to_le_bytes())).collect();
        let mut hashes: Vec<SubjectHash> =
            digests.iter().map(|digest| Subject::bytes(digest).hash()).collect();
        hashes.sort_unstable();
        let written = write_view(&[Vec::new(), Vec::new(), hashes.clone()]);
        let view = View::new(1, 1, parse_view(&written).unwrap(), Duration::ZERO);
        for (at, hash) in hashes.iter().enumerate() {
            let shard = Shard { kind: SubjectKind::Bytes, number: at / Shard::LENGTH };
            assert_eq!(view.shard(SubjectKind::Bytes, *hash), Some(shard));
            assert_eq!(view.shard(SubjectKind::Link, *hash), None);
        }
        assert_eq!(view.shard(SubjectKind::Bytes, Subject::bytes(&Digest::sha256(b"other")).hash()), None);
    }

    #[test]
    fn torn_files_of_hashes_are_refused() {
        let hashes = |count: u8| (0..count).map(|i| SubjectHash([i; 32])).collect::<Vec<_>>();
        let written = write_view(&[hashes(1), hashes(0), hashes(2)]);
        assert!(parse_view(&written).is_some());
        for length in 0..written.len() {
            assert!(parse_view(&written[..length]).is_none(), "{length}");
        }
        let unsorted = write_view(&[vec![SubjectHash([2; 32]), SubjectHash([1; 32])], vec![], vec![]]);
        assert!(parse_view(&unsorted).is_none());
    }
}
