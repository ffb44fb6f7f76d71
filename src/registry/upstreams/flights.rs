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
pub(crate) struct Flights<K, V>(Arc<Mutex<FlightTable<K, V>>>);

/// Tasks of each key. Requests that wait for their admission watch those of their key.
type FlightTable<K, V> = HashMap<K, watch::Sender<Tasks<V>>>;

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
        let mut table = self.flights.lock();
        if let Some(tasks) = table.get(&self.key) {
            // The end of a task concerns no request that waits for its admission.
            tasks.send_if_modified(|tasks| {
                tasks.remove(&self.hops);
                false
            });
        }
        remove_idle(&mut table, &self.key);
    }
}

/// Request that waits for its admission, or for a task that it may join.
struct WaitingRequest<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    /// The tasks of the key, until the value is dropped.
    tasks: Option<watch::Receiver<Tasks<V>>>,
}

impl<K: Clone + Eq + Hash, V> WaitingRequest<K, V> {
    fn new(flights: &Flights<K, V>, key: &K) -> Self {
        let tasks = flights.lock().entry(key.clone()).or_default().subscribe();
        Self { flights: flights.clone(), key: key.clone(), tasks: Some(tasks) }
    }

    /// Waits until a task runs that a request which has passed this number of caches may join.
    async fn joinable(&mut self, hops: u32) -> watch::Receiver<Option<V>> {
        let tasks = self.tasks.as_mut().expect("the tasks stay until the value is dropped");
        let found = tasks.wait_for(|tasks| joinable(tasks, hops).is_some()).await;
        let found = found.expect("the entry of a key stays while a request waits");
        joinable(&found, hops).expect("the condition of the wait")
    }
}

impl<K: Eq + Hash, V> Drop for WaitingRequest<K, V> {
    fn drop(&mut self) {
        let mut table = self.flights.lock();
        drop(self.tasks.take());
        remove_idle(&mut table, &self.key);
    }
}

/// Removes a key without tasks and without requests that wait for their admission.
fn remove_idle<K: Eq + Hash, V>(table: &mut FlightTable<K, V>, key: &K) {
    if table.get(key).is_some_and(|tasks| tasks.receiver_count() == 0 && tasks.borrow().is_empty()) {
        table.remove(key);
    }
}

impl<K, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, FlightTable<K, V>> {
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
    /// keeps the admission. A request that waits for its admission joins a task that another one begins.
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
        let mut waiting = WaitingRequest::new(self, &key);
        let (mut result, is_joined) = tokio::select! {
            biased;
            running = waiting.joinable(hops) => (running, true),
            admission = admission => {
                let admission = admission?;
                self.begin(key, hops, || begin(admission))
            }
        };
        drop(waiting);
        // The result is sent after the task's entry is removed: a request that asks again then begins another task.
        let found = result.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        Ok((found, is_joined))
    }

    /// Begins the task of a key, unless another request has begun it since. Returns also whether that is so.
    fn begin<F>(&self, key: K, hops: u32, begin: impl FnOnce() -> F) -> (watch::Receiver<Option<V>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut table = self.lock();
        let tasks = table.entry(key.clone()).or_default();
        let running = joinable(&tasks.borrow(), hops);
        if let Some(running) = running {
            return (running, true);
        }
        let (sender, result) = watch::channel(None);
        tasks.send_modify(|tasks| drop(tasks.insert(hops, result.clone())));
        drop(table);
        let entry = FlightEntry { flights: self.clone(), key, hops };
        let work = hops::with_hops(hops, begin());
        tokio::spawn(async move {
            let found = work.await;
            drop(entry);
            sender.send_replace(Some(found));
        });
        (result, false)
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
    use std::future::pending;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::sync::oneshot;

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
    async fn row_160_a_request_that_waits_for_its_admission_joins_the_task_of_another_client() {
        let flights = Flights::<&str, usize>::default();
        let mut waiting = pin!(flights.join_admitted("a", pending::<Result<(), ()>>(), |()| async { 1 }));
        assert!(waiting.as_mut().now_or_never().is_none(), "the request waits for its admission");
        let (end, ended) = oneshot::channel();
        let mut other = pin!(flights.join("a", || async { ended.await.unwrap() }));
        assert!(other.as_mut().now_or_never().is_none(), "the task of another client runs");
        assert!(waiting.as_mut().now_or_never().is_none(), "the request waits for the task");
        end.send(2).unwrap();
        assert_eq!(other.await, (Some(2), false));
        let joined = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert_eq!(joined.expect("the request needs no admission any more"), Ok((Some(2), true)));
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_that_leaves_before_its_admission_leaves_no_entry() {
        let flights = Flights::<&str, usize>::default();
        let join = || flights.join_admitted("a", pending::<Result<(), ()>>(), |()| async { 1 });
        let (mut one, mut other) = (Box::pin(join()), Box::pin(join()));
        assert!(one.as_mut().now_or_never().is_none() && other.as_mut().now_or_never().is_none());
        drop((one, other));
        assert!(flights.lock().is_empty());
        let refused = flights.join_admitted("a", ready(Err::<(), _>("no share")), |()| async { 1 }).await;
        assert_eq!(refused, Err("no share"));
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
            let own = hops::with_hops(5, async { inner.join("b", pending).await });
            tokio::pin!(own);
            tokio::select! {
                biased;
                _ = &mut own => panic!("the task does not end"),
                () = ready(()) => {}
            }
            let other = hops::with_hops(3, inner.join("b", || async { 2 }));
            tokio::select! {
                biased;
                _ = other => panic!("it waits for the task of more caches"),
                () = ready(()) => {}
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
