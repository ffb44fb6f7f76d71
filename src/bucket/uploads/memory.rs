//! Memory for the parts of all uploads.
//!
//! A part gathers in a buffer that is counted in the budget. The buffer of a short upload is short; one that
//! has outgrown it waits for a whole part at once, so that each upload with such a buffer can go on, and
//! gives the memory back. Buffers of sessions that wait for their next request make place for others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use quinistry_store::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the budget, in bytes.
const UNIT_BYTES: u64 = 1024;

/// Capacity of the first buffer of an upload whose length is not known, in bytes.
pub(super) const FIRST_BUFFER_BYTES: u64 = 64 * 1024;

/// Longest wait for memory.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Budget of the memory for parts. Clones share it.
#[derive(Clone, Debug)]
pub struct PartMemory(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    free: Arc<Semaphore>,
    units: u32,
    max_wait: Duration,
    /// Buffers of sessions that wait for their next request, the longest idle first.
    idle: Mutex<VecDeque<Weak<Mutex<Option<PartBuffer>>>>>,
}

/// Bytes of a part, counted in the budget.
#[derive(Debug)]
pub(super) struct PartBuffer {
    bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Place of a buffer while its session waits for a request. The budget may take the buffer from there.
#[derive(Debug, Default)]
pub(super) struct IdleBuffer(Arc<Mutex<Option<PartBuffer>>>);

/// Memory taken from the budget.
pub(super) type MemoryPermit = OwnedSemaphorePermit;

// === impl PartMemory ===

impl PartMemory {
    /// Makes a budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::with_wait(bytes, MAX_WAIT)
    }

    pub(super) fn with_wait(bytes: u64, max_wait: Duration) -> Self {
        let units = units(bytes).min(u32::MAX >> 4);
        let free = Arc::new(Semaphore::new(units as usize));
        Self(Arc::new(Budget { free, units, max_wait, idle: Mutex::default() }))
    }

    /// Returns the size of the budget in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.0.units) * UNIT_BYTES
    }

    /// Returns the number of free bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.0.free.available_permits() as u64 * UNIT_BYTES
    }

    /// Takes memory if it is free, or held by an idle session.
    pub(super) fn try_take(&self, bytes: u64) -> Option<MemoryPermit> {
        let units = units(bytes).min(self.0.units);
        loop {
            if let Ok(permit) = self.0.free.clone().try_acquire_many_owned(units) {
                return Some(permit);
            }
            self.free_idle()?;
        }
    }

    /// Takes memory once it is free. [`StorageError::Busy`] after 30 seconds.
    pub(super) async fn take(&self, bytes: u64) -> Result<MemoryPermit, StorageError> {
        if let Some(permit) = self.try_take(bytes) {
            return Ok(permit);
        }
        let units = units(bytes).min(self.0.units);
        let taken =
            tokio::time::timeout(self.0.max_wait, self.0.free.clone().acquire_many_owned(units)).await;
        taken.ok().and_then(Result::ok).ok_or(StorageError::Busy)
    }

    /// Frees the buffer of the session that has been idle for longest; `None` if no session is idle.
    fn free_idle(&self) -> Option<()> {
        loop {
            let buffer = self.idle().pop_front()?;
            if let Some(buffer) = buffer.upgrade()
                && lock(&buffer).take().is_some()
            {
                return Some(());
            }
        }
    }

    /// Puts a buffer where the budget can take it, until the session goes on.
    pub(super) fn park(&self, buffer: PartBuffer) -> IdleBuffer {
        let place = Arc::new(Mutex::new(Some(buffer)));
        let mut idle = self.idle();
        // Places that are empty again are no news.
        if idle.len() > 1024 {
            idle.retain(|place| place.strong_count() > 0);
        }
        idle.push_back(Arc::downgrade(&place));
        IdleBuffer(place)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Weak<Mutex<Option<PartBuffer>>>>> {
        lock(&self.0.idle)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

// === impl IdleBuffer ===

impl IdleBuffer {
    /// Takes the buffer back; `None` if the budget has taken it.
    pub(super) fn take(&self) -> Option<PartBuffer> {
        lock(&self.0).take()
    }
}

// === impl PartBuffer ===

impl PartBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), permit: None }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of bytes for which memory was taken.
    pub(super) fn capacity(&self) -> u64 {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits() as u64 * UNIT_BYTES)
    }

    pub(super) fn grow(&mut self, permit: MemoryPermit) {
        match &mut self.permit {
            Some(own) => own.merge(permit),
            none => *none = Some(permit),
        }
        let capacity = usize::try_from(self.capacity()).unwrap_or(usize::MAX);
        self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the bytes, and the memory to give back once no request needs them.
    pub(super) fn into_bytes(self) -> (Bytes, Option<MemoryPermit>) {
        (self.bytes.into(), self.permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    #[tokio::test]
    async fn memory_that_is_not_free_is_waited_for_and_then_refused() {
        let memory = PartMemory::with_wait(10 * KIB, Duration::ZERO);
        let taken = memory.take(6 * KIB).await.unwrap();
        assert!(matches!(memory.take(6 * KIB).await, Err(StorageError::Busy)));
        assert_eq!(memory.free_bytes(), 4 * KIB);
        drop(taken);
        assert!(memory.take(100 * KIB).await.is_ok(), "the whole budget, if it is smaller");
    }

    #[tokio::test]
    async fn idle_buffers_make_place_and_are_taken_back_until_then() {
        let memory = PartMemory::with_wait(10 * KIB, Duration::ZERO);
        let parked = |bytes: &[u8]| {
            let mut buffer = PartBuffer::new();
            buffer.grow(memory.try_take(5 * KIB).unwrap());
            buffer.extend(bytes);
            memory.park(buffer)
        };
        let (first, second) = (parked(b"first"), parked(b"second"));
        let permit = memory.take(4 * KIB).await.unwrap();
        assert!(first.take().is_none(), "the longest idle buffer makes place");
        assert_eq!(second.take().unwrap().bytes(), b"second");
        drop(permit);
        assert_eq!(memory.free_bytes(), 10 * KIB);
    }
}
