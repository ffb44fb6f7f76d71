//! The registry: HTTP over the quine, and over what was pushed.
//!
//! Speaks the OCI distribution-spec v1.1 and the newer text of its main branch. One repository is built in, `quinistry`,
//! with one image, that of the running executable, and cannot be changed. With a [`Store`] it is also a registry to push
//! to. [`router`] answers requests, and can be mounted in any axum program; [`serve`] puts it behind a listener with the
//! deadlines that the open network asks for. Knows nothing of command lines, signals or Kubernetes.

mod api;
mod builtin;
mod keyed_queue;
mod memory_budgets;

use std::convert::Infallible;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use quinistry_oci::{Digest, RepositoryName};
use quinistry_quine::Quine;
use quinistry_store::{Store, StoreError};
use tokio::sync::Semaphore;
use tower_service::Service;

use self::api::response::error::Error;
use self::builtin::Builtin;
use self::keyed_queue::Turns;

pub use quinistry_http::{Limits, serve};

/// Most manifests that are read from the storage at once: each may be long, and is in memory while it is
/// hashed.
const MAX_READS: usize = 32;

/// Most lists (of tags, repositories or referrers) that are made at once: each may be as long as its longest
/// page.
const MAX_LISTS: usize = 16;

/// Changes that may be at work at once: half of the threads that may block (tokio's 512), so that reading
/// goes on however slow a disk is to write.
const CHANGES_AT_ONCE: usize = 256;

/// Blobs that may be looked up at once, as one that is long and not known yet is hashed then.
const LOOKUPS_AT_ONCE: usize = 64;

/// What the registry serves. Clones share it.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    builtin: Option<Builtin>,
    stored: Option<Stored>,
}

/// What was pushed, and what may be done with it.
#[derive(Clone, Debug)]
struct Stored {
    store: Store,
    options: Options,
    changes: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    /// Turns of requests that take a repository's lock.
    repositories: Turns<RepositoryName>,
    /// Turns of requests for referrers, whose list may have to be made first.
    referrers: Turns<RepositoryName>,
    /// Turns of requests for a blob, which may have to be hashed first.
    blobs: Turns<Digest>,
    /// Turns to read manifests that are not at hand.
    reads: Arc<Semaphore>,
    /// Turns to hash and parse long manifests that were pushed: on half of the processors, so that the rest
    /// answers.
    checks: Arc<Semaphore>,
    /// Turns to make lists.
    lists: Arc<Semaphore>,
}

/// What clients may do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Nothing can be pushed or deleted.
    pub read_only: bool,
    /// Tags, manifests and blobs can be deleted.
    pub delete: bool,
    /// How long a request's body may go on below `body_rate` before it is cut off.
    pub body: Duration,
    /// Bytes per second that must come on average.
    pub body_rate: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { read_only: false, delete: true, body: Duration::from_secs(30), body_rate: 1024 }
    }
}

impl State {
    /// A registry whose built-in repository holds `quine`, and that has nothing else.
    #[must_use]
    pub fn new(quine: &Quine) -> Self {
        Self(Arc::new(Inner { builtin: Some(Builtin::new(quine)), stored: None }))
    }

    /// A registry without anything built in.
    #[must_use]
    pub fn stored(store: Store, options: Options) -> Self {
        Self(Arc::new(Inner { builtin: None, stored: None })).with_store(store, options)
    }

    /// The same registry, with what is in a store and what will be pushed to it.
    #[must_use]
    pub fn with_store(self, store: Store, options: Options) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.stored = Some(Stored::new(store, options));
        Self(Arc::new(inner))
    }
}

impl Stored {
    fn new(store: Store, options: Options) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            store,
            options,
            changes: semaphore(CHANGES_AT_ONCE),
            lookups: semaphore(LOOKUPS_AT_ONCE),
            repositories: Turns::default(),
            referrers: Turns::default(),
            blobs: Turns::default(),
            reads: semaphore(MAX_READS),
            checks: semaphore((processors / 2).max(1)),
            lists: semaphore(MAX_LISTS),
        }
    }

    /// Calls the store where it may block.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        Ok(blocking(move || call(&store)).await?)
    }

    /// Calls the store for what writes much, as many calls at once as leave threads to read.
    async fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.changes.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.run(move |store| {
            let _permit = permit;
            call(store)
        })
        .await
    }

    /// Calls the store for what takes a repository's lock, which is waited for here.
    async fn change<T: Send + 'static>(
        &self,
        name: &RepositoryName,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.repositories.wait(name).await;
        self.write(move |store| {
            let _turn = turn;
            call(store)
        })
        .await
    }
}

/// Runs what may block. It runs to its end even if nobody waits for it any more, so that nothing is left half-done.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    outcome(tokio::task::spawn_blocking(call)).await
}

/// The same for what waits: it goes on to its end.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    outcome(tokio::spawn(work)).await
}

async fn outcome<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels it, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The registry as an axum router, to serve or to embed. A registry that keeps what is pushed in a folder, in front of
/// whatever else the program serves:
///
/// ```
/// use std::path::Path;
///
/// use axum::Router;
/// use axum::routing::get;
/// use quinistry_registry::{Options, State, router};
/// use quinistry_store::{Access, Filesystem, Store};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let storage = Filesystem::open(folder, Access::Write)?;
/// let store = Store::open(storage, false)?;
/// let registry = router(State::stored(store, Options::default()));
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
/// The built-in image needs a static executable, which the programs that rustdoc makes of examples are not, so this one is
/// compiled, but not run:
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

/// Answers requests without a router in front, whose matching of paths costs a tenth of a manifest request.
impl Service<Request> for State {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = self.clone();
        Box::pin(async move { Ok(api::dispatch::answer(&state, request).await) })
    }
}
