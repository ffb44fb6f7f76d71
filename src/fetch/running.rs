//! Fetches that run, with the clients of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_oci::{Digest, RepositoryName};
use tokio::sync::{Notify, watch};

use crate::fetches::Request;
use crate::hops::{self, MAX_HOPS};
use crate::progress::Progress;
use crate::publication::Publication;

/// Fetches that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningFetches(Arc<Mutex<HashMap<FetchKey, Running>>>);

/// Content, source and claimed length of a fetch, and the number of caches that its first request has passed. Requests
/// that differ in one of the first three share no fetch: a source is not trusted with what another one sends, and a wrong
/// claim fails alone. Nor does a request join a fetch of fewer caches, which may wait for it in a circle of caches.
pub(crate) type FetchKey = (Digest, Arc<str>, Option<u64>, u32);

#[derive(Debug)]
struct Running {
    fetch: Arc<Fetch>,
    /// Number of clients that read, or wait to.
    clients: usize,
    /// Repositories that the blob shall be part of, in the order in which clients have asked.
    repositories: Vec<RepositoryName>,
}

/// Link between the task of a fetch and its clients.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) digest: Digest,
    /// Name of the source.
    pub(crate) source: Arc<str>,
    /// Length that the first request has claimed.
    pub(crate) claimed: Option<u64>,
    /// Number of caches that the first request has passed.
    pub(crate) hops: u32,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) publication: watch::Sender<Publication>,
    /// Wakes the task when the last client has left.
    pub(crate) left: Notify,
}

/// Place of one client in a fetch. Dropping the seat leaves the fetch.
#[derive(Debug)]
pub(crate) struct Seat {
    running: RunningFetches,
    pub(crate) fetch: Arc<Fetch>,
}

impl RunningFetches {
    fn lock(&self) -> MutexGuard<'_, HashMap<FetchKey, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat in the fetch of a digest. Returns true if the fetch is new, so that the caller must start its task;
    /// `None` if the fetch is of other repositories, and nothing shows that this one has the blob.
    pub(crate) fn join(&self, request: &Request, source: &Arc<str>) -> Option<(Seat, bool)> {
        let Request { digest, repository, is_proven, length, .. } = request;
        let hops = hops::current();
        let key = |hops| (digest.clone(), source.clone(), *length, hops);
        let mut fetches = self.lock();
        let joinable = (hops..=MAX_HOPS).map(key).find(|key| fetches.contains_key(key));
        let hops = joinable.as_ref().map_or(hops, |(.., hops)| *hops);
        let entry = fetches.entry(joinable.unwrap_or_else(|| key(hops)));
        if let Entry::Occupied(running) = &entry
            && !is_proven
            && !running.get().repositories.contains(repository)
        {
            return None;
        }
        let is_new = matches!(entry, Entry::Vacant(_));
        let running = entry.or_insert_with(|| {
            let fetch = Fetch {
                digest: digest.clone(),
                source: source.clone(),
                claimed: *length,
                hops,
                progress: watch::Sender::new(Progress::Opening),
                publication: watch::Sender::default(),
                left: Notify::new(),
            };
            Running { fetch: Arc::new(fetch), clients: 0, repositories: Vec::new() }
        });
        running.clients += 1;
        if !running.repositories.contains(repository) {
            running.repositories.push(repository.clone());
        }
        Some((Seat { running: self.clone(), fetch: running.fetch.clone() }, is_new))
    }

    /// Ends a fetch that has no clients: later ones begin another. Returns false if it has some.
    pub(crate) fn end_without_clients(&self, fetch: &Arc<Fetch>) -> bool {
        let mut fetches = self.lock();
        let is_idle =
            fetches.get(&fetch.key()).is_none_or(|running| running.clients == 0 || !running.is(fetch));
        if is_idle {
            remove(&mut fetches, fetch);
        }
        is_idle
    }

    /// Ends a fetch: later clients begin another.
    pub(crate) fn end(&self, fetch: &Arc<Fetch>) {
        remove(&mut self.lock(), fetch);
    }

    /// Returns a repository that shall have the blob after the first `done` ones. If there is none, the fetch ends, so
    /// that clients of others begin another.
    pub(crate) fn next_repository(&self, fetch: &Arc<Fetch>, done: usize) -> Option<RepositoryName> {
        let mut fetches = self.lock();
        let running = fetches.get(&fetch.key()).filter(|running| running.is(fetch));
        let next = running.and_then(|running| running.repositories.get(done).cloned());
        if next.is_none() {
            remove(&mut fetches, fetch);
        }
        next
    }

    /// Returns the number of fetches.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl Fetch {
    fn key(&self) -> FetchKey {
        (self.digest.clone(), self.source.clone(), self.claimed, self.hops)
    }
}

impl Running {
    fn is(&self, fetch: &Arc<Fetch>) -> bool {
        Arc::ptr_eq(&self.fetch, fetch)
    }
}

/// Removes a fetch, and no other of the same digest.
fn remove(fetches: &mut HashMap<FetchKey, Running>, fetch: &Arc<Fetch>) {
    if fetches.get(&fetch.key()).is_some_and(|running| running.is(fetch)) {
        fetches.remove(&fetch.key());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut fetches = self.running.lock();
        let Some(running) = fetches.get_mut(&self.fetch.key()) else { return };
        if running.is(&self.fetch) {
            running.clients -= 1;
            if running.clients == 0 {
                self.fetch.left.notify_one();
            }
        }
    }
}
