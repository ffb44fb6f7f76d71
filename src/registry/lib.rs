//! OCI registry over HTTP: the quine as a built-in repository, and the content of a [`Store`].
//!
//! Speaks the OCI distribution-spec v1.1 and the newer text of its main branch. The built-in repository,
//! `quinistry`, holds one image, that of the running executable, and is read-only. With a [`Store`] clients
//! can also push. [`router`] answers requests, and can be mounted in any axum program; [`serve`] puts it
//! behind a listener with the deadlines that the open network asks for. This crate knows nothing of command
//! lines, signals or Kubernetes.

mod api;
pub mod auth;
mod builtin;
mod client_address;
mod client_tls;
mod collection;
pub mod config;
pub mod debug;
mod deletion_events;
mod entrance;
pub mod health;
mod keyed_queue;
mod low_priority;
mod maintenance;
mod memory_budgets;
pub mod metrics;
mod named_images;
pub mod notifications;
mod observer;
mod peers;
mod prefix;
mod quota_policies;
mod records;
mod repository_set;
pub mod retention;
mod scrub;
mod settings;
mod tag_policies;
#[cfg(test)]
mod tests;
mod time_text;
mod upload_expiry;
mod upstreams;

use std::convert::Infallible;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use quinistry_fetch::{FetchOptions, Fetches};
use quinistry_oci::{Digest, RepositoryName};
use quinistry_quine::Quine;
use quinistry_store::{HealSource, Store, StoreError};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{OnceCell, Semaphore};
use tower_service::Service;

use self::api::response::error::Error;
use self::builtin::Builtin;
use self::deletion_events::DeletionEvents;
use self::health::Health;
use self::keyed_queue::KeyedQueue;
use self::metrics::UpstreamMetrics;
use self::settings::SettingsCell;
use self::upstreams::coming_room::ComingRoom;
use self::upstreams::uses::CopyUses;

pub use quinistry_fetch::{Peer, Upstream};
pub use quinistry_http::{Limits, serve};

pub use self::api::upload_state::UploadSecret;
pub use self::client_tls::ClientTls;
pub use self::collection::{CollectionHooks, CollectionSettings, DailyWindow, DailyWindowError, LeaderWork};
pub use self::entrance::Entrance;
pub use self::named_images::NamedImages;
pub use self::observer::Observer;
pub use self::peers::Peers;
pub use self::prefix::{PathPrefix, PathPrefixError};
pub use self::repository_set::RepositorySet;
pub use self::settings::{
    Audit, ExtraHeaders, ExtraHeadersError, PageLimits, PullRecording, PullingClient, QuotaPolicies,
    QuotaPolicy, Redirects, RepositoryClass, RepositoryNaming, RequiredEntries, RequiredPlatform, Scrub,
    Settings, TagPolicies, TagPolicy, UploadExpiry, UrlRules, Validation,
};
pub use self::time_text::rfc3339;
pub use self::upstreams::{
    ConnectionState, CopySelection, ExcludedRepository, ExclusionReason, InsecureUpstream, MissingPolicy,
    Namespace, NamespaceError, PrefetchRule, PrefetchedUpstream, SelectionError, StoredUpstreams,
    UpstreamCredentials, UpstreamSettings, UpstreamState, UpstreamStates, UpstreamTableError, Upstreams,
    recorded_states,
};

/// Most manifests that are read from the storage at once: each may be long, and is in memory while it is
/// hashed.
const MAX_CONCURRENT_MANIFEST_READS: usize = 32;

/// Most lists (of tags, repositories or referrers) that are made at once: each may be as long as its longest
/// page.
const MAX_CONCURRENT_LISTS: usize = 16;

/// Most writes at once: half of tokio's 512 blocking threads, so that reads progress however slowly a disk
/// writes.
const MAX_CONCURRENT_WRITES: usize = 256;

/// Most blobs that are looked up at once: the look-up of a long blob hashes it, unless its digest was
/// verified before.
const MAX_CONCURRENT_BLOB_LOOKUPS: usize = 64;

