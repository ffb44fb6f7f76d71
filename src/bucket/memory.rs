//! Memory for transfers: the parts of all uploads, and the bytes of pulls that are read ahead.
//!
//! Memory is taken from one budget before it is used, and counts until its last byte was sent, also while a
//! repetition of a request or the connection holds it. The buffer of a short upload is short; one that has outgrown it
//! waits for the memory of a whole part at once, so that each upload with such a buffer can go on, and gives the memory
//! back. Buffers of sessions that wait for their next request, and bytes that are read ahead, make place for others.

mod buffer;
mod slabs;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinistry_store::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::slabs::{NumberedBlock, Slabs};

pub(crate) use self::buffer::{BlockBuffer, IdleBuffer};

/// Length of a block, in bytes. The shortest upload takes one; a part of 10 MiB is sent in 160 pieces.
const BLOCK_BYTES: usize = 64 * 1024;

/// Longest wait for memory.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Budget of the memory for transfers. Clones share it.
#[derive(Clone, Debug)]
pub struct TransferMemory(Arc<Budget>);

struct Budget {
    free: Arc<Semaphore>,
    blocks: u32,
    block_bytes: usize,
    max_wait: Duration,
    slabs: Mutex<Slabs>,
    /// Places of memory that its holder does not need now, the longest idle first.
    idle: Mutex<VecDeque<Weak<dyn IdleMemory>>>,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, block_bytes, .. } = self;
        let mut debug = f.debug_struct("Budget");
        debug.field("blocks", blocks).field("block_bytes", block_bytes).finish_non_exhaustive()
    }
}

/// Memory that its holder does not need now.
pub(crate) trait IdleMemory: Send + Sync {
    /// Frees the memory. Returns false if there was none any more.
    fn free(&self) -> bool;
}

/// Blocks taken from the budget, of which nothing was written yet.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: TransferMemory,
    permit: OwnedSemaphorePermit,
}

/// A block of memory that bytes are written to.
#[derive(Debug)]
pub(crate) struct Block {
    memory: TransferMemory,
    slab: usize,
    bytes: BytesMut,
    /// Given back after the memory.
    _permit: OwnedSemaphorePermit,
}

// === impl TransferMemory ===

impl TransferMemory {
    /// Makes a budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::with(bytes, BLOCK_BYTES, MAX_WAIT)
    }

    pub(crate) fn with(bytes: u64, block_bytes: usize, max_wait: Duration) -> Self {
        let blocks = u32::try_from(bytes / block_bytes as u64).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        Self(Arc::new(Budget {
            free: Arc::new(Semaphore::new(blocks as usize)),
            blocks,
            block_bytes,
            max_wait,
            slabs: Mutex::new(Slabs::new(block_bytes)),
            idle: Mutex::default(),
        }))
    }

    /// Returns the size of the budget in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.0.blocks) * self.block_bytes()
    }

    /// Returns the number of free bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.0.free.available_permits() as u64 * self.block_bytes()
    }

    /// Returns the length of a block in bytes.
    pub(crate) fn block_bytes(&self) -> u64 {
        self.0.block_bytes as u64
    }

    fn blocks(&self, bytes: u64) -> u32 {
        let blocks = bytes.div_ceil(self.block_bytes());
        u32::try_from(blocks).unwrap_or(u32::MAX).min(self.0.blocks)
    }

    fn reservation(&self, permit: OwnedSemaphorePermit) -> Reservation {
        Reservation { memory: self.clone(), permit }
    }

    /// Takes memory for `bytes` if that is free, or held by an idle session.
    pub(crate) fn try_take(&self, bytes: u64) -> Option<Reservation> {
        loop {
            if let Some(taken) = self.take_free(bytes) {
                return Some(taken);
            }
            self.free_idle()?;
        }
    }

    /// Takes memory for `bytes` if that is free: memory that is only useful must not take that of idle sessions.
    pub(crate) fn take_free(&self, bytes: u64) -> Option<Reservation> {
        let permit = self.0.free.clone().try_acquire_many_owned(self.blocks(bytes)).ok()?;
        Some(self.reservation(permit))
    }

    /// Takes memory for `bytes`, or the whole budget if that is smaller, once it is free. [`StorageError::Busy`] after
    /// 30 seconds.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Reservation, StorageError> {
        if let Some(taken) = self.try_take(bytes) {
            return Ok(taken);
        }
        let acquire = self.0.free.clone().acquire_many_owned(self.blocks(bytes));
        let permit = tokio::time::timeout(self.0.max_wait, acquire).await;
        permit.ok().and_then(Result::ok).map(|permit| self.reservation(permit)).ok_or(StorageError::Busy)
    }

    /// Frees the memory that has been idle for longest; `None` if none is idle.
    fn free_idle(&self) -> Option<()> {
        loop {
            let place = self.idle().pop_front()?;
            if place.upgrade().is_some_and(|place| place.free()) {
                return Some(());
            }
        }
    }

    /// Adds memory that may be freed from now on.
    pub(crate) fn add_idle(&self, place: Weak<dyn IdleMemory>) {
        let mut idle = self.idle();
        // Places that are dropped have no memory.
        if idle.len() > 1024 {
            idle.retain(|place| place.strong_count() > 0);
        }
        idle.push_back(place);
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Weak<dyn IdleMemory>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.0.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Reservation ===

impl Reservation {
    /// Returns the number of bytes for which there is memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * self.memory.block_bytes()
    }

    /// Adds the memory of another reservation.
    pub(crate) fn add(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }

    /// Returns a block of the reservation; `None` if it has none left.
    pub(crate) fn block(&mut self) -> Option<Block> {
        let permit = self.permit.split(1)?;
        let (slab, bytes) = self.memory.slabs().take();
        Some(Block { memory: self.memory.clone(), slab, bytes, _permit: permit })
    }
}

// === impl Block ===

impl Block {
    /// Returns the number of bytes that can be written.
    pub(crate) fn room(&self) -> usize {
        self.memory.0.block_bytes - self.bytes.len()
    }

    /// Appends bytes, no more than there is room for.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "a block never grows");
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes. The block is given back with the last clone of them.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let block: NumberedBlock = (self.slab, std::mem::take(&mut self.bytes));
        self.memory.slabs().give_back(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_that_is_not_free_is_waited_for_and_then_refused() {
        let memory = TransferMemory::with(10, 1, Duration::ZERO);
        let taken = memory.take(6).await.unwrap();
        assert!(matches!(memory.take(6).await, Err(StorageError::Busy)));
        assert_eq!(memory.free_bytes(), 4);
        drop(taken);
        assert!(memory.take(100).await.is_ok(), "the whole budget, if it is smaller");
    }

    #[test]
    fn bytes_count_until_the_last_clone_of_them_is_dropped() {
        let memory = TransferMemory::with(100, 10, Duration::ZERO);
        let mut reservation = memory.try_take(25).unwrap();
        assert_eq!((reservation.bytes(), memory.free_bytes()), (30, 70));
        let mut block = reservation.block().unwrap();
        block.extend(b"abc");
        assert_eq!((block.room(), reservation.bytes()), (7, 20));
        let bytes = block.freeze();
        let slice = bytes.slice(1..);
        drop((bytes, reservation));
        assert_eq!((&slice[..], memory.free_bytes()), (&b"bc"[..], 90));
        drop(slice);
        assert_eq!(memory.free_bytes(), 100);
        assert_eq!(memory.slabs().count(), 0);
    }
}
