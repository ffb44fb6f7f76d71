//! Upstreams: registries that this one asks for what it does not have.
//!
//! A repository of an upstream has the upstream's prefix in front of its name, and is read-only. Its content is fetched
//! when a client asks for it, and stored. Decisions are made here, against the trait
//! [`Upstream`], which the program implements by HTTP; blobs stream through
//! [`Fetches`](quinistry_fetch::Fetches).
//!
//! | step | file |
//! |---|---|
//! | which names belong to which upstream (pure) | `table.rs`, `namespace.rs` |
//! | how old a tag is, and what follows (pure) | `tag_records.rs` |
//! | what an upstream does not have (pure) | `absences.rs` |
//! | blobs that a repository is known to have (pure) | `proven_blobs.rs` |
//! | when an upstream is not asked (pure) | `circuit.rs` |
//! | what a manifest must be to be stored (pure) | `verification.rs` |
//! | one question, with its deadline | `question.rs` |
//! | questions that requests share | `flights.rs` |
//! | questions of one client at once | `client_shares.rs` |
//! | manifests and tags | `manifests.rs`, `refresh.rs`, `manifest_copies.rs` |
//! | blobs | `blobs.rs`, `observed_source.rs` |
//! | lists of tags and of referrers | `lists.rs` |
//! | last uses of copies (pure) | `uses.rs` |
//! | room that evictions have made (pure) | `coming_room.rs` |
//! | removal of copies that are not used any more | `eviction.rs` |
//! | what is fetched in advance, and when (pure) | `prefetch_rules.rs` |
//! | fetching it | `prefetch.rs` |
//! | copies that no request asks for | `stored.rs` |
//! | states of connections, in the storage | `states.rs` |
//!
//! The handlers of requests are in `src/registry/api/handlers/upstreams.rs`.

mod absences;
mod blobs;
pub(crate) mod bounded_map;
pub(crate) mod circuit;
pub(crate) mod client_shares;
pub(crate) mod clock;
pub(crate) mod coming_room;
pub(crate) mod eviction;
pub(crate) mod flights;
mod lists;
mod manifest_copies;
mod manifests;
mod namespace;
mod observed_source;
pub(crate) mod prefetch;
mod prefetch_rules;
mod proven_blobs;
mod question;
mod refresh;
mod settings;
mod states;
mod stored;
mod table;
mod tag_records;
#[cfg(test)]
mod tests;
pub(crate) mod uses;
pub(crate) mod verification;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use quinistry_fetch::Upstream;
use quinistry_fetch::hops::MAX_HOPS;
use quinistry_oci::{Descriptor, Digest, RepositoryName, Tag};
use tokio::sync::Semaphore;

use self::absences::Absences;
use self::client_shares::ClientShares;
use self::clock::Clock;
use self::flights::Flights;
use self::lists::{CachedLists, ListAnswer};
use self::manifests::{ManifestFlight, ManifestResult};
use self::prefetch_rules::ScheduledRule;
use self::proven_blobs::{ProvenBlobs, SentBlobs};
use self::question::Failure;
use self::table::UpstreamTable;
use self::tag_records::TagRecords;
use crate::LimitedStore;
use crate::api::query::Query;
use crate::api::response::error::Error;
use crate::api::route::{Route, RouteError};
use crate::metrics::UpstreamCounts;

pub(crate) use self::blobs::BlobAnswer;
pub(crate) use self::manifest_copies::is_absence;
pub(crate) use self::manifests::ManifestAnswer;
pub use self::namespace::{Namespace, NamespaceError};
pub use self::prefetch::PrefetchedUpstream;
pub use self::prefetch_rules::{ExcludedRepository, ExclusionReason, PrefetchRule};
pub use self::settings::{InsecureUpstream, MissingPolicy, UpstreamCredentials, UpstreamSettings};
pub use self::states::{ConnectionState, UpstreamState, UpstreamStates, recorded_states};
pub use self::stored::{CopySelection, SelectionError, StoredUpstreams};
pub(crate) use self::table::LocatedRepository;
pub use self::table::UpstreamTableError;

/// Longest wait for an answer if nothing is stored that could be served.
const COLD_PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for an answer if something is.
const WARM_PATIENCE: Duration = Duration::from_secs(3);

