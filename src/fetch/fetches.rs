//! Fetches of one registry: clients come in, and each gets the blob of the one fetch that runs for its digest.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{FetchError, Lie};
use crate::exchange;
use crate::pass_through::PassThrough;
use crate::poison::PoisonMemory;
use crate::progress::{End, Progress, Streaming};
use crate::promised_room::PromisedRoom;
use crate::reader::{Reader, Tail};
use crate::running::{RunningFetches, Seat};
use crate::source::{Source, SourceError};
use crate::task;
use crate::transfer::Fault;

/// Limits of fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// Longest blob that is stored, in bytes; longer ones are passed through.
    pub max_stored_bytes: Option<u64>,
    /// Longest wait for an answer of a source, and for a permit.
    pub answer_timeout: Duration,
    /// Time of waiting for bytes in which 64 KiB must come; else the transfer counts as broken.
    pub silence_timeout: Duration,
    /// Pause before a transfer that broke is resumed.
    pub resume_pause: Duration,
    /// Time for which a source is asked again, later and later, after a transfer broke off there. With zero,
    /// each request that is not answered counts as a break, as is right where a client waits.
    pub away_patience: Duration,
    /// Greatest number of blobs that are fetched to be stored at once; each takes up to 512 KiB of memory.
    pub max_fetches: usize,
    /// Greatest number of blobs that are passed through at once; each takes up to 128 KiB of memory.
    pub max_pass_through: usize,
    /// The end of each range of a blob that is passed through is withheld until the hash of the whole blob holds, for
    /// which the source sends all of the blob. Otherwise only ranges that reach into the blob's own end wait.
    pub verifies_ranges: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            max_stored_bytes: None,
            answer_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(30),
            resume_pause: Duration::from_millis(250),
            away_patience: Duration::ZERO,
            max_fetches: 64,
            max_pass_through: 64,
            verifies_ranges: false,
        }
    }
}

/// Observer of fetches, for metrics. Called in the course of fetches, so that it must not block.
pub trait FetchObserver: fmt::Debug + Send + Sync + 'static {
    /// A source has sent wrong content, and is not asked for it again for a minute.
    fn poisoned(&self, source: &str, lie: Lie) {
        let _ = (source, lie);
    }

    /// A client reads the bytes of a fetch that runs already.
    fn joined(&self, source: &str) {
        let _ = source;
    }
}

/// Blob that a client wants.
#[derive(Clone, Debug)]
pub struct Request {
    /// Digest of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes by a stored manifest, if one names it. A source that says another one is refused.
    pub length: Option<u64>,
    /// Source that has the blob. A fetch that runs is joined if its digest, source and length are the same.
    pub source: Arc<dyn Source>,
    /// Repository that the blob becomes part of.
    pub repository: RepositoryName,
    /// The repository is known to have the blob: a manifest of the repository names the blob, or the source has said so
    /// for this repository. Otherwise only a fetch for the same repository is joined, since a digest alone must not
    /// open what another repository has.
    pub is_proven: bool,
    /// Longest blob that is stored for this request, in bytes; `Some(0)` if none is, but an empty one. The limit of
    /// [`FetchOptions`] holds as well.
    pub max_stored_bytes: Option<u64>,
}

/// Answer to a client.
pub enum Opened {
    /// The repository has the blob since the client has looked.
    Stored,
    /// The blob is being fetched.
    Fetched(Fetched),
    /// The blob is being fetched for another repository, and nothing shows that this one has it. Ask the source for its
    /// headers alone, and open the blob with [`Request::is_proven`].
    Unproven,
}

/// Blob that is being fetched. Its length is known; its bytes are not verified yet.
pub struct Fetched {
    length: u64,
    bytes: FetchedBytes,
}

enum FetchedBytes {
    Staged { fetches: Fetches, request: Request, seat: Seat },
    PassThrough(Box<PassThrough>),
}

/// Fetches that run, with the store of their blobs. Clones share them.
#[derive(Clone, Debug)]
pub struct Fetches(Arc<Inner>);

