//! Locks: meaning of a poisoned lock, and the order in which several locks are taken.
//!
//! A thread that panics while it holds a lock leaves a consistent value: each critical section makes one
//! change, and computes it before it writes. So the next task that takes the lock uses the value, and one
//! failed task does not end all others. The operator's `watches` end the tasks that must not go on after a
//! panic.
//!
//! Order for code that holds one lock while it takes another; all other locks are taken alone:
//!
//! 1. the operator's claims: the map of namespaces, then one namespace's claim (both asynchronous),
//! 2. the operator's seed parts: the set of sound parts, then the watches by namespace,
//! 3. the cache of one kind of objects.
//!
//! No lock but the asynchronous ones is held across an `await`.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, poisoned or not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