/// Most manifests of one upstream that are in memory at once until they are stored or sent: each may have 4 MiB.
const MAX_CONCURRENT_MANIFESTS: usize = 8;

/// Most lists of one upstream that are received at once: a page may have 16 MiB.
const MAX_CONCURRENT_LISTS: usize = 4;

/// Most blobs of all upstreams that are fetched at once before a client asks for them: half of all fetches, since clients
/// have the others.
const MAX_PREFETCHED_BLOBS: usize = 32;

/// Upstreams of a registry.
#[derive(Debug)]
pub struct Upstreams {
    table: UpstreamTable,
    cached: Vec<Arc<CachedUpstream>>,
    /// Permits to fetch a blob before a client asks for it.
    prefetch_permits: Semaphore,
}

/// Request for a repository of an upstream.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) upstream: Arc<CachedUpstream>,
    pub(crate) repository: LocatedRepository,
    /// Namespace by which the client has named the upstream.
    pub(crate) namespace: Option<Namespace>,
}

/// Upstream with what this process knows of its content.
#[derive(Debug)]
pub(crate) struct CachedUpstream {
    settings: UpstreamSettings,
    upstream: Arc<dyn Upstream>,
    name: Arc<str>,
    clock: Clock,
    cold_patience: Duration,
    warm_patience: Duration,
    /// Counts that outlive the settings.
    counts: OnceLock<Arc<UpstreamCounts>>,
    question_permits: Semaphore,
    client_shares: ClientShares,
    manifest_permits: Arc<Semaphore>,
    list_permits: Semaphore,
    known: Mutex<Known>,
    prefetch: Mutex<Vec<ScheduledRule>>,
    manifest_flights: Flights<ManifestFlight, ManifestResult>,
    blob_flights: Flights<(RepositoryName, Digest), Result<Option<u64>, Failure>>,
    tag_flights: Flights<RepositoryName, ListAnswer<Tag>>,
    referrer_flights: Flights<(RepositoryName, Digest), ListAnswer<Descriptor>>,
}

/// Knowledge of the content of one upstream.
#[derive(Debug, Default)]
struct Known {
    tags: TagRecords,
    absences: Absences,
    proven_blobs: ProvenBlobs,
    /// Blobs that the upstream has sent, and that a repository of the upstream has stored.
    sent_blobs: SentBlobs,
    tag_lists: CachedLists<RepositoryName, Tag>,
    referrers: CachedLists<(RepositoryName, Digest), Descriptor>,
}

// === impl Upstreams ===

impl Upstreams {
    /// Creates upstreams of their settings; `connect` makes the one that is asked.
    pub fn new<E: From<UpstreamTableError>>(
        settings: Vec<UpstreamSettings>,
        mut connect: impl FnMut(&UpstreamSettings) -> Result<Arc<dyn Upstream>, E>,
    ) -> Result<Self, E> {
        let table = UpstreamTable::new(&settings)?;
        let cached = settings.into_iter().map(|settings| {
            let upstream = connect(&settings)?;
            let rules = settings.prefetch.iter().cloned().map(ScheduledRule::new).collect::<Result<_, _>>();
            let rules = rules.map_err(|(pattern, error)| UpstreamTableError::Pattern(pattern, error))?;
            Ok(Arc::new(CachedUpstream::new(settings, upstream, rules)))
        });
        let cached = cached.collect::<Result<_, E>>()?;
        Ok(Self { table, cached, prefetch_permits: Semaphore::new(MAX_PREFETCHED_BLOBS) })
    }

    /// Takes over what the former upstreams know of content, and the schedules of their rules, each from the one whose
    /// settings are the same. What they do not have, and lists, are asked for again.
    pub(crate) fn inherit(&self, former: &Self) {
        for upstream in &self.cached {
            let is_former = |other: &&Arc<CachedUpstream>| other.settings == upstream.settings;
            // Settings that change elsewhere keep the upstreams themselves.
            let Some(former) =
                former.cached.iter().find(is_former).filter(|other| !Arc::ptr_eq(other, upstream))
            else {
                continue;
            };
            let Known { tags, proven_blobs, sent_blobs, .. } = std::mem::take(&mut *former.known());
            let mut known = upstream.known();
            (known.tags, known.proven_blobs, known.sent_blobs) = (tags, proven_blobs, sent_blobs);
            drop(known);
            let (mut rules, former) = (upstream.prefetch_rules(), former.prefetch_rules());
            rules.iter_mut().zip(former.iter()).for_each(|(rule, former)| rule.inherit(former));
        }
    }

