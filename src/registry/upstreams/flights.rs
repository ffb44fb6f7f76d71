//! Questions that several requests share: one task asks, and all who wait get its result.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_fetch::hops;
use tokio::sync::watch;

/// Tasks that run, by what they find out. Clones share them.
pub(crate) struct Flights<K, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>);

/// Entry of a task, which is removed also if the task panics.
struct FlightEntry<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for FlightEntry<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<K, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, watch::Receiver<Option<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Waits for the task of a key, which is begun if none runs. The task ends although its requests leave. Returns the
    /// result and whether another request had begun the task; no result if the task was broken off.
    pub(crate) async fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> (Option<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let running = self.lock().get(&key).cloned();
        let is_joined = running.is_some();
        let mut result = match running {
            Some(running) => running,
            None => self.begin(key, begin),
        };
        // The result is sent after the task's entry is removed: who asks again then begins another task.
        let found = result.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        (found, is_joined)
    }

    fn begin<F>(&self, key: K, begin: impl FnOnce() -> F) -> watch::Receiver<Option<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.lock();
        // Another request may have begun the task since.
        if let Some(running) = flights.get(&key) {
            return running.clone();
        }
        let (sender, result) = watch::channel(None);
        flights.insert(key.clone(), result.clone());
        drop(flights);
        let entry = FlightEntry { flights: self.clone(), key };
        let work = begin();
        let work = hops::with_hops(hops::current(), work);
        tokio::spawn(async move {
            let found = work.await;
            drop(entry);
            sender.send_replace(Some(found));
        });
        result
    }
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flights").field(&self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_share_one_task_and_later_ones_begin_another() {
        let (flights, count) = (Flights::<&str, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let count = count.clone();
            flights.join("a", move || async move {
                tokio::task::yield_now().await;
                count.fetch_add(1, Ordering::Relaxed)
            })
        };
        let results = join_all((0..50).map(|_| ask())).await;
        assert!(results.iter().all(|(found, _)| *found == Some(0)));
        assert_eq!(results.iter().filter(|(_, is_joined)| !is_joined).count(), 1);
        assert_eq!(ask().await, (Some(1), false));
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_task_that_panics_leaves_no_entry() {
        let flights = Flights::<&str, ()>::default();
        let (found, _) = flights.join("a", || async { panic!("wanted by the test") }).await;
        assert_eq!(found, None);
        assert_eq!(flights.join("a", || async {}).await, (Some(()), false));
    }
}