/// Content and settings of a registry. Clones share them.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    builtin: Option<Builtin>,
    stored: Option<LimitedStore>,
    settings: SettingsCell,
    prefix: PathPrefix,
}

/// Store with bounds on the requests that use it at once.
#[derive(Clone, Debug)]
struct LimitedStore {
    store: Store,
    write_permits: Arc<Semaphore>,
    lookup_permits: Arc<Semaphore>,
    /// Queue of requests that take a repository's lock.
    repository_queue: KeyedQueue<RepositoryName>,
    /// Queue of requests for referrers, whose list may have to be made first.
    referrers_queue: KeyedQueue<RepositoryName>,
    /// Queue of requests for a blob, which may have to be hashed first.
    blob_queue: KeyedQueue<Digest>,
    /// Permits to read manifests that are not cached.
    manifest_read_permits: Arc<Semaphore>,
    /// Permits to hash and parse long manifests that are pushed: as many as half of the processors, so that
    /// the other half answers requests.
    manifest_check_permits: Arc<Semaphore>,
    list_permits: Arc<Semaphore>,
    /// Secret of upload sessions that the storage holds, for replicas that share no other one.
    stored_upload_secret: Arc<OnceCell<UploadSecret>>,
    /// Fetches of blobs of upstreams.
    fetches: Fetches,
    upstream_metrics: Arc<UpstreamMetrics>,
    /// Uses of copies of upstreams, which outlive the settings.
    copy_uses: Arc<Mutex<CopyUses>>,
    /// Room that evictions of copies have made.
    coming_room: Arc<Mutex<ComingRoom>>,
}

impl State {
    /// Makes a registry that has only the built-in repository, with `quine` in it, and the default settings.
    #[must_use]
    pub fn new(quine: &Quine) -> Self {
        Self::of(Some(Builtin::new(quine)), Settings::default())
    }

    /// Makes a registry that has only the content of `store`.
    #[must_use]
    pub fn stored(store: Store, settings: Settings) -> Self {
        Self::of(None, Settings::default()).with_store(store, settings)
    }

    fn of(builtin: Option<Builtin>, settings: Settings) -> Self {
        let settings = SettingsCell::new(settings);
        Self(Arc::new(Inner { builtin, stored: None, settings, prefix: PathPrefix::default() }))
    }

    /// Adds the content of `store`, to which clients can push if the settings permit it.
    #[must_use]
    pub fn with_store(self, store: Store, settings: Settings) -> Self {
        quinistry_http::memory_budget::enlarge();
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.stored = Some(LimitedStore::new(store));
        inner.settings = SettingsCell::new(settings);
        inner.observe_deletions();
        inner.limit_store(None);
        Self(Arc::new(inner))
    }

    /// Serves all paths below `prefix`, and nothing outside of it. Call before the state is cloned.
    #[must_use]
    pub fn with_prefix(self, prefix: PathPrefix) -> Self {
        let inner = Inner { prefix, ..Arc::unwrap_or_clone(self.0) };
        // The cell of the settings may be another one.
        inner.observe_deletions();
        Self(Arc::new(inner))
    }

    /// Replaces the settings while the registry runs, for this state and its clones. Requests that began before
    /// end with the former settings.
    ///
    /// ```
    /// use quinistry_registry::{Settings, State};
    /// use quinistry_store::{Memory, Store};
    ///
    /// let store = Store::open(Memory::new(1 << 30), false)?;
    /// let state = State::stored(store, Settings::default());
    /// let registry = quinistry_registry::router(state.clone());
    /// // A backup begins, during which clients can only read.
    /// state.replace_settings(Settings { read_only: true, ..Settings::default() });
    /// # Ok::<(), quinistry_store::StoreError>(())
    /// ```
    pub fn replace_settings(&self, settings: Settings) {
        let former = self.0.settings.current();
        self.0.settings.replace(settings);
        self.0.limit_store(Some(&former));
    }

