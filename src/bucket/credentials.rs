//! Credentials of a store. Temporary ones are renewed in the background before they expire, and at once when the store
//! says that they have.
//!
//! The chains of `object_store` fetch other credentials when less than five minutes of the lifetime are left, and let all
//! requests wait for that. Here a task asks the chain at intervals, and requests take the last answer. A chain
//! measures lifetimes by a clock that stands still while the machine is suspended, and has no way to be told that a
//! store has refused what it gave: another chain is then built in its place.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use object_store::CredentialProvider;
use quinistry_store::time_since_boot;

use crate::governed::fraction;

/// Longest pause between two questions to a chain, which renews within the last five minutes of a lifetime. A part of
/// it by chance, so that the replicas of a deployment do not ask at the same time.
const MAX_PAUSE: Duration = Duration::from_secs(90);

/// Shortest pause between two questions to a chain, most of which the chain answers from memory.
const MIN_PAUSE: Duration = Duration::from_secs(30);

/// Age below which refused credentials are not fetched again: the store refuses them for another reason than their age.
const MIN_AGE: Duration = Duration::from_secs(5);

/// Chain of credentials, as `object_store` builds it.
pub(crate) type Provider<C> = Arc<dyn CredentialProvider<Credential = C>>;

type Build<C> = Box<dyn Fn() -> object_store::Result<Provider<C>> + Send + Sync>;

/// Credentials of a store. Clones share them.
pub(crate) struct Credentials<C>(Arc<Inner<C>>);

struct Inner<C> {
    /// Builds a chain that has fetched nothing; `None` if the credentials are given and stay as they are.
    build: Option<Build<C>>,
    state: Mutex<State<C>>,
    /// Held while credentials are fetched that requests wait for.
    fetching: tokio::sync::Mutex<()>,
    max_pause: Duration,
}

struct State<C> {
    provider: Provider<C>,
    current: Option<Arc<C>>,
    /// Time since boot at which a chain was last built because the store had refused the credentials.
    rebuilt: Option<Duration>,
}

impl<C> fmt::Debug for Credentials<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

// === impl Credentials ===

impl<C: Send + Sync + 'static> Credentials<C> {
    /// Takes credentials that stay as they are.
    pub(crate) fn fixed(provider: Provider<C>) -> Self {
        Self::new(provider, None, MAX_PAUSE)
    }

    /// Takes the credentials of chains that `build` makes. Fetches nothing.
    pub(crate) fn of_chain(
        build: impl Fn() -> object_store::Result<Provider<C>> + Send + Sync + 'static,
    ) -> object_store::Result<Self> {
        Ok(Self::new(build()?, Some(Box::new(build)), MAX_PAUSE))
    }

    fn new(provider: Provider<C>, build: Option<Build<C>>, max_pause: Duration) -> Self {
        let state = State { provider, current: None, rebuilt: None };
        Self(Arc::new(Inner {
            build,
            state: Mutex::new(state),
            fetching: tokio::sync::Mutex::default(),
            max_pause,
        }))
    }

    /// Returns the credentials. Waits only for the first ones.
    pub(crate) async fn get(&self) -> object_store::Result<Arc<C>> {
        if let Some(current) = self.0.current() {
            return Ok(current);
        }
        let _guard = self.0.fetching.lock().await;
        if let Some(current) = self.0.current() {
            return Ok(current);
        }
        let fetched = self.0.fetch().await?;
        if self.0.build.is_some() {
            tokio::spawn(renew(Arc::downgrade(&self.0)));
        }
        Ok(fetched)
    }

    /// Fetches other credentials than `refused`, which the store says have expired. Returns false if there are no
    /// others. Of several requests that were refused, one fetches.
    pub(crate) async fn replace(&self, refused: &Arc<C>) -> object_store::Result<bool> {
        let Some(build) = &self.0.build else { return Ok(false) };
        let _guard = self.0.fetching.lock().await;
        let now = time_since_boot();
        {
            let mut state = self.0.state();
            if !state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, refused)) {
                return Ok(true);
            }
            if state.rebuilt.is_some_and(|rebuilt| now.saturating_sub(rebuilt) < MIN_AGE) {
                return Ok(false);
            }
            state.rebuilt = Some(now);
            state.provider = build()?;
        }
        self.0.fetch().await?;
        tracing::info!("credentials of the bucket had expired, fetched others");
        Ok(true)
    }
}

// === impl Inner ===