struct Inner {
    store: Option<Store>,
    options: FetchOptions,
    observer: Arc<dyn FetchObserver>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    running: RunningFetches,
    promised_room: PromisedRoom,
    poison: Mutex<PoisonMemory>,
    fetch_permits: Arc<Semaphore>,
    pass_through_permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct NoObserver;

impl FetchObserver for NoObserver {}

// === impl Fetches ===

impl Fetches {
    /// Creates the fetches of a registry. Without a store, each client fetches its blobs alone, and none is stored.
    #[must_use]
    pub fn new(store: Option<Store>, options: FetchOptions) -> Self {
        let permits = |number: usize| Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner {
            store,
            observer: Arc::new(NoObserver),
            clock: Box::new(Instant::now),
            running: RunningFetches::default(),
            promised_room: PromisedRoom::default(),
            poison: Mutex::default(),
            fetch_permits: permits(options.max_fetches),
            pass_through_permits: permits(options.max_pass_through),
            options,
        }))
    }

    /// Has `observer` count. Call before the value is cloned.
    ///
    /// # Panics
    ///
    /// If clones exist.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn FetchObserver>) -> Self {
        let inner = Arc::into_inner(self.0).expect("the value has no clones yet");
        Self(Arc::new(Inner { observer, ..inner }))
    }

    /// Reads the time from `clock`, which a test moves.
    #[cfg(test)]
    pub(crate) fn with_clock(self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        let inner = Arc::into_inner(self.0).expect("the value has no clones yet");
        Self(Arc::new(Inner { clock: Box::new(clock), ..inner }))
    }

    /// Returns the number of fetches that run.
    #[must_use]
    pub fn running_fetches(&self) -> usize {
        self.0.running.len()
    }

    /// Opens a blob: begins its fetch, or joins the one that runs. Returns once the length is known; an empty blob is
    /// also verified then.
    pub async fn open(&self, request: Request) -> Result<Opened, FetchError> {
        let source: Arc<str> = request.source.name().into();
        loop {
            self.check_not_poisoned(&source, &request.digest)?;
            let Some(store) = self.store_for(&request) else { return self.pass_through(request).await };
            let Some((seat, is_new)) = self.0.running.join(&request, &source) else {
                return Ok(Opened::Unproven);
            };
            let fetch = seat.fetch.clone();
            if is_new {
                tokio::spawn(task::run(self.clone(), fetch.clone(), store, request.clone()));
            } else {
                self.0.observer.joined(&fetch.source);
            }
            let mut progress = fetch.progress.subscribe();
            let opened = progress.wait_for(Progress::is_opened).await.map(|opened| opened.clone());
            match opened.map_err(|_| FetchError::Interrupted)? {
                Progress::Stored(repository) if repository == request.repository => {
                    return Ok(Opened::Stored);
                }
                // The fetch of another repository or source says nothing about this one, and has ended.
                Progress::Stored(_) => {}
                Progress::Failed(_) if fetch.source != source => {}
                Progress::Failed(error) => return Err(error),
                Progress::Streaming(Streaming { staged, end: Some(End::Cut(error)), .. })
                    if staged.is_empty() =>
                {
                    return Err(error);
                }
                Progress::Streaming(streaming) => {
                    let length = streaming.staged.len();
                    let bytes = FetchedBytes::Staged { fetches: self.clone(), request, seat };
                    return Ok(Opened::Fetched(Fetched { length, bytes }));
                }
                Progress::Opening | Progress::Unstaged => return self.pass_through(request).await,
            }
        }
    }

    /// Returns the store, unless the blob is known to be too long for it.
    fn store_for(&self, request: &Request) -> Option<Store> {
        self.0
            .store
            .clone()
            .filter(|_| !request.length.is_some_and(|length| self.is_too_long(request, length)))
    }

    async fn pass_through(&self, request: Request) -> Result<Opened, FetchError> {
        let transfer = PassThrough::begin(self.clone(), request).await?;
        let length = transfer.length();
        Ok(Opened::Fetched(Fetched { length, bytes: FetchedBytes::PassThrough(Box::new(transfer)) }))
    }

    fn check_not_poisoned(&self, source: &Arc<str>, digest: &Digest) -> Result<(), FetchError> {
        let mut poison = self.0.poison.lock().unwrap_or_else(PoisonError::into_inner);
        if poison.contains(source, digest, (self.0.clock)()) {
            return Err(FetchError::Poisoned { name: source.clone() });
        }
        Ok(())
    }
}

