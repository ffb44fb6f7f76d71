//! Peers: registries of the same cluster that are asked, by digest, for content which this one does not have.
//!
//! Nothing of a peer is stored. Bytes are hashed while they pass on to a client, and the last ones are withheld until
//! the hash holds, by [`Fetches`] without a store. A manifest is served only if everything that it needs can be served
//! now. Names of images come from a file, so that registries of one cluster never disagree about a tag.
//!
//! | step | file |
//! |---|---|
//! | which names mean which digests (pure) | `names.rs` |
//! | reading the file of names again | `names_file.rs` |
//! | in which order peers are asked (pure) | `rounds.rs` |
//! | one question to one peer, and when it is left out | `member.rs` |
//! | peers that say they have what they do not send (pure) | `claims.rs` |
//! | blobs | `blobs.rs` |
//! | manifests that are complete | `completeness.rs`, `verdicts.rs` |
//!
//! Peers are asked through the trait [`Peer`], which the program implements by HTTP. The handlers of requests are in
//! `src/registry/api/handlers/peers.rs`.

mod blobs;
mod claims;
mod completeness;
mod member;
mod names;
mod names_file;
mod rounds;
#[cfg(test)]
mod tests;
mod verdicts;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinistry_fetch::{FetchOptions, Fetches, Peer};
use quinistry_oci::{Digest, RepositoryName};
use tokio::sync::Semaphore;

use self::claims::Claims;
use self::member::Member;
use self::names_file::NamesFile;
use self::verdicts::{Verdict, Verdicts};
use crate::api::query::Query;
use crate::api::response::error::Error;
use crate::api::route::Route;
use crate::metrics::PeerMetrics;
use crate::upstreams::Namespace;
use crate::upstreams::clock::Clock;
use crate::upstreams::flights::Flights;

pub(crate) use self::completeness::{MAX_DEPTH, MAX_PARTS, find_stored, verify_manifest};
pub(crate) use self::names::{Names, RepositoryTags};
pub(crate) use self::names_file::ReadNames;
pub(crate) use self::rounds::Busy;

/// Most questions to all peers that wait for an answer at once.
const MAX_CONCURRENT_QUESTIONS: usize = 32;

/// Most manifests of peers that are received and read at once: each may have 4 MiB.
const MAX_CONCURRENT_MANIFESTS: usize = 4;

/// Most manifests whose completeness is checked at once.
const MAX_CONCURRENT_CHECKS: usize = 4;

/// Limits of blobs that are passed through. A blob takes up to 128 KiB of memory, so that all of them take 8 MiB.
const FETCH_OPTIONS: FetchOptions = FetchOptions {
    max_stored_bytes: Some(0),
    // Beyond the patience with each peer, which bounds the wait for an answer.
    answer_timeout: Duration::from_secs(13),
    silence_timeout: Duration::from_secs(5),
    resume_pause: Duration::from_millis(100),
    away_patience: Duration::ZERO,
    max_fetches: 1,
    max_pass_through: 64,
    verifies_ranges: true,
};

/// Repository and digest.
pub(crate) type ContentKey = (RepositoryName, Digest);

/// Peers of a registry, and the names of images in them.
#[derive(Debug)]
pub struct Peers {
    members: Vec<Member>,
    names: Option<NamesFile>,
    clock: Clock,
    metrics: Arc<PeerMetrics>,
    fetches: Fetches,
    question_permits: Semaphore,
    manifest_permits: Semaphore,
    check_permits: Semaphore,
    claims: Mutex<Claims>,
    verdicts: Mutex<Verdicts>,
    checks: Flights<ContentKey, Verdict>,
}

/// Repository whose content peers may have.
#[derive(Debug)]
pub(crate) struct PeerRepository {
    /// Namespace by which the client has named the registry.
    pub(crate) namespace: Option<Namespace>,
    /// Tags of the repository, if there is a file of names.
    pub(crate) tags: Option<Arc<RepositoryTags>>,
}

impl Peers {
    /// Creates the peers of a registry, in the order in which they are asked. The file of names is read again when it
    /// changes; without one, each repository exists, and has no tags. Call [`Self::read_names`] before the first request.
    #[must_use]
    pub fn new(peers: Vec<Arc<dyn Peer>>, names: Option<PathBuf>) -> Self {
        Self::with_clock(peers, names, Clock::default())
    }

    fn with_clock(peers: Vec<Arc<dyn Peer>>, names: Option<PathBuf>, clock: Clock) -> Self {
        // Manifests of peers are answered from memory.
        quinistry_http::memory_budget::enlarge();
        let metrics = Arc::<PeerMetrics>::default();
        let member = |peer: Arc<dyn Peer>| {
            let counts = metrics.of(peer.name());
            Member::new(peer, counts)
        };
        Self {
            members: peers.into_iter().map(member).collect(),
            names: names.map(|path| NamesFile::new(path, clock.clone())),
            clock,
            fetches: Fetches::new(None, FETCH_OPTIONS).with_observer(metrics.clone()),
            metrics,
            question_permits: Semaphore::new(MAX_CONCURRENT_QUESTIONS),
            manifest_permits: Semaphore::new(MAX_CONCURRENT_MANIFESTS),
            check_permits: Semaphore::new(MAX_CONCURRENT_CHECKS),
            claims: Mutex::default(),
            verdicts: Mutex::default(),
            checks: Flights::default(),
        }
    }

    /// Reads the file of names, if there is one. A damaged file is logged. Blocks.
    pub fn read_names(&self) {
        if let Some(file) = &self.names {
            file.read_first();
        }
    }

    /// Returns the metrics of the peers.
    #[must_use]
    pub fn metrics(&self) -> Arc<PeerMetrics> {
        self.metrics.clone()
    }

    /// Returns the names of the peers, as addresses.
    pub fn names_of_peers(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(Member::name)
    }

    /// Returns the repositories that names are in, in order.
    pub(crate) async fn repositories(&self) -> Vec<RepositoryName> {
        match &self.names {
            Some(file) => file.current().await.repositories().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Returns the names of images, which are none without a file of names.
    pub(crate) async fn read_names_again(&self) -> ReadNames {
        match &self.names {
            Some(file) => file.current_read().await,
            None => ReadNames::default(),
        }
    }

    /// Finds the repository of a request. A client that names the registry by `?ns=` means the repository below the
    /// name of that registry, which then replaces the name in the route. Returns `None` if peers are not asked.
    pub(crate) async fn locate(
        &self,
        route: &mut Route,
        query: Query<'_>,
    ) -> Result<Option<PeerRepository>, Error> {
        let Some(asked) = route.name() else { return Ok(None) };
        let namespace = Namespace::of_request(query)?;
        let within: Option<RepositoryName> = namespace.as_ref().and_then(|host| host.repository(asked));
        let names: Option<Arc<Names>> = match &self.names {
            Some(file) => Some(file.current().await),
            None => None,
        };
        let found = match &names {
            None => Some((within, None)),
            // A client that means another registry gets nothing of the same name without a host.
            Some(names) => {
                let meant = if namespace.is_some() { within.as_ref() } else { Some(asked) };
                meant.and_then(|name| names.tags(name)).map(|tags| (within, Some(tags)))
            }
        };
        Ok(found.map(|(name, tags)| {
            let namespace = namespace.filter(|_| name.is_some());
            if let Some(name) = name {
                route.replace_name(name);
            }
            PeerRepository { namespace, tags }
        }))
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
