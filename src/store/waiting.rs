//! Waits for locks that are held during requests to the storage. A test that decides which thread runs next decides
//! here as well.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex that guards no memory, so that a panic under it leaves nothing behind that a crash would not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    while is_scheduled() {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => scheduled::let_others_run(),
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns true if a test decides which thread runs next: a thread that it does not know must send no requests.
#[cfg(not(test))]
pub(crate) const fn is_scheduled() -> bool {
    false
}

#[cfg(test)]
pub(crate) use self::scheduled::{is_scheduled, set_yielding};

#[cfg(test)]
mod scheduled {
    use std::cell::RefCell;

    thread_local! {
        /// Call that lets other threads run; `None` on threads that no test schedules.
        static YIELDING: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
    }

    /// Sets the call by which this thread lets others run while a lock is held.
    pub(crate) fn set_yielding(yielding: Option<Box<dyn Fn()>>) {
        YIELDING.set(yielding);
    }

    /// Returns true if a test decides which thread runs next.
    pub(crate) fn is_scheduled() -> bool {
        YIELDING.with_borrow(Option::is_some)
    }

    pub(super) fn let_others_run() {
        YIELDING.with_borrow(|yielding| yielding.iter().for_each(|yielding| yielding()));
    }
}
