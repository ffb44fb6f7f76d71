//! Verify: fetches manifest, configuration and layer from pods over HTTP, and hashes every byte. The fourth proof of a
//! generation, and the only one that does not rest on the word of the binary or the kubelet.
//!
//! What a process serves cannot change while it runs, so each start of each pod is asked once. A pod that cannot be
//! reached is asked again, later and later, and never holds a reconcile up: whoever asks waits for a moment, and is
//! told when an answer that takes longer is there. Called by the driver.

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

/// How many pods are asked at once: each answer is some ten megabytes to hash.
const MAX_CONCURRENT_FETCHES: usize = 8;

/// Within the cluster's own network, ten megabytes take a fraction of this.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a reconcile waits for answers: pods that can be reached have given them by then.
const RECONCILE_WAIT: Duration = Duration::from_secs(1);

/// After how long a pod that could not be reached is asked again; each further time is twice as long.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The longest time between two tries.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// Who is told of an answer, and whether it came late.
type OnVerified = Arc<dyn Fn(&FetchResult, bool) + Send + Sync>;

/// The client and what it found.
#[derive(Debug)]
pub(super) struct Verifier {
    client: Client,
    results: Mutex<BTreeMap<PodStart, PodVerification>>,
    permits: Semaphore,
}

/// What is known of one start of one pod.
#[derive(Debug, Default)]
struct PodVerification {
    result: Option<FetchResult>,
    /// When to ask again; nothing while it is being asked.
    due: Option<Instant>,
    failures: u32,
}

// === impl Eyes ===

impl Verifier {
    /// Has seen nothing yet.
    pub(super) fn new() -> Result<Self, ClientError> {
        let client =
            Client::new(ClientOptions { plain_http: true, peers: true, ..ClientOptions::default() })?;
        Ok(Self { client, results: Mutex::default(), permits: Semaphore::new(MAX_CONCURRENT_FETCHES) })
    }

    /// What has been found of these pods.
    pub(super) fn results<'a>(
        &self,
        starts: impl Iterator<Item = &'a PodStart>,
    ) -> BTreeMap<PodStart, FetchResult> {
        let seen = self.lock();
        starts.filter_map(|start| Some((start.clone(), seen.get(start)?.result.clone()?))).collect()
    }

    /// Forgets pods that are no more.
    pub(super) fn retain(&self, alive: &BTreeSet<&str>) {
        self.lock().retain(|start, _| alive.contains(start.uid.as_str()));
    }

    /// How many starts are remembered.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How long until one of these is to be looked at, at once if it never was; nothing if all are settled or being
    /// looked at.
    pub(super) fn next_due(&self, requests: &[VerifyRequest]) -> Option<Duration> {
        let (now, seen) = (Instant::now(), self.lock());
        let due =
            requests.iter().filter_map(|request| seen.get(&request.start).map_or(Some(now), |seen| seen.due));
        due.min().map(|due| due.saturating_duration_since(now))
    }

    /// Looks at those pods that are due, and returns after a moment at the latest: whether any was. (Client required.)
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
        // Dropped, they go on by themselves.
        if tokio::time::timeout(RECONCILE_WAIT, join_all(tasks)).await.is_err() {
            late.store(true, Ordering::Relaxed);
        }
        !due.is_empty()
    }

    /// Marks those that are due as being looked at.
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
            tracing::warn!(ip = request.ip, reason, failures = seen.failures, "failed to verify a pod");
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
            Err(_) => FetchResult::Failed(format!("no answer within {} seconds", FETCH_TIMEOUT.as_secs())),
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
