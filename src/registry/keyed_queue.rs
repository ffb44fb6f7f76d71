//! Queues, one for each key, in which requests for the same object wait without a thread.
//!
//! The store blocks, and threads that may block are few. Without queues, clients that push to one repository
//! would hold all of these threads while they wait for its lock, and requests to other repositories would
//! wait as well.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// Map from keys to queues; a queue exists as long as a request is in it. Clones share the map.
#[derive(Debug)]
pub(crate) struct KeyedQueue<K: Eq + Hash>(Arc<Mutex<HashMap<K, Arc<Lock<()>>>>>);

/// Turn of one request at the head of its queue, which ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct QueueTurn<K: Eq + Hash> {
    // Dropped first, so that the next request proceeds.
    _guard: OwnedMutexGuard<()>,
    _entry: QueueEntry<K>,
}

/// Entry in a queue. Dropping the last one removes the queue.
#[derive(Debug)]
struct QueueEntry<K: Eq + Hash> {
    queues: KeyedQueue<K>,
    key: K,
    queue: Option<Arc<Lock<()>>>,
}

impl<K: Eq + Hash> Clone for KeyedQueue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Default for KeyedQueue<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> KeyedQueue<K> {
    /// Waits until it is the caller's turn, in the order of arrival.
    pub(crate) async fn wait(&self, key: &K) -> QueueTurn<K> {
        let queue = self.lock().entry(key.clone()).or_default().clone();
        let entry = QueueEntry { queues: self.clone(), key: key.clone(), queue: Some(queue.clone()) };
        QueueTurn { _guard: queue.lock_owned().await, _entry: entry }
    }
}

impl<K: Eq + Hash> KeyedQueue<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Lock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for QueueEntry<K> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        self.queue = None;
        // Every other holder cloned it from the map, whose lock is held here.
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{FutureExt as _, join_all};

    use super::*;

    #[tokio::test]
    async fn requests_take_turns_and_leave_no_queue() {
        let queues = KeyedQueue::<&str>::default();
        let inside = Arc::new(Lock::new(()));
        let tasks = (0..100).map(|i| {
            let (queues, inside) = (queues.clone(), inside.clone());
            tokio::spawn(async move {
                let _turn = queues.wait(&["a", "b"][i % 2]).await;
                if i % 2 == 0 {
                    let _inside = inside.try_lock().expect("no other request is inside");
                    tokio::task::yield_now().await;
                }
            })
        });
        for task in join_all(tasks).await {
            task.unwrap();
        }
        assert!(queues.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_that_leaves_the_queue_holds_up_no_other() {
        let queues = KeyedQueue::<&str>::default();
        let first = queues.wait(&"a").await;
        {
            let mut leaves = pin!(queues.wait(&"a"));
            assert!(leaves.as_mut().now_or_never().is_none());
            drop(first);
        }
        let other = queues.wait(&"b").await;
        drop(queues.wait(&"a").await);
        drop(other);
        assert!(queues.lock().is_empty());
    }
}
