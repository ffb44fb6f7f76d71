//! Budgets for the memory that clients hold beyond the few KiB that every connection has.
//!
//! A hostile client makes a server hold memory by not sending, or not reading, what it began. Deadlines bound
//! each connection; the budgets bound the sum of all connections. Where a budget is used up, bodies are sent
//! in smaller pieces and received by smaller reads: slower, never refused. Content that must be in memory as
//! a whole waits for its budget, and is refused after [`PERMIT_TIMEOUT`]; a request whose head is longer than
//! [`UNBUDGETED_BYTES`] is refused at once. A server may have budgets of its own beside the two that are
//! defined here.
//!
//! Memory belongs to the process, so the budgets do too.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that each connection may hold of each kind (read, written) outside of every budget: 4,096
/// connections times a page for each.
pub const UNBUDGETED_BYTES: usize = 4 * 1024;

/// Longest time that a response, or a body that is read as a whole, waits for its budget.
pub const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Budget of the read buffers of connections that send much.
pub static READ_BUFFERS: MemoryBudget = MemoryBudget::new(SMALL_BUDGET_BYTES);

/// Budget of the parts of responses that lie in memory until the client has read them.
pub static RESPONSES: MemoryBudget = MemoryBudget::new(SMALL_BUDGET_BYTES);

/// Size of both budgets at first: 4,096 connections that mix all attacks take up to 110 MiB beside them, and
/// the pods that serve a generation have 128 MiB.
const SMALL_BUDGET_BYTES: usize = 4 * 1024 * 1024;

/// Size of both budgets in a server whose clients push, which needs more memory anyway.
const LARGE_BUDGET_BYTES: usize = 8 * 1024 * 1024;

/// Enlarges [`READ_BUFFERS`] and [`RESPONSES`] for a server whose clients push, once for the process.
pub fn enlarge() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for budget in [&READ_BUFFERS, &RESPONSES] {
            budget.extend(LARGE_BUDGET_BYTES - SMALL_BUDGET_BYTES);
        }
    });
}

/// Bytes taken from a budget, given back when the permit is dropped.
pub type Permit = SemaphorePermit<'static>;

/// Bound on the bytes that all clients together may make the process hold for one purpose.
#[derive(Debug)]
pub struct MemoryBudget {
    size: AtomicUsize,
    free: Semaphore,
}

impl MemoryBudget {
    /// Makes a budget of `size` bytes, all of them free.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size: AtomicUsize::new(size), free: Semaphore::const_new(size) }
    }

    /// Adds bytes to the budget.
    fn extend(&self, bytes: usize) {
        self.size.fetch_add(bytes, Ordering::Relaxed);
        self.free.add_permits(bytes);
    }

    /// Returns the size of the budget in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Returns the number of free bytes.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free.available_permits()
    }

    /// Takes `bytes` from the budget, if they are free.
    #[must_use]
    pub fn try_acquire(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire_many(u32::try_from(bytes).ok()?).ok()
    }

    /// Takes `bytes`, or the whole budget if it is smaller, once they are free and all earlier callers have
    /// theirs. Returns `None` if that takes longer than `timeout`.
    pub async fn acquire(&self, bytes: usize, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes.min(self.size())).unwrap_or(u32::MAX);
        tokio::time::timeout(timeout, self.free.acquire_many(bytes)).await.ok()?.ok()
    }

    /// Takes an eighth of the free bytes, at most `max_bytes`; `None` if that is no more than
    /// [`UNBUDGETED_BYTES`]. So clients that hold their permits for long leave ever smaller ones to others,
    /// and never nothing.
    #[must_use]
    pub fn try_acquire_part(&self, max_bytes: usize) -> Option<(usize, SemaphorePermit<'_>)> {
        let part = max_bytes.min(self.free.available_permits() / 8 / UNBUDGETED_BYTES * UNBUDGETED_BYTES);
        if part <= UNBUDGETED_BYTES { None } else { Some((part, self.try_acquire(part)?)) }
    }

    /// Returns true if less than a quarter is free. Clients that hold a permit without moving bytes are then
    /// cut off sooner.
    #[must_use]
    pub fn is_nearly_exhausted(&self) -> bool {
        self.free.available_permits() < self.size() / 4
    }
}

/// Returns `bytes` as bytes that give back `permit` when the last clone of them is dropped.
#[must_use]
pub fn with_permit(bytes: Bytes, permit: Permit) -> Bytes {
    struct Budgeted {
        bytes: Bytes,
        _permit: Permit,
    }
    impl AsRef<[u8]> for Budgeted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Budgeted { bytes, _permit: permit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_shrink_as_the_budget_is_used_and_never_exceed_it() {
        let budget = MemoryBudget::new(1024 * 1024);
        let mut permits = Vec::new();
        while let Some(permit) = budget.try_acquire_part(256 * 1024) {
            permits.push(permit);
        }
        let parts: Vec<usize> = permits.iter().map(|(part, _)| *part).collect();
        assert!(parts.is_sorted_by(|before, after| before >= after), "{parts:?}");
        assert_eq!(parts[0], 128 * 1024);
        assert!(parts.iter().sum::<usize>() <= 1024 * 1024);
        assert!(budget.is_nearly_exhausted());
        drop(permits);
        assert!(!budget.is_nearly_exhausted());
        assert!(budget.try_acquire(1024 * 1024).is_some());
    }

    #[test]
    fn bytes_give_back_their_permit_with_their_last_clone() {
        static BUDGET: MemoryBudget = MemoryBudget::new(10);
        let bytes = with_permit(Bytes::from_static(b"abc"), BUDGET.try_acquire(10).unwrap());
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert!(BUDGET.try_acquire(1).is_none());
        drop(slice);
        assert!(BUDGET.try_acquire(10).is_some());
    }

    #[tokio::test]
    async fn an_extended_budget_has_more_free_bytes() {
        let budget = MemoryBudget::new(10);
        let permit = budget.try_acquire(10).unwrap();
        budget.extend(20);
        assert!(!budget.is_nearly_exhausted());
        drop(permit);
        assert!(budget.acquire(1000, PERMIT_TIMEOUT).await.is_some_and(|all| all.num_permits() == 30));
    }

    #[tokio::test]
    async fn acquiring_times_out() {
        let budget = MemoryBudget::new(10);
        let all = budget.acquire(1000, PERMIT_TIMEOUT).await.unwrap();
        assert!(budget.acquire(1, Duration::ZERO).await.is_none());
        drop(all);
        assert!(budget.acquire(1, PERMIT_TIMEOUT).await.is_some());
    }
}