impl<C> Inner<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<C>> {
        self.state().current.clone()
    }

    /// Asks the chain.
    async fn fetch(&self) -> object_store::Result<Arc<C>> {
        let provider = self.state().provider.clone();
        let fetched = provider.get_credential().await?;
        let mut state = self.state();
        // Another chain, whose credentials are newer, may have been built since.
        if Arc::ptr_eq(&state.provider, &provider) {
            state.current = Some(fetched.clone());
        }
        Ok(fetched)
    }
}

/// Asks the chain at intervals, for as long as there is a client of the bucket.
async fn renew<C: Send + Sync + 'static>(credentials: Weak<Inner<C>>) {
    let mut has_failed = false;
    while let Some(max_pause) = credentials.upgrade().map(|credentials| credentials.max_pause) {
        let least = MIN_PAUSE.min(max_pause);
        tokio::time::sleep(least + max_pause.saturating_sub(least).mul_f64(fraction())).await;
        let Some(credentials) = credentials.upgrade() else { return };
        match credentials.fetch().await {
            Ok(_) => has_failed = false,
            Err(error) if !has_failed => {
                has_failed = true;
                tracing::warn!(%error, "cannot renew credentials of the bucket, trying again before they expire");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{BoxFuture, join_all};
    use tokio::sync::Semaphore;

    use super::*;

    /// Service that gives credentials by their numbers, each for a permit.
    #[derive(Debug)]
    struct Service {
        issued: AtomicUsize,
        permits: Semaphore,
    }

    /// Chain that fetches once, and again as soon as the test says that a lifetime is about to end.
    #[derive(Debug)]
    struct Chain {
        service: Arc<Service>,
        fetched: tokio::sync::Mutex<Option<Arc<usize>>>,
        ends: Arc<Semaphore>,
    }

    impl CredentialProvider for Chain {
        type Credential = usize;

        fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<usize>>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async {
                let mut fetched = self.fetched.lock().await;
                let is_ending = self.ends.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok();
                if let Some(fetched) = &*fetched
                    && !is_ending
                {
                    return Ok(fetched.clone());
                }
                self.service.permits.acquire().await.unwrap().forget();
                let issued = Arc::new(self.service.issued.fetch_add(1, Ordering::SeqCst) + 1);
                *fetched = Some(issued.clone());
                Ok(issued)
            })
        }
    }

    fn service(permits: usize) -> (Arc<Service>, Arc<Semaphore>) {
        let service = Service { issued: AtomicUsize::new(0), permits: Semaphore::new(permits) };
        (Arc::new(service), Arc::new(Semaphore::new(0)))
    }

    fn credentials(service: &Arc<Service>, ends: &Arc<Semaphore>, max_pause: Duration) -> Credentials<usize> {
        let (service, ends) = (service.clone(), ends.clone());
        let build = move || {
            let chain = Chain { service: service.clone(), fetched: None.into(), ends: ends.clone() };
            Ok(Arc::new(chain) as Provider<usize>)
        };
        Credentials::new(build().unwrap(), Some(Box::new(build)), max_pause)
    }

    #[tokio::test]
    async fn expired_credentials_are_replaced_once_by_all_that_were_refused() {
        let (service, ends) = service(10);
        let credentials = credentials(&service, &ends, MAX_PAUSE);
        let all = join_all((0..5).map(|_| credentials.get())).await;
        assert!(all.into_iter().all(|got| *got.unwrap() == 1));
        let refused = credentials.get().await.unwrap();
        let replaced = join_all((0..5).map(|_| credentials.replace(&refused))).await;
        assert!(replaced.into_iter().all(Result::unwrap));
        let other = credentials.get().await.unwrap();
        assert_eq!(*other, 2);
        assert!(!credentials.replace(&other).await.unwrap(), "the store refuses them for another reason");
        assert_eq!(service.issued.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn credentials_are_renewed_while_requests_go_on_with_the_old_ones() {
        let (service, ends) = service(1);
        let credentials = credentials(&service, &ends, Duration::from_millis(1));
        assert_eq!(*credentials.get().await.unwrap(), 1);
        ends.add_permits(1);
        let wait = async |condition: &dyn Fn() -> bool| {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // The chain waits for the service.
        wait(&|| ends.available_permits() == 0).await;
        assert_eq!(*credentials.get().await.unwrap(), 1);
        service.permits.add_permits(1);
        wait(&|| credentials.0.current().is_some_and(|current| *current == 2)).await;
    }

    #[tokio::test]
    async fn given_credentials_stay() {
        let given = object_store::StaticCredentialProvider::new(7);
        let credentials = Credentials::fixed(Arc::new(given) as Provider<i32>);
        let refused = credentials.get().await.unwrap();
        assert!(!credentials.replace(&refused).await.unwrap());
        assert_eq!(*credentials.get().await.unwrap(), 7);
    }
}
