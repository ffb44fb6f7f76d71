//! Scrub: reads all stored content at leisure, and takes away bytes that do not have their digest.
//!
//! A disk loses bits without a word, and bytes that no client asks for are damaged for years until one does.
//! The scrub therefore reads all content once in an interval, in the order of digests, and remembers its
//! position in the storage. Bytes that a client's read found damaged are read first. Nothing is believed to
//! be damaged by one read: a second one, from where the bytes are kept for good, must find the same.
//!
//! Damaged bytes are copied into the quarantine and removed. The content is then absent, so that the next
//! client that checks before it pushes brings it again; where a [`HealSource`] has it, the content is
//! replaced at once. The bytes of a manifest stay in their place until then: they count as absent as well,
//! and a collection takes a manifest without bytes for a deleted one, whose layers need not be kept.
//!
//! The leader of the replicas alone makes the rounds. One process reads more in an interval than a bucket
//! commonly holds, the rate is one bound for all replicas, and the next leader goes on at the kept position;
//! prefixes that replicas share out would need a register each, and gain nothing.

mod check;
mod damage;
mod heal;
mod holders;
mod missing;
mod pace;
mod position;
mod quarantine;
mod round;
mod statistics;
mod suspects;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

pub use self::heal::{ContentKind, HealError, HealSource, Holder, StorageSource};
pub use self::pace::ScrubClock;
pub use self::quarantine::Quarantined;
pub use self::round::ScrubStep;
pub(super) use self::statistics::ScrubCounts;
pub use self::statistics::ScrubStatistics;
pub(super) use self::suspects::Suspects;

/// Options of a scrub.
#[derive(Clone, Debug)]
pub struct ScrubOptions {
    /// Time in which all content is read once.
    pub interval: Duration,
    /// Greatest number of bytes that are read per second.
    pub rate: NonZeroU64,
    /// Sources of content that replaces damaged one, in the order in which they are asked.
    pub sources: Vec<Arc<dyn HealSource>>,
}
