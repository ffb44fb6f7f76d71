//! Verify: fetches manifest, configuration and layer from pods over HTTP, and hashes every byte. This is the
//! fourth proof of a generation, and the only one that does not depend on the binary or the kubelet.
//!
//! A process cannot change what it serves while it runs, so each start of each pod is verified once. A pod
//! that cannot be reached is retried after growing pauses, and never blocks a reconcile: the caller waits for
//! a moment, and gets a callback when a later result arrives. Called by the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quinistry_client::{Client, ClientError, ClientOptions, Selection};
use quinistry_oci::ImageReference;
use quinistry_quine::REPOSITORY;
use tokio::sync::Semaphore;

use super::naming::CONTAINER_PORT;
use super::observed::{FetchResult, PodStart};
use super::plan::VerifyRequest;
use crate::api::locks::lock;
use crate::one_line::one_line;

/// Number of pods that are verified at once: each response is about ten megabytes to hash.
const MAX_CONCURRENT_FETCHES: usize = 8;

/// Time limit of one verification: within the cluster's network, ten megabytes take a fraction of it. The executables of
/// tests are larger, and tests run at once.
const FETCH_TIMEOUT: Duration = if cfg!(test) { Duration::from_mins(2) } else { Duration::from_secs(10) };

/// Time that a reconcile waits for results: reachable pods respond within it.
const RECONCILE_WAIT: Duration = Duration::from_secs(1);

/// Pause before an unreachable pod is retried; each further pause is twice as long.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Longest pause between two tries.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// Callback for a result; `true` if the result arrived after the reconcile stopped waiting.
type OnVerified = Arc<dyn Fn(&FetchResult, bool) + Send + Sync>;

/// Verifier of pods: an HTTP client and its results.
#[derive(Debug)]
pub(super) struct Verifier {
    client: Client,
    results: Mutex<BTreeMap<PodStart, PodVerification>>,
    permits: Semaphore,
}

/// Result of one start of one pod.
#[derive(Debug, Default)]
struct PodVerification {
    result: Option<FetchResult>,
    /// Time of the next try; `None` while a try runs or if the result is final.
    due: Option<Instant>,
    failures: u32,
}

// === impl Verifier ===

impl Verifier {
    /// Creates a verifier without results.
    pub(super) fn new() -> Result<Self, ClientError> {
        let client =
            Client::new(ClientOptions { plain_http: true, peers: true, ..ClientOptions::default() })?;
        Ok(Self { client, results: Mutex::default(), permits: Semaphore::new(MAX_CONCURRENT_FETCHES) })
    }

    /// Returns the results of these pods.
    pub(super) fn results<'a>(
        &self,
        starts: impl Iterator<Item = &'a PodStart>,
    ) -> BTreeMap<PodStart, FetchResult> {
        let seen = self.lock();
        starts.filter_map(|start| Some((start.clone(), seen.get(start)?.result.clone()?))).collect()
    }

    /// Removes the results of all pods but these.
    pub(super) fn retain(&self, alive: &BTreeSet<&str>) {
        self.lock().retain(|start, _| alive.contains(start.uid.as_str()));
    }

    /// Returns the number of starts with a result or a running try.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns the time until the next of these requests is due, zero if it was never tried; `None` if all
    /// results are final or tries are running.
    pub(super) fn next_due(&self, requests: &[VerifyRequest]) -> Option<Duration> {
        let (now, seen) = (Instant::now(), self.lock());
        let due =
            requests.iter().filter_map(|request| seen.get(&request.start).map_or(Some(now), |seen| seen.due));
        due.min().map(|due| due.saturating_duration_since(now))
    }

    /// Verifies the pods that are due, and waits at most [`RECONCILE_WAIT`]. Returns true if any pod was due.
    /// (Client required.)
    pub(super) async fn verify(
        self: &Arc<Self>,
        requests: &[VerifyRequest],
        on_verified: OnVerified,
    ) -> bool {
        let due = self.take_due(requests);
        let late = Arc::new(AtomicBool::new(false));
        let tasks = due.iter().map(|request| {
            let (verifier, on_verified, late, request) =
                (self.clone(), on_verified.clone(), late.clone(), request.clone());
            tokio::spawn(async move {
                let fetched = verifier.fetch_in_time(&request.ip).await;
                verifier.record(&request, fetched.clone());
                on_verified(&fetched, late.load(Ordering::Relaxed));
            })
        });
        // The tasks continue after the timeout.
        if tokio::time::timeout(RECONCILE_WAIT, join_all(tasks)).await.is_err() {
            late.store(true, Ordering::Relaxed);
        }
        !due.is_empty()
    }

    /// Marks the requests that are due as running, and returns them.
    fn take_due(&self, requests: &[VerifyRequest]) -> Vec<VerifyRequest> {
        let now = Instant::now();
        let mut seen = self.lock();
        let mut due = Vec::new();
        for request in requests {
            let entry = seen.entry(request.start.clone());
            let is_due = match &entry {
                std::collections::btree_map::Entry::Vacant(_) => true,
                std::collections::btree_map::Entry::Occupied(entry) => {
                    entry.get().due.is_some_and(|at| at <= now)
                }
            };
            if is_due {
                entry.or_default().due = None;
                due.push(request.clone());
            }
        }
        due
    }

    fn record(&self, request: &VerifyRequest, fetched: FetchResult) {
        let mut all = self.lock();
        let seen = all.entry(request.start.clone()).or_default();
        if let FetchResult::Failed(reason) | FetchResult::Corrupt(reason) = &fetched {
            tracing::warn!(ip = request.ip, reason, failures = seen.failures, "cannot verify pod");
        }
        if matches!(fetched, FetchResult::Failed(_)) {
            let pause = FIRST_RETRY_DELAY.saturating_mul(1 << seen.failures.min(10)).min(MAX_RETRY_DELAY);
            seen.due = Some(Instant::now() + pause);
            seen.failures = seen.failures.saturating_add(1);
        }
        seen.result = Some(fetched);
    }

    async fn fetch_in_time(&self, ip: &str) -> FetchResult {
        let _permit = self.permits.acquire().await.expect("never closed");
        match tokio::time::timeout(FETCH_TIMEOUT, self.fetch(ip)).await {
            Ok(fetched) => fetched,
            Err(_) => FetchResult::Failed(format!("no response within {} seconds", FETCH_TIMEOUT.as_secs())),
        }
    }

    async fn fetch(&self, ip: &str) -> FetchResult {
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.into() };
        let Ok(image) = format!("{host}:{CONTAINER_PORT}/{REPOSITORY}:latest").parse::<ImageReference>()
        else {
            return FetchResult::Failed(format!("'{ip}' is not an address"));
        };
        match self.client.verify(&image, &Selection::All, &()).await {
            Ok(report) => FetchResult::Whole(report.resolved.digest),
            Err(
                error @ (ClientError::Digest { .. } | ClientError::Size { .. } | ClientError::DiffId { .. }),
            ) => FetchResult::Corrupt(error.to_string()),
            Err(error) => FetchResult::Failed(one_line(&error)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PodStart, PodVerification>> {
        lock(&self.results)
    }
}

#[cfg(test)]
mod tests;