    /// Has metrics of these upstreams from the start, so that no first count is lost.
    pub(crate) fn register(&self, stored: &LimitedStore) {
        for upstream in &self.cached {
            upstream.counts(stored);
        }
    }

    /// Finds the upstream of a request, whose name becomes the one that the repository has here.
    pub(crate) fn locate(&self, route: &mut Route, query: Query<'_>) -> Result<Option<Box<Located>>, Error> {
        let namespace = Namespace::of_request(query)?;
        let Some(asked) = route.name() else { return Ok(None) };
        let within = match &namespace {
            Some(namespace) => self.table.name_in(namespace, asked).transpose().map_err(RouteError::Name)?,
            None => None,
        };
        let name = within.as_ref().unwrap_or(asked);
        let Some(repository) = self.table.locate(name).map_err(RouteError::Name)? else { return Ok(None) };
        let namespace = namespace.filter(|_| within.is_some());
        route.replace_name(repository.name.clone());
        let upstream = self.cached[repository.upstream].clone();
        Ok(Some(Box::new(Located { upstream, repository, namespace })))
    }

    /// Returns true if the patterns exclude a repository, of which then nothing is served.
    pub(crate) fn excludes(&self, name: &RepositoryName) -> bool {
        self.table.locate(name).is_ok_and(|found| found.is_some_and(|repository| !repository.is_allowed))
    }

    /// Returns true if there may be repositories that the patterns exclude.
    pub(crate) fn exclude_names(&self) -> bool {
        self.table.excludes_names()
    }

    /// Returns the one name that a repository has here, whichever of its spellings a client uses.
    pub(crate) fn name_of(&self, spelled: RepositoryName) -> RepositoryName {
        match self.table.locate(&spelled) {
            Ok(Some(repository)) => repository.name,
            Ok(None) | Err(_) => spelled,
        }
    }
}

// === impl CachedUpstream ===

impl CachedUpstream {
    fn new(settings: UpstreamSettings, upstream: Arc<dyn Upstream>, prefetch: Vec<ScheduledRule>) -> Self {
        let permits = settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            name: upstream.name().into(),
            settings,
            upstream,
            clock: Clock::default(),
            cold_patience: COLD_PATIENCE,
            warm_patience: WARM_PATIENCE,
            counts: OnceLock::new(),
            question_permits: Semaphore::new(permits),
            client_shares: ClientShares::new(permits),
            manifest_permits: Arc::new(Semaphore::new(permits.min(MAX_CONCURRENT_MANIFESTS))),
            list_permits: Semaphore::new(permits.min(MAX_CONCURRENT_LISTS)),
            known: Mutex::default(),
            prefetch: Mutex::new(prefetch),
            manifest_flights: Flights::default(),
            blob_flights: Flights::default(),
            tag_flights: Flights::default(),
            referrer_flights: Flights::default(),
        }
    }

    /// Returns the counts of this upstream, which are those of the registry that the store belongs to.
    pub(crate) fn counts(&self, stored: &LimitedStore) -> &Arc<UpstreamCounts> {
        self.counts.get_or_init(|| stored.upstream_metrics.of(&self.name))
    }

    /// Notes that a client has used a stored manifest.
    pub(crate) fn note_use(&self, stored: &LimitedStore, name: &RepositoryName, digest: &Digest) {
        stored.copy_uses().note(name, digest, self.clock.now());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns that a request has passed too many caches, once while the program runs.
    pub(crate) fn warn_of_circle(&self, stored: &LimitedStore, repository: &RepositoryName) {
        if self.counts(stored).is_first_circle() {
            let upstream = &self.name;
            tracing::warn!(
                %upstream,
                %repository,
                caches = MAX_HOPS,
                "request has passed too many caches, which are each other's upstream; request refused"
            );
        }
    }

    fn prefetch_rules(&self) -> MutexGuard<'_, Vec<ScheduledRule>> {
        self.prefetch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is known of a repository, since a client has deleted stored content of it.
    pub(crate) fn forget(&self, name: &RepositoryName) {
        let mut known = self.known();
        known.tags.forget(name);
        known.proven_blobs.forget(name);
    }
}
