//! Room that running fetches will take. Blobs that come at once would otherwise all count on the same free bytes. Pure.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of bytes that running fetches will still write. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PromisedRoom(Arc<Mutex<u64>>);

/// Room of one fetch, given back when this value is dropped.
#[derive(Debug)]
pub(crate) struct Promise {
    room: PromisedRoom,
    /// Bytes that the fetch has not written yet.
    left: u64,
}

impl PromisedRoom {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises room for `length` bytes, if `is_there` agrees to the sum of these and of all that is promised already.
    pub(crate) fn promise(&self, length: u64, is_there: impl FnOnce(u64) -> bool) -> Option<Promise> {
        let mut promised = self.lock();
        let sum = promised.checked_add(length).filter(|sum| is_there(*sum))?;
        *promised = sum;
        Some(Promise { room: self.clone(), left: length })
    }
}

impl Promise {
    /// Takes note of bytes that were written, which the storage counts itself.
    pub(crate) fn use_up(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        *self.room.lock() -= bytes;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        *self.room.lock() -= self.left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_add_up_until_they_are_used_or_dropped() {
        let room = PromisedRoom::default();
        let fits = |sum| sum <= 10;
        let mut one = room.promise(6, fits).unwrap();
        assert!(room.promise(5, fits).is_none() && room.promise(u64::MAX, |_| true).is_none());
        one.use_up(2);
        let other = room.promise(6, fits).unwrap();
        one.use_up(100);
        drop(one);
        assert_eq!(*room.lock(), 6);
        drop(other);
        assert_eq!(*room.lock(), 0);
    }
}
