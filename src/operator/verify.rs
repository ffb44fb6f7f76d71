//! Verify: fetches manifest, configuration and layer from pods over HTTP, and hashes every byte. The fourth proof of a
//! generation, and the only one that does not rest on the word of the binary or the kubelet.
//!
//! What a process serves cannot change while it runs, so each start of each pod is asked once. Called by the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::identity::CONTAINER_PORT;
use super::observed::{Fetched, PodStart};
use super::plan::VerifyRequest;
use crate::client::{Client, ClientError, Options, Selection};
use crate::oci::ImageReference;
use crate::quine::REPOSITORY;

/// How many pods are asked at once: each answer is some ten megabytes to hash.
const CONCURRENCY: usize = 8;

/// Within the cluster's own network, ten megabytes take a fraction of this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After how long a pod that could not be reached is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// The client and what it found.
#[derive(Debug)]
pub(super) struct Eyes {
    client: Client,
    found: Mutex<BTreeMap<PodStart, (Fetched, Instant)>>,
}

// === impl Eyes ===

impl Eyes {
    /// Has seen nothing yet.
    pub(super) fn new() -> Result<Self, ClientError> {
        let client = Client::new(Options { plain_http: true, ..Options::default() })?;
        Ok(Self { client, found: Mutex::default() })
    }

    /// What has been found of these pods.
    pub(super) fn found<'a>(
        &self,
        starts: impl Iterator<Item = &'a PodStart>,
    ) -> BTreeMap<PodStart, Fetched> {
        let found = self.lock();
        starts
            .filter_map(|start| found.get(start).map(|(fetched, _)| (start.clone(), fetched.clone())))
            .collect()
    }

    /// Forgets pods that are no more.
    pub(super) fn keep(&self, alive: &BTreeSet<&str>) {
        self.lock().retain(|start, _| alive.contains(start.uid.as_str()));
    }

    /// How many starts are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.lock().len()
    }

    /// Looks at the pods, and returns what was found. (Client required.)
    pub(super) async fn look(&self, requests: &[VerifyRequest]) -> Vec<Fetched> {
        let due: Vec<_> = {
            let found = self.lock();
            let is_due = |request: &&VerifyRequest| {
                found.get(&request.start).is_none_or(|(_, at)| at.elapsed() >= RETRY)
            };
            requests.iter().filter(is_due).cloned().collect()
        };
        stream::iter(due)
            .map(|request| async move {
                let fetched = match tokio::time::timeout(TIMEOUT, self.fetch(&request.ip)).await {
                    Ok(fetched) => fetched,
                    Err(_) => Fetched::Failed(format!("no answer within {} seconds", TIMEOUT.as_secs())),
                };
                if let Fetched::Failed(reason) | Fetched::Corrupt(reason) = &fetched {
                    tracing::warn!(ip = request.ip, reason, "failed to verify a pod");
                }
                self.lock().insert(request.start, (fetched.clone(), Instant::now()));
                fetched
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await
    }

    async fn fetch(&self, ip: &str) -> Fetched {
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.into() };
        let Ok(image) = format!("{host}:{CONTAINER_PORT}/{REPOSITORY}:latest").parse::<ImageReference>()
        else {
            return Fetched::Failed(format!("'{ip}' is not an address"));
        };
        match self.client.verify(&image, &Selection::All, &()).await {
            Ok(report) => Fetched::Whole(report.resolved.digest),
            Err(
                error @ (ClientError::Digest { .. } | ClientError::Size { .. } | ClientError::DiffId { .. }),
            ) => Fetched::Corrupt(error.to_string()),
            Err(error) => Fetched::Failed(error.to_string()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PodStart, (Fetched, Instant)>> {
        self.found.lock().expect("nothing panics while it is held")
    }
}
