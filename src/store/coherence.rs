//! Options of a store, and how long the store believes what it has read.

use std::time::Duration;

use crate::manifests::AbsentParts;

/// Longest time for which a tag list serves the pages behind its first one, so that a client which reads all pages
/// does not have the list made for each of them.
const TAG_PAGES_LIFETIME: Duration = Duration::from_secs(10);

/// Lifetime of what other writers may change without notice.
const RELAXED_LIFETIME: Duration = Duration::from_secs(1);

/// Options of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// Parts of pushed manifests that may be absent.
    pub absent_parts: AbsentParts,
    /// Visibility of other writers' changes; without it, [`Coherence::Strict`] on a shared storage, and
    /// [`Coherence::Relaxed`] on any other.
    pub coherence: Option<Coherence>,
}

/// Visibility of changes that other processes make to the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherence {
    /// Each request sees every change that was acknowledged before.
    Strict,
    /// Each request sees every change that was acknowledged a second before.
    Relaxed,
}

impl Coherence {
    /// Returns the lifetime of tags, links, absences and lists in memory.
    pub(super) const fn lifetime(self) -> Duration {
        match self {
            Self::Strict => Duration::ZERO,
            Self::Relaxed => RELAXED_LIFETIME,
        }
    }

    /// Returns the lifetime of a tag list that serves the pages behind its first one.
    pub(super) const fn tag_pages_lifetime(self) -> Duration {
        match self {
            Self::Strict => TAG_PAGES_LIFETIME,
            Self::Relaxed => RELAXED_LIFETIME,
        }
    }
}
