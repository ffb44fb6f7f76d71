//! Questions that several requests share: one task asks, and all who wait get its result.
//!
//! A request joins only tasks of requests that have passed as many caches as itself, or more. So a request that comes
//! back in a circle of caches never waits for the task that waits for it, and the circle ends by its number of caches.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_fetch::hops;
use tokio::sync::watch;

/// Tasks that run, by what they find out, and by the number of caches that their requests have passed. Clones share
/// them.
pub(crate) struct Flights<K, V>(Arc<Mutex<HashMap<K, Tasks<V>>>>);

/// Tasks that find out the same, by the number of caches that their requests have passed.
type Tasks<V> = BTreeMap<u32, watch::Receiver<Option<V>>>;

/// Entry of a task, which is removed also if the task panics.
struct FlightEntry<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    hops: u32,
}

impl<K: Eq + Hash, V> Drop for FlightEntry<K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if let Some(tasks) = flights.get_mut(&self.key) {
            tasks.remove(&self.hops);
            if tasks.is_empty() {
                flights.remove(&self.key);
            }
        }
    }
}

impl<K, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Tasks<V>>> {
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
        let joined = self.join_admitted(key, ready(Ok::<_, Infallible>(())), |()| begin()).await;
        let Ok(joined) = joined;
        joined
    }

    /// Waits for the task of a key as [`Self::join`] does. A request that begins the task is admitted before; the task
    /// keeps the admission.
    pub(crate) async fn join_admitted<A, E, F>(
        &self,
        key: K,
        admission: impl Future<Output = Result<A, E>>,
        begin: impl FnOnce(A) -> F,
    ) -> Result<(Option<V>, bool), E>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let hops = hops::current();
        let running = self.lock().get(&key).and_then(|tasks| joinable(tasks, hops));
        let is_joined = running.is_some();
        let mut result = if let Some(running) = running {
            running
        } else {
            let admission = admission.await?;
            self.begin(key, hops, || begin(admission))
        };
        // The result is sent after the task's entry is removed: a request that asks again then begins another task.
        let found = result.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        Ok((found, is_joined))
    }

    fn begin<F>(&self, key: K, hops: u32, begin: impl FnOnce() -> F) -> watch::Receiver<Option<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.lock();
        // Another request may have begun the task since.
        let tasks = flights.entry(key.clone()).or_default();
        if let Some(running) = joinable(tasks, hops) {
            return running;
        }
        let (sender, result) = watch::channel(None);
        tasks.insert(hops, result.clone());
        drop(flights);
        let entry = FlightEntry { flights: self.clone(), key, hops };
        let work = hops::with_hops(hops, begin());
        tokio::spawn(async move {
            let found = work.await;
            drop(entry);
            sender.send_replace(Some(found));
        });
        result
    }
}

/// Returns the task that a request may wait for.
fn joinable<V>(tasks: &Tasks<V>, hops: u32) -> Option<watch::Receiver<Option<V>>> {
    tasks.range(hops..).next().map(|(_, running)| running.clone())
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
    use std::time::Duration;

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
    async fn row_166_a_request_that_comes_back_waits_for_no_task_that_waits_for_it() {
        let flights = Flights::<&str, usize>::default();
        let inner = flights.clone();
        let joined = flights.join("a", || async move {
            let back = hops::with_hops(2, inner.join("a", || async { 1 })).await;
            assert!(!back.1, "it begins a task of its own");
            // A request of fewer caches joins a task of more.
            let own = hops::with_hops(5, async { inner.join("b", std::future::pending).await });
            tokio::pin!(own);
            tokio::select! {
                biased;
                _ = &mut own => panic!("the task does not end"),
                () = std::future::ready(()) => {}
            }
            let other = hops::with_hops(3, inner.join("b", || async { 2 }));
            tokio::select! {
                biased;
                _ = other => panic!("it waits for the task of more caches"),
                () = std::future::ready(()) => {}
            }
            back.0.unwrap()
        });
        let (found, _) =
            tokio::time::timeout(Duration::from_secs(10), joined).await.expect("no task waits for itself");
        assert_eq!(found, Some(1));
    }

    #[tokio::test]
    async fn a_task_that_panics_leaves_no_entry() {
        let flights = Flights::<&str, ()>::default();
        let (found, _) = flights.join("a", || async { panic!("wanted by the test") }).await;
        assert_eq!(found, None);
        assert_eq!(flights.join("a", || async {}).await, (Some(()), false));
    }
}
