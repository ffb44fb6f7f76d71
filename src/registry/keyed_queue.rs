//! Turns: of requests that would wait for each other anyway, one works and the others wait without a thread.
//!
//! The store blocks, and threads that may block are few. Without turns, clients that push to one repository
//! would hold all of them while they wait for its lock, and requests to other repositories would wait as
//! well.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// One queue for each key, as long as a request is in it. Clones share them.
#[derive(Debug)]
pub(crate) struct Turns<K: Eq + Hash>(Arc<Mutex<HashMap<K, Arc<Lock<()>>>>>);

/// The turn of one request; it ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<K: Eq + Hash> {
    // Dropped first, so that the next request goes on.
    _guard: OwnedMutexGuard<()>,
    _place: Place<K>,
}

/// A place in a queue, which ends with the last of its places.
#[derive(Debug)]
struct Place<K: Eq + Hash> {
    turns: Turns<K>,
    key: K,
    queue: Option<Arc<Lock<()>>>,
}

impl<K: Eq + Hash> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Default for Turns<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Waits until it is the caller's turn, in the order in which requests came.
    pub(crate) async fn wait(&self, key: &K) -> Turn<K> {
        let queue = self.queues().entry(key.clone()).or_default().clone();
        let place = Place { turns: self.clone(), key: key.clone(), queue: Some(queue.clone()) };
        Turn { _guard: queue.lock_owned().await, _place: place }
    }
}

impl<K: Eq + Hash> Turns<K> {
    fn queues(&self) -> MutexGuard<'_, HashMap<K, Arc<Lock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        self.queue = None;
        // All others that hold it took it out of the map, under whose lock this is.
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
    async fn one_at_a_time_and_nothing_is_left() {
        let turns = Turns::<&str>::default();
        let inside = Arc::new(Lock::new(()));
        let tasks = (0..100).map(|i| {
            let (turns, inside) = (turns.clone(), inside.clone());
            tokio::spawn(async move {
                let _turn = turns.wait(&["a", "b"][i % 2]).await;
                if i % 2 == 0 {
                    let _inside = inside.try_lock().expect("no other request is inside");
                    tokio::task::yield_now().await;
                }
            })
        });
        for task in join_all(tasks).await {
            task.unwrap();
        }
        assert!(turns.queues().is_empty());
    }

    #[tokio::test]
    async fn a_request_that_leaves_the_queue_holds_up_no_other() {
        let turns = Turns::<&str>::default();
        let first = turns.wait(&"a").await;
        {
            let mut leaves = pin!(turns.wait(&"a"));
            assert!(leaves.as_mut().now_or_never().is_none());
            drop(first);
        }
        let other = turns.wait(&"b").await;
        drop(turns.wait(&"a").await);
        drop(other);
        assert!(turns.queues().is_empty());
    }
}
