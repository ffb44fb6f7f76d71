//! Publication: when clients know that a blob is stored, or is not.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use quinistry_oci::RepositoryName;
use quinistry_store::{Quota, RepositoryMatcher};

use super::scripted::{Script, Scripted};
use super::stores::{self, TestStore};
use super::{LENGTH, blob, open, repository, request, settled};
use crate::{FetchError, FetchOptions, Fetches, Request};

/// State of a [`Gate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    /// Publications fail.
    Broken,
}

/// Gate in front of the publications of a store, which asks for the quotas of a repository right before each.
#[derive(Clone, Debug)]
struct Gate(Arc<(Mutex<(State, usize)>, Condvar)>);

impl Gate {
    /// Puts a closed gate in front of a store.
    fn closed(store: &TestStore) -> Self {
        let gate = Self(Arc::new((Mutex::new((State::Closed, 0)), Condvar::new())));
        let repositories = Arc::new(gate.clone());
        store.store.set_quotas(vec![Quota { name: "gate".into(), repositories, bytes: Some(0), tags: None }]);
        gate
    }

    fn set(&self, state: State) {
        self.0.0.lock().unwrap().0 = state;
        self.0.1.notify_all();
    }

    /// Waits until a publication waits at the gate.
    async fn reached(&self) {
        while self.0.0.lock().unwrap().1 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl RepositoryMatcher for Gate {
    fn matches(&self, _: &RepositoryName) -> bool {
        let mut gate = self.0.0.lock().unwrap();
        gate.1 += 1;
        let mut gate = self.0.1.wait_while(gate, |(state, _)| *state == State::Closed).unwrap();
        gate.1 -= 1;
        gate.0 == State::Broken
    }
}

#[tokio::test]
async fn a_blob_counts_as_stored_once_it_is_published_and_its_permit_lasts_as_long() {
    let store = stores::in_memory();
    let options =
        FetchOptions { max_fetches: 1, answer_timeout: Duration::from_millis(20), ..stores::options() };
    let fetches = Fetches::new(Some(store.store.clone()), options);
    let (bytes, other) = (blob(LENGTH), blob(LENGTH - 1));
    let source = Scripted::new("upstream", [Script::whole(&bytes), Script::whole(&other)]);
    let (first, second) = (request(&source, &bytes), request(&source, &other));
    let joined = Request { repository: repository("cache/b"), is_proven: true, ..first.clone() };
    let gate = Gate::closed(&store);
    let mut stored = Box::pin(open(&fetches, &first).await.stored());
    let mut linked = Box::pin(open(&fetches, &joined).await.stored());
    gate.reached().await;
    assert!(stored.as_mut().now_or_never().is_none() && linked.as_mut().now_or_never().is_none());
    assert!(matches!(fetches.open(second.clone()).await, Err(FetchError::Busy)));
    gate.set(State::Open);
    stored.await.unwrap();
    linked.await.unwrap();
    for name in ["cache/a", "cache/b"] {
        assert_eq!(store.blob(name, &first.digest).await.unwrap(), bytes, "{name}");
    }
    settled(&fetches).await;
    open(&fetches, &second).await.stored().await.unwrap();
}

#[tokio::test]
async fn a_publication_that_fails_is_told_to_all_waiting_clients_and_the_next_fetch_starts_again() {
    let store = stores::in_memory();
    let (bytes, fetches) = (blob(LENGTH), store.fetches());
    let source = Scripted::new("upstream", [Script::whole(&bytes), Script::whole(&bytes)]);
    let request = request(&source, &bytes);
    let joined = Request { repository: repository("cache/b"), is_proven: true, ..request.clone() };
    let gate = Gate::closed(&store);
    let waiting = [open(&fetches, &request).await.stored(), open(&fetches, &joined).await.stored()];
    gate.reached().await;
    gate.set(State::Broken);
    for stored in waiting {
        assert!(matches!(stored.await, Err(FetchError::Unpublished(_))));
    }
    store.store.set_quotas(Vec::new());
    open(&fetches, &request).await.stored().await.unwrap();
    assert_eq!(source.asked(), [0, 0]);
}

#[tokio::test]
async fn a_blob_that_is_passed_through_or_wrong_is_not_stored() {
    let store = stores::in_memory();
    let (bytes, fetches) = (blob(LENGTH), store.fetches());
    let source = Scripted::new("upstream", [Script::whole(&bytes), Script::whole(&bytes)]);
    let long = Request { max_stored_bytes: Some(1000), ..request(&source, &bytes) };
    assert!(matches!(open(&fetches, &long).await.stored().await, Err(FetchError::Unstored)));
    let (script, feed) = Script::fed(&bytes);
    let liar = Scripted::new("liar", [script]);
    let wrong = open(&fetches, &request(&liar, &bytes)).await.stored();
    feed.send(Ok(blob(LENGTH).slice(1..))).unwrap();
    feed.send(Ok(bytes.slice(..1))).unwrap();
    drop(feed);
    assert!(matches!(wrong.await, Err(FetchError::Lie { .. })));
    settled(&fetches).await;
    assert_eq!(store.blob("cache/a", &long.digest).await, None);
}