    /// Returns the health checks that gate the requests, if there are any.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.0.settings.current().observer.as_ref().and_then(|observer| observer.health.clone())
    }

    /// Returns true if the registry asks who its clients are, so that it needs the peers of their connections.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.0.settings.current().access.is_some()
    }

    /// Returns true if rules limit what users can do.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.0.settings.current().access.as_ref().is_some_and(|access| !access.rules.are_absent())
    }

    /// Returns the issuer of this registry's own tokens, if it issues any.
    #[must_use]
    pub fn token_issuer(&self) -> Option<Arc<auth::issue::TokenIssuer>> {
        self.0.settings.current().access.as_ref()?.token_issuer.clone()
    }

    /// Returns the metrics of upstreams, if there is a store for their content.
    #[must_use]
    pub fn upstream_metrics(&self) -> Option<Arc<UpstreamMetrics>> {
        self.0.stored.as_ref().map(|stored| stored.upstream_metrics.clone())
    }

    /// Has `observer` measure, log and gate the requests.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        let settings = Settings::clone(&self.0.settings.current());
        self.replace_settings(Settings { observer: Some(Arc::new(observer)), ..settings });
        self
    }

    /// Returns a task that ends idle upload sessions as [`Settings::upload_expiry`] says, for as long as the
    /// registry runs. Spawn it beside [`serve`]; without it, sessions end only by their clients.
    pub fn expire_uploads(&self) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.as_ref().map(|stored| stored.store.clone());
        let settings = self.0.settings.subscribe();
        async move {
            if let Some(store) = stored {
                upload_expiry::run(store, settings).await;
            }
        }
    }
}

impl State {
    /// Returns a task that checks the stored content as [`Settings::scrub`] says, for as long as the registry runs, and
    /// replaces damaged content from `sources`. Spawn it beside [`serve`]; without it, damage is found only by clients,
    /// and stays until the content is pushed again.
    pub fn scrub(&self, sources: Vec<Arc<dyn HealSource>>) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.as_ref().map(|stored| stored.store.clone());
        let settings = self.0.settings.subscribe();
        async move {
            if let Some(store) = stored {
                scrub::run(store, sources, settings).await;
            }
        }
    }

    /// Returns a task that maintains a storage which several registries share, for as long as the registry runs. Spawn
    /// it beside [`serve`]; without it, the other registries count this one as stopped after five minutes, and finish
    /// its changes.
    pub fn maintain_storage(&self) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.as_ref().map(|stored| stored.store.clone());
        async move {
            if let Some(store) = stored {
                maintenance::run(store).await;
            }
        }
    }
}

impl Inner {
    /// Gives the store the rules of the current settings, as far as these differ from the former ones, and their
    /// upstreams metrics and what the former ones know.
    fn limit_store(&self, former: Option<&Settings>) {
        let Some(stored) = &self.stored else { return };
        let store = &stored.store;
        let current = self.settings.current();
        if let Some(upstreams) = &current.upstreams {
            upstreams.register(stored);
            if let Some(former) = former.and_then(|former| former.upstreams.as_ref()) {
                upstreams.inherit(former);
            }
        }
        store.set_tag_rules(current.tags.clone().map(|tags| tags as _));
        // Other quotas mean that the usage is found again.
        if former.is_none_or(|former| former.quotas != current.quotas) {
            store.set_quotas(current.quotas.as_ref().map(|quotas| quotas.quotas()).unwrap_or_default());
        }
    }

    /// Has audit log and endpoints of the current settings receive the deletions that the registry makes by
    /// itself.
    fn observe_deletions(&self) {
        if let Some(stored) = &self.stored {
            stored.store.observe_deletions(Arc::new(DeletionEvents(self.settings.subscribe())));
        }
    }
}

