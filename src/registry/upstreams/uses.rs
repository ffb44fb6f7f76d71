//! Uses of copies that the storage does not show yet. Pure.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::Store;

use super::bounded_map::BoundedMap;

/// Capacity in copies. Uses beyond it are not recorded, so that their copies look older.
const CAPACITY: usize = 100_000;

/// Time for which a recorded use stands for others, on a storage whose records are times of files.
const CHEAP_RENEWAL: Duration = Duration::from_mins(1);

/// Time for which a recorded use stands for others, on a storage that others share, where each record is a request. Less
/// than the age below which a copy counts as being read.
const SHARED_RENEWAL: Duration = Duration::from_mins(30);

/// Manifest of a repository.
pub(crate) type UsedCopy = (RepositoryName, Digest);

/// Uses that wait to be recorded.
#[derive(Debug)]
pub(crate) struct CopyUses {
    waiting: HashSet<UsedCopy>,
    /// Times at which uses were recorded.
    recorded: BoundedMap<UsedCopy, Instant>,
    renewal: Duration,
}

impl CopyUses {
    pub(crate) fn new(store: &Store) -> Self {
        Self::with(if store.is_shared() { SHARED_RENEWAL } else { CHEAP_RENEWAL })
    }

    fn with(renewal: Duration) -> Self {
        Self { waiting: HashSet::new(), recorded: BoundedMap::new(CAPACITY), renewal }
    }

    /// Notes a use, unless one was recorded a moment ago.
    pub(crate) fn note(&mut self, name: &RepositoryName, digest: &Digest, now: Instant) {
        let copy = (name.clone(), digest.clone());
        let is_recorded =
            self.recorded.get(&copy).is_some_and(|at| now.saturating_duration_since(*at) < self.renewal);
        if !is_recorded && self.waiting.len() < CAPACITY {
            self.waiting.insert(copy);
        }
    }

    /// Returns true if a use waits to be recorded.
    pub(crate) fn is_waiting(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.waiting.contains(&(name.clone(), digest.clone()))
    }

    /// Returns the uses that wait.
    pub(crate) fn waiting(&self) -> Vec<UsedCopy> {
        self.waiting.iter().cloned().collect()
    }

    /// Notes that uses were recorded.
    pub(crate) fn note_recorded(&mut self, copies: Vec<UsedCopy>, now: Instant) {
        for copy in copies {
            self.waiting.remove(&copy);
            self.recorded.insert(copy, now, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_waits_until_it_is_recorded_and_then_stands_for_others() {
        let (mut uses, start) = (CopyUses::with(CHEAP_RENEWAL), Instant::now());
        let (name, digest): (RepositoryName, _) = ("hub/app".parse().unwrap(), Digest::sha256(b"one"));
        for _ in 0..2 {
            uses.note(&name, &digest, start);
        }
        assert!(uses.is_waiting(&name, &digest));
        assert_eq!(uses.waiting(), [(name.clone(), digest.clone())]);
        uses.note_recorded(uses.waiting(), start);
        uses.note(&name, &digest, start + CHEAP_RENEWAL / 2);
        assert!(!uses.is_waiting(&name, &digest));
        uses.note(&name, &digest, start + CHEAP_RENEWAL);
        assert!(uses.is_waiting(&name, &digest));
    }

    #[test]
    fn many_uses_take_bounded_room() {
        let (mut uses, now) = (CopyUses::with(CHEAP_RENEWAL), Instant::now());
        let name = "hub/app".parse().unwrap();
        for number in 0..CAPACITY + 10 {
            uses.note(&name, &Digest::sha256(&number.to_le_bytes()), now);
        }
        assert_eq!(uses.waiting.len(), CAPACITY);
    }
}
