//! Safeguards of collection, which a test removes to see that the proof needs each of them.

use crate::Store;

/// Step that keeps content which is in use. In release builds all of them stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(any(test, feature = "testing")), expect(unreachable_pub, reason = "public for tests alone"))]
pub enum Safeguard {
    /// Removals do not harm what is written after a time, and are repeated by a successor before `done`.
    Fence,
    /// `doom` is created before the revivals are listed.
    DoomBeforeList,
    /// A mark begins at least the grace after the epoch was sealed whose subjects it decides on.
    MarkAfterGrace,
    /// A mount touches the bytes and the new link.
    TouchOnMount,
    /// HEAD and GET touch what they answer for.
    TouchOnHead,
    /// A commit of a blob or manifest touches itself and its parts.
    TouchOnCommit,
    /// A commit of doomed content waits until its removal is over.
    DoneWait,
    /// An epoch is sealed after all subjects of the former one were swept.
    SealAfterSwept,
    /// A move of a tag that an intent makes touches its manifest.
    TagTouch,
    /// A push looks for its revision after it has written the tag.
    CreateStageFive,
    /// A view counts for a limited time only.
    FreshnessCheck,
    /// A touch of a manifest touches all that it needs first.
    DeepTouch,
    /// The lead is checked between the fence and the removals.
    LeadCheck,
    /// The storage is asked for the subjects of a commit whose view grew too old.
    Recheck,
    /// A leader that repeats the removals of another one says so before it looks for their end.
    RepeatNotice,
}

impl Safeguard {
    /// All safeguards.
    #[cfg(any(test, feature = "testing"))]
    pub const ALL: [Self; 15] = [
        Self::Fence,
        Self::DoomBeforeList,
        Self::MarkAfterGrace,
        Self::TouchOnMount,
        Self::TouchOnHead,
        Self::TouchOnCommit,
        Self::DoneWait,
        Self::SealAfterSwept,
        Self::TagTouch,
        Self::CreateStageFive,
        Self::FreshnessCheck,
        Self::DeepTouch,
        Self::LeadCheck,
        Self::Recheck,
        Self::RepeatNotice,
    ];
}

impl Store {
    /// Removes a safeguard from this store and its clones, to see that a test fails without.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn without_safeguard(self, safeguard: Safeguard) -> Self {
        self.0.collector.removed.fetch_or(1 << safeguard as u32, std::sync::atomic::Ordering::Relaxed);
        self
    }

    /// Returns true unless a test has removed the safeguard.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn has(&self, safeguard: Safeguard) -> bool {
        self.0.collector.removed.load(std::sync::atomic::Ordering::Relaxed) & (1 << safeguard as u32) == 0
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[expect(clippy::unused_self, reason = "a test build asks the store")]
    pub(crate) const fn has(&self, _: Safeguard) -> bool {
        true
    }
}