impl State {
    /// Returns a task that collects garbage as [`Settings::collection`] says, and refreshes the view of what other
    /// replicas have condemned, for as long as the registry runs. Spawn it beside [`serve`]; without it, nothing is
    /// collected, and each push to a shared storage refreshes the view when it is older than a minute.
    pub fn collect_garbage(
        &self,
        hooks: CollectionHooks,
        metrics: Arc<metrics::CollectionMetrics>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.as_ref().map(|stored| stored.store.clone());
        let settings = self.0.settings.subscribe();
        async move {
            if let Some(store) = stored {
                collection::run(store, settings, hooks, metrics).await;
            }
        }
    }

    /// Returns a task that writes records now and then: pulls, deletions by the registry itself, and the usage of quotas,
    /// for as long as the registry runs. Spawn it beside [`serve`], and call [`flush_records`](Self::flush_records) at
    /// the end.
    pub fn write_records(&self) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.as_ref().map(|stored| stored.store.clone());
        let settings = self.0.settings.subscribe();
        async move {
            if let Some(store) = stored {
                records::run(store, settings).await;
            }
        }
    }

    /// Returns a task that removes copies of upstreams which are not used any more, as the settings of the upstreams say,
    /// and records their uses, for as long as the registry runs. Spawn it beside [`serve`]; without it, copies stay.
    pub fn evict_copies(&self) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.clone();
        let settings = self.0.settings.subscribe();
        async move {
            if let Some(stored) = stored {
                upstreams::eviction::run(stored, settings).await;
            }
        }
    }

    /// Returns a task that fetches tags of upstreams in advance, as the settings of the upstreams say, for as long as the
    /// registry runs. Spawn it beside [`serve`]; without it, content is fetched when a client asks for it.
    pub fn prefetch(&self) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.clone();
        let settings = self.0.settings.subscribe();
        async move {
            if let Some(stored) = stored {
                upstreams::prefetch::run(stored, settings).await;
            }
        }
    }

    /// Returns a task that copies from peers what [`Settings::named`] names and the storage lacks, for as long as the
    /// registry runs. Spawn it beside [`serve`]; without it, nothing is copied, and the store is never ready.
    pub fn keep_named(&self) -> impl Future<Output = ()> + Send + use<> {
        let stored = self.0.stored.clone();
        let named = self.0.settings.current().named.clone();
        async move {
            if let (Some(stored), Some(named)) = (stored, named) {
                named.run(stored).await;
            }
        }
    }

    /// Fetches now what the settings of the upstreams name, whatever its interval.
    pub async fn prefetch_now(&self) -> Vec<PrefetchedUpstream> {
        match (&self.0.stored, &self.0.settings.current().upstreams) {
            (Some(stored), Some(upstreams)) => upstreams.prefetch(stored).await,
            _ => Vec::new(),
        }
    }

    /// Writes the records that wait in memory.
    pub async fn flush_records(&self) {
        if let Some(stored) = &self.0.stored {
            records::flush(&stored.store).await;
            upstreams::eviction::record_uses(stored).await;
        }
    }
}

