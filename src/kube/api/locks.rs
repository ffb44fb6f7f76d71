//! Locks: what a poisoned one means, and in which order several are taken.
//!
//! A thread that panics while it holds a lock leaves behind a value that is whole: each critical section makes one
//! change, and works out what to write before it writes. So the next task that takes the lock goes on with the
//! value, and one failed task does not end all others. The operator's `watches` end the tasks that must not go on after
//! a panic.
//!
//! Order, for those who hold one lock while they take another; all locks that are not named here are taken alone:
//!
//! 1. the operator's claims: the map of namespaces, then one namespace's claim (both asynchronous),
//! 2. the operator's seed parts: which of them are sound, then the watches by namespace,
//! 3. the cache of one kind of objects.
//!
//! No lock but the asynchronous ones is held across an `await`.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, poisoned or not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
