//! A storage that several equal processes change at the same time, such as a bucket.
//!
//! Nothing is shared but the storage: no lock, no list of members. What must be decided between replicas is
//! decided by a register: a key that is only ever created, so that the first writer wins. A change is made in
//! an order in which any interleaving with other changes leaves each visible tag complete.
//!
//! Called by the store where [`Abilities::is_shared`](crate::Abilities::is_shared) is set.

mod catalog;
mod format;
mod lead;
mod manifests;
pub(crate) mod nested;
mod parts;
pub(crate) mod referrers;
mod replicas;
mod tags;

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};

use crate::Store;
use crate::boottime::LocalClock;
use crate::cache::ExpiringCache;

pub(crate) use self::format::FORMAT;
use self::lead::Leadership;
pub use self::lead::{Lead, LeadGains};
pub(super) use self::parts::LinkKind;
pub use self::parts::{RemoteAnswer, RemoteBlob};
#[cfg(test)]
pub(crate) use self::replicas::MAX_HEARTBEAT_AGE;
pub(super) use self::replicas::Replica;

/// Time for which a link that this process has made counts as present. A collection keeps linked content for much
/// longer; a user who deletes a blob that a push is about to need breaks the push in any case.
const RECENT_LINK_LIFETIME: Duration = Duration::from_mins(1);

/// Capacity of the cache of recent links, in links.
const RECENT_LINK_CAPACITY: usize = 65_536;

/// State of a store on a shared storage.
#[derive(Debug)]
pub(super) struct Shared {
    replica: Replica,
    leadership: Leadership,
    /// Repositories whose registers exist.
    registered: Mutex<HashSet<RepositoryName>>,
    /// All repositories have registers.
    has_all_registers: AtomicBool,
    /// Time of the storage from which repositories without registers are looked for.
    next_walk: Mutex<Option<SystemTime>>,
    /// The storage gives equal bytes the same tag. Seen at the first push of a tag.
    has_content_tags: OnceLock<bool>,
    /// Lengths of blobs and manifests that this process has linked, and the times of it by the local clock.
    recent_links: ExpiringCache<(LinkKind, Digest), (u64, Duration)>,
    clock: LocalClock,
}

impl Shared {
    pub(super) fn new(clock: LocalClock) -> Self {
        Self {
            replica: Replica::new(),
            leadership: Leadership::new(clock.clone()),
            clock,
            registered: Mutex::default(),
            has_all_registers: AtomicBool::new(false),
            next_walk: Mutex::default(),
            has_content_tags: OnceLock::new(),
            recent_links: ExpiringCache::new(RECENT_LINK_CAPACITY, RECENT_LINK_LIFETIME),
        }
    }

    /// Returns the process among those that share the storage.
    pub(super) const fn replica(&self) -> &Replica {
        &self.replica
    }
}

impl Store {
    /// Returns true if other processes change the storage at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.shared.is_some()
    }
}
