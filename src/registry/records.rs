//! Records that are written now and then: pulls, deletions by the registry itself, and the usage of quotas.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::request::Parts;
use quinistry_oci::WithCauses;
use quinistry_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::Settings;
use crate::auth::caller::Caller;

/// Time between two objects of pulls and of deletions: a crash loses those since the last one.
const RECORD_INTERVAL: Duration = Duration::from_mins(15);

/// Client that pulls, as far as pulls of some are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullingClient<'a> {
    /// Name of the user, if the client has one.
    pub account: Option<&'a str>,
    /// `User-Agent` of the request, if it is text.
    pub user_agent: Option<&'a str>,
}

/// Recording of pulls, without those of some clients, such as scanners.
#[derive(Clone)]
pub struct PullRecording(Arc<dyn Fn(PullingClient<'_>) -> bool + Send + Sync>);

// === impl PullRecording ===

impl PullRecording {
    /// Records the pulls of all clients but those for which `is_ignored` returns true, which must not wait.
    pub fn unless(is_ignored: impl Fn(PullingClient<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_ignored))
    }

    /// Returns true if a request for a manifest counts as a pull: a GET, which kubelets and engines send, and not the
    /// HEAD of a client that looks for changes.
    pub(crate) fn counts(&self, request: &Parts, caller: &Caller) -> bool {
        let account = || caller.identity().and_then(|identity| identity.name.as_deref());
        let user_agent = || request.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        request.method == http::Method::GET
            && !(self.0)(PullingClient { account: account(), user_agent: user_agent() })
    }
}

impl fmt::Debug for PullRecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullRecording")
    }
}

/// Intervals at whose ends records are written.
pub(crate) trait Intervals {
    /// Waits for the end of the present interval. A wait that is dropped is begun again, for the same end.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
}

/// Intervals of [`RECORD_INTERVAL`].
struct Timed {
    next: Instant,
}

// === impl Timed ===

impl Timed {
    fn new() -> Self {
        Self { next: Instant::now() + RECORD_INTERVAL }
    }
}

impl Intervals for Timed {
    async fn end(&mut self) {
        sleep_until(self.next).await;
        *self = Self::new();
    }
}

/// Writes records at intervals for as long as the registry runs.
pub(crate) async fn run(store: Store, settings: watch::Receiver<Arc<Settings>>) {
    tokio::join!(write_records(&store, settings.clone(), Timed::new()), exchange_usage(&store, settings));
}

/// Writes pulls and deletions at the ends of intervals, and when pulls are many.
pub(crate) async fn write_records(
    store: &Store,
    mut settings: watch::Receiver<Arc<Settings>>,
    mut intervals: impl Intervals,
) {
    let mut has_begun = false;
    loop {
        let records_pulls = settings.borrow_and_update().pulls.is_some();
        if records_pulls && !has_begun {
            has_begun =
                call(store, Store::begin_pull_records, "cannot begin the record of pulls, trying again")
                    .await;
        }
        has_begun &= records_pulls;
        tokio::select! {
            () = intervals.end() => {}
            () = store.pulls_are_many() => {}
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        }
        flush(store).await;
    }
}

/// Writes all records to the storage.
pub(crate) async fn flush(store: &Store) {
    call(store, Store::flush_pulls, "cannot write the record of pulls, trying again").await;
    call(store, Store::flush_deletions, "cannot write records of deletions, trying again").await;
    if store.usage_interval().is_some() {
        call(store, Store::exchange_usage, "cannot exchange the usage of quotas, trying again").await;
    }
}

async fn exchange_usage(store: &Store, mut settings: watch::Receiver<Arc<Settings>>) {
    loop {
        match store.usage_interval() {
            Some(interval) => {
                call(store, Store::exchange_usage, "cannot exchange the usage of quotas, trying again").await;
                tokio::time::sleep(interval).await;
            }
            // A reload may bring quotas.
            None if settings.changed().await.is_err() => return,
            None => {}
        }
    }
}

/// Makes a call that blocks, and logs its failure. Returns true if the call succeeded.
async fn call(store: &Store, call: fn(&Store) -> Result<(), StoreError>, failure: &'static str) -> bool {
    let store = store.clone();
    match spawn_blocking(move || call(&store)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(error = %WithCauses(&error), "{failure}");
            false
        }
        // A panic is logged, and the end of the runtime ends this task as well.
        Err(_) => false,
    }
}