impl Fetches {
    pub(crate) fn options(&self) -> &FetchOptions {
        &self.0.options
    }

    pub(crate) fn running(&self) -> &RunningFetches {
        &self.0.running
    }

    pub(crate) fn promised_room(&self) -> &PromisedRoom {
        &self.0.promised_room
    }

    /// Returns true if a blob of this length is not stored.
    pub(crate) fn is_too_long(&self, request: &Request, length: u64) -> bool {
        let limits = [self.0.options.max_stored_bytes, request.max_stored_bytes];
        limits.into_iter().flatten().any(|max| length > max)
    }

    /// Returns a wait for a permit to fetch a blob that is stored.
    pub(crate) fn fetch_permit(&self) -> impl Future<Output = OwnedSemaphorePermit> + Send + use<> {
        let permits = self.0.fetch_permits.clone();
        async move { permits.acquire_owned().await.expect("the semaphore is never closed") }
    }

    /// Waits for a permit to pass a blob through.
    pub(crate) async fn pass_through_permit(&self) -> Result<OwnedSemaphorePermit, FetchError> {
        let permit = self.0.pass_through_permits.clone().acquire_owned();
        let permit = timeout(self.0.options.answer_timeout, permit).await.map_err(|_| FetchError::Busy)?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    /// Returns the error of a fault. A source that lied is remembered.
    pub(crate) fn failed(
        &self,
        fault: Fault,
        request: &Request,
        source: &Arc<str>,
        reason: Option<SourceError>,
    ) -> FetchError {
        let digest = &request.digest;
        // A header that differs from a claimed length may be right, and the claim wrong: it fails this request alone.
        if let Fault::Lie(lie) = fault
            && lie != Lie::LengthHeader
        {
            if !request.source.is_one_place() {
                return exchange::error_of(fault, source, reason);
            }
            self.0.observer.poisoned(source, lie);
            tracing::warn!(%source, %digest, %lie, "source sent wrong content, not asked again for a minute");
            let mut poison = self.0.poison.lock().unwrap_or_else(PoisonError::into_inner);
            poison.note(source, digest, (self.0.clock)());
        }
        exchange::error_of(fault, source, reason)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetches").field("running", &self.running).finish_non_exhaustive()
    }
}

// === impl Fetched ===

impl Fetched {
    /// Returns the length of the blob in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Waits until the repository of the request has the blob in the store, and reads nothing of it. Fails if the blob
    /// is not fetched, or not stored.
    pub async fn stored(self) -> Result<(), FetchError> {
        match self.bytes {
            FetchedBytes::Staged { request, seat, .. } => {
                let mut publication = seat.fetch.publication.subscribe();
                let known = publication.wait_for(|known| known.result_of(&request.repository).is_some());
                let known = known.await.map_err(|_| FetchError::Interrupted)?;
                known.result_of(&request.repository).unwrap_or(Err(FetchError::Interrupted))
            }
            FetchedBytes::PassThrough(_) => Err(FetchError::Unstored),
        }
    }

    /// Reads a range of the blob, cut at its end. Each byte is given once it is there; the withheld ones once the hash
    /// holds.
    #[must_use]
    pub fn read(self, range: Range<u64>) -> Reader {
        let end = range.end.min(self.length);
        let range = range.start.min(end)..end;
        match self.bytes {
            FetchedBytes::Staged { fetches, request, seat } => {
                Reader::tail(Tail::new(fetches, request, seat, range))
            }
            FetchedBytes::PassThrough(transfer) => Reader::pass_through(transfer.reading(range)),
        }
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("length", &self.length).finish_non_exhaustive()
    }
}
