//! Budgets for memory that clients hold beyond the few KiB that every connection has.
//!
//! A hostile client makes a server hold memory by not sending or not reading what it began. Each connection is bounded
//! by its deadlines; the budgets bound the sum of all connections. Where a budget is used up, bodies go out in smaller
//! pieces and come in by smaller reads: slower, never refused. What must be in memory as a whole waits for room, and is
//! refused after [`PATIENCE`]; a request whose head is longer than [`SMALL`] is refused at once. A server may have budgets
//! of its own beside the two that are here.
//!
//! Memory belongs to the process, so the budgets do too.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that each connection may hold of each kind (read, written) outside of every budget: 4,096
/// connections times a page for each.
pub const SMALL: usize = 4 * 1024;

/// Longest time that an answer, or a body that is read as a whole, waits for room.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Read buffers of connections that send much.
pub static READS: Room = Room::new(8 * 1024 * 1024);

/// Parts of answers that lie in memory until the client has taken them.
pub static ANSWERS: Room = Room::new(8 * 1024 * 1024);

/// A share of a budget, given back when it is dropped.
pub type Share = SemaphorePermit<'static>;

/// A budget, in bytes.
#[derive(Debug)]
pub struct Room {
    size: usize,
    free: Semaphore,
}

impl Room {
    /// A budget of this number of bytes, all of them free.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size, free: Semaphore::const_new(size) }
    }

    /// Takes this number of bytes, if they are free.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire_many(u32::try_from(bytes).ok()?).ok()
    }

    /// Takes this number of bytes, or the whole budget if it is smaller, when they are free and the requests
    /// before have theirs; `None` if that takes longer than `patience`.
    pub async fn take(&self, bytes: usize, patience: Duration) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes.min(self.size)).unwrap_or(u32::MAX);
        tokio::time::timeout(patience, self.free.acquire_many(bytes)).await.ok()?.ok()
    }

    /// Takes an eighth of what is free, at most `most` bytes; `None` if that is no more than [`SMALL`]. So
    /// clients that hold their shares for long leave ever smaller ones to others, and never nothing.
    #[must_use]
    pub fn take_part(&self, most: usize) -> Option<(usize, SemaphorePermit<'_>)> {
        let part = most.min(self.free.available_permits() / 8 / SMALL * SMALL);
        if part <= SMALL { None } else { Some((part, self.try_take(part)?)) }
    }

    /// Less than a quarter is free: clients that hold room without moving bytes are now cut off sooner.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.free.available_permits() < self.size / 4
    }
}

/// Bytes that give back their share when the last of them is dropped.
#[must_use]
pub fn with_share(bytes: Bytes, share: Share) -> Bytes {
    struct Shared {
        bytes: Bytes,
        _share: Share,
    }
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Shared { bytes, _share: share })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_shrink_as_the_room_fills_and_never_exceed_it() {
        let room = Room::new(1024 * 1024);
        let mut shares = Vec::new();
        while let Some(share) = room.take_part(256 * 1024) {
            shares.push(share);
        }
        let parts: Vec<usize> = shares.iter().map(|(part, _)| *part).collect();
        assert!(parts.is_sorted_by(|before, after| before >= after), "{parts:?}");
        assert_eq!(parts[0], 128 * 1024);
        assert!(parts.iter().sum::<usize>() <= 1024 * 1024);
        assert!(room.is_tight());
        drop(shares);
        assert!(!room.is_tight());
        assert!(room.try_take(1024 * 1024).is_some());
    }

    #[test]
    fn bytes_give_back_their_share_with_their_last_clone() {
        static ROOM: Room = Room::new(10);
        let bytes = with_share(Bytes::from_static(b"abc"), ROOM.try_take(10).unwrap());
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert!(ROOM.try_take(1).is_none());
        drop(slice);
        assert!(ROOM.try_take(10).is_some());
    }

    #[tokio::test]
    async fn a_request_for_room_gives_up_after_a_while() {
        let room = Room::new(10);
        let all = room.take(1000, PATIENCE).await.unwrap();
        assert!(room.take(1, Duration::ZERO).await.is_none());
        drop(all);
        assert!(room.take(1, PATIENCE).await.is_some());
    }
}