impl LimitedStore {
    fn new(store: Store) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let upstream_metrics = Arc::<UpstreamMetrics>::default();
        let fetches = Fetches::new(Some(store.clone()), FetchOptions::default());
        Self {
            fetches: fetches.with_observer(upstream_metrics.clone()),
            upstream_metrics,
            copy_uses: Arc::new(Mutex::new(CopyUses::new(&store))),
            coming_room: Arc::default(),
            store,
            write_permits: semaphore(MAX_CONCURRENT_WRITES),
            lookup_permits: semaphore(MAX_CONCURRENT_BLOB_LOOKUPS),
            repository_queue: KeyedQueue::default(),
            referrers_queue: KeyedQueue::default(),
            blob_queue: KeyedQueue::default(),
            manifest_read_permits: semaphore(MAX_CONCURRENT_MANIFEST_READS),
            manifest_check_permits: semaphore((processors / 2).max(1)),
            list_permits: semaphore(MAX_CONCURRENT_LISTS),
            stored_upload_secret: Arc::default(),
        }
    }

    fn copy_uses(&self) -> MutexGuard<'_, CopyUses> {
        self.copy_uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn coming_room(&self) -> MutexGuard<'_, ComingRoom> {
        self.coming_room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the secret by which replicas recognise upload sessions: that of the settings, or else one that the
    /// first replica creates in the storage.
    async fn upload_secret(&self, settings: &Settings) -> Result<UploadSecret, Error> {
        if let Some(secret) = &settings.upload_secret {
            return Ok(secret.clone());
        }
        let stored = self.stored_upload_secret.get_or_try_init(|| async {
            let mut new = [0; 32];
            SystemRandom::new().fill(&mut new).map_err(|_| Error::Internal)?;
            let secret = self.run(move |store| store.shared_secret(&new)).await?;
            Ok::<_, Error>(UploadSecret::derived_from(&secret))
        });
        stored.await.cloned()
    }

    /// Calls the store on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        Ok(run_blocking(move || call(&store)).await?)
    }

    /// Calls the store to write, with at most [`MAX_CONCURRENT_WRITES`] such calls at once.
    async fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.write_permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.run(move |store| {
            let _permit = permit;
            call(store)
        })
        .await
    }

    /// Calls the store to write under a repository's lock. Requests wait for the lock here, and not on a
    /// thread.
    async fn write_locked<T: Send + 'static>(
        &self,
        name: &RepositoryName,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.repository_queue.wait(name).await;
        self.write(move |store| {
            let _turn = turn;
            call(store)
        })
        .await
    }
}

/// Runs `call` on a thread that may block. The call completes even if the request is dropped, so that no
/// change is left half-done.
async fn run_blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let result = Arc::new(Mutex::new(None));
    let slot = result.clone();
    // One type for all calls: the code of a task has kilobytes for each type of call.
    let call: Box<dyn FnOnce() + Send> = Box::new(move || {
        let result = call();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    join(tokio::task::spawn_blocking(call)).await;
    let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.expect("a call that has ended has left its result")
}

/// Runs `work` as a task that completes even if the request is dropped.
async fn run_to_completion<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    join(tokio::spawn(work)).await
}

async fn join<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels a task, and it cancels the caller as well.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Returns the registry as an axum router, to serve or to embed.
///
/// A registry that stores pushed content in a folder, in front of the program's own routes:
///
/// ```
/// use std::path::Path;
///
/// use axum::Router;
/// use axum::routing::get;
/// use quinistry_registry::{Settings, State, router};
/// use quinistry_store::{Access, Filesystem, Store};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let storage = Filesystem::open(folder, Access::Write)?;
/// let store = Store::open(storage, false)?;
/// let registry = router(State::stored(store, Settings::default()));
///
/// // Everything under /v2 is the registry's.
/// let app: Router = Router::new().route("/healthz", get(|| async { "ok" })).fallback_service(registry);
/// # async fn serve(app: Router) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
/// quinistry_registry::serve(listener, app, Default::default(), std::future::pending()).await;
/// # Ok(())
/// # }
/// # Ok(())
/// # }
/// ```
///
/// The built-in image needs a static executable. rustdoc compiles examples to dynamic ones, so this example
/// is compiled, but not run:
///
/// ```no_run
/// use quinistry_quine::{Executable, LayerForm, Quine};
/// use quinistry_registry::{State, router};
///
/// let quine = Quine::new(&Executable::current()?, LayerForm::Tar)?;
/// let app: axum::Router = router(State::new(&quine));
/// # Ok::<(), quinistry_quine::ExecutableError>(())
/// ```
pub fn router(state: State) -> Router {
    // Repository names hold slashes, so only a parser that reads from the right can route them.
    Router::new().fallback_service(state)
}

/// Answers requests without an axum router in front: its path matching costs a tenth of a manifest request.
impl Service<Request> for State {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = self.clone();
        Box::pin(async move { Ok(api::dispatch::dispatch(&state, request).await) })
    }
}
