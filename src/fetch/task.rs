//! The task of a fetch: asks the source, stages the bytes, tells the clients how far they may read, and stores the blob.
//!
//! The task belongs to no request, so that a client that leaves cuts off no other.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use quinistry_oci::{Content, RepositoryName};
use quinistry_store::{Store, StoreError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;
use tokio::time::timeout;

use crate::error::FetchError;
use crate::exchange::{self, Batch, BatchEnd, Reading};
use crate::fetches::{Fetches, Request};
use crate::policy;
use crate::progress::{End, Progress, Streaming};
use crate::promised_room::Promise;
use crate::running::Fetch;
use crate::source::{SourceError, Wanted};
use crate::staging::{Staging, StagingError, blocking};
use crate::transfer::{Action, Event, Fault, Transfer};

/// Bytes that are gathered before they are staged, if they are there without a wait.
const BATCH_BYTES: usize = 256 * 1024;

/// Ends of a fetch without a blob to store.
enum Outcome {
    /// The repository has the blob since the client has looked.
    Stored,
    /// Too long for the store.
    Unstaged,
    /// The staged bytes cannot grow.
    HandedOver,
    Failed(FetchError),
    /// No client waits for the rest, which is not worth fetching.
    Abandoned,
}

struct Task {
    fetches: Fetches,
    fetch: Arc<Fetch>,
    store: Store,
    request: Request,
    transfer: Transfer,
    /// Permit of the fetch. The publication counts, too: until its end, staged bytes lie twice in a bucket's registry.
    permit: Option<OwnedSemaphorePermit>,
    /// Room for the bytes that are not staged yet.
    promise: Option<Promise>,
    /// Reason for which the source has not answered.
    reason: Option<SourceError>,
}

/// Ends a fetch for its clients in any case, also if the task panics or is dropped with the runtime.
struct Guard {
    fetches: Fetches,
    fetch: Arc<Fetch>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.fetches.running().end(&self.fetch);
        self.fetch.progress.send_if_modified(|progress| {
            let is_open = !progress.is_final();
            if is_open {
                progress.fail(FetchError::Interrupted);
            }
            is_open
        });
        self.fetch.publication.send_if_modified(|publication| publication.end(FetchError::Interrupted));
    }
}

/// Carries out a fetch to its end.
pub(crate) async fn run(fetches: Fetches, fetch: Arc<Fetch>, store: Store, request: Request) {
    let _guard = Guard { fetches: fetches.clone(), fetch: fetch.clone() };
    let transfer = Transfer::new(request.digest.clone(), request.length);
    let mut task =
        Task { fetches, fetch, store, request, transfer, permit: None, promise: None, reason: None };
    match task.fetch().await {
        Ok((staging, staged)) => task.publish(staging, &staged).await,
        Err(outcome) => task.end(outcome),
    }
}

impl Task {
    /// Fetches the blob, and returns the staged bytes once they have the digest and clients may have them all.
    async fn fetch(&mut self) -> Result<(Staging, Content), Outcome> {
        let permit = self.fetches.fetch_permit();
        let permit = self.unless_abandoned(timeout(self.fetches.options().answer_timeout, permit)).await?;
        self.permit = Some(permit.map_err(|_| Outcome::Failed(FetchError::Busy))?);
        self.look_up().await?;
        let mut body: Option<Reading> = None;
        let mut staging: Option<(Staging, Content)> = None;
        let mut action = Transfer::first_step();
        loop {
            action = match action {
                Action::Ask { from, validator, is_first } => {
                    // Ends the connection of the answer that broke.
                    body = None;
                    let Request { digest, source, .. } = self.request.clone();
                    let wanted = Wanted { digest, length: self.transfer.length(), from, validator };
                    let asked = exchange::ask(&*source, wanted, is_first, self.fetches.options());
                    match self.unless_abandoned(asked).await? {
                        Ok((answer, bytes)) => {
                            body = Some(bytes);
                            self.transfer.on(&Event::Answered(&answer))
                        }
                        Err(reason) => {
                            self.reason = Some(reason);
                            self.transfer.on(&exchange::unanswered(is_first, self.fetches.options()))
                        }
                    }
                }
                Action::Read => {
                    let (writer, staged) = match staging.take() {
                        Some(begun) => begun,
                        None => self.begin_staging().await?,
                    };
                    let body = body.as_mut().ok_or(Outcome::HandedOver)?;
                    let (writer, next) = self.read(body, writer).await?;
                    staging = Some((writer, staged));
                    next
                }
                Action::Hash => {
                    let (writer, staged) = staging.take().ok_or(Outcome::HandedOver)?;
                    let (writer, is_right) = self.hash(writer).await?;
                    staging = Some((writer, staged));
                    self.transfer.on(&Event::Hashed(is_right))
                }
                Action::Release => {
                    let (writer, staged) = staging.take().ok_or(Outcome::HandedOver)?;
                    self.show(staged.len(), Some(End::Verified));
                    return Ok((writer, staged));
                }
                Action::Fail(fault) => return Err(self.failed(fault)),
            };
        }
    }

    /// Returns what `work` returns, unless the last client leaves before, and the rest is not worth fetching.
    async fn unless_abandoned<T>(&self, work: impl Future<Output = T>) -> Result<T, Outcome> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                // First, as a fast source would never let it be looked at.
                biased;
                () = self.fetch.left.notified() => {
                    if !self.transfer.goes_on_alone() && self.fetches.running().end_without_clients(&self.fetch) {
                        return Err(Outcome::Abandoned);
                    }
                }
                done = &mut work => return Ok(done),
            }
        }
    }

    /// Looks the blob up once more: an earlier fetch may have ended between a client's look-up and this fetch.
    async fn look_up(&self) -> Result<(), Outcome> {
        let (store, request) = (self.store.clone(), self.request.clone());
        let found = blocking(move || store.blob(&request.repository, &request.digest).map(drop)).await;
        match found.map_err(|_| Outcome::Failed(FetchError::Interrupted))? {
            Ok(()) => Err(Outcome::Stored),
            Err(StoreError::BlobUnknown | StoreError::RepositoryUnknown) => Ok(()),
            Err(error) => Err(Outcome::Failed(FetchError::Store(Arc::new(error)))),
        }
    }

    /// Begins to stage the blob, if it may be stored.
    async fn begin_staging(&mut self) -> Result<(Staging, Content), Outcome> {
        let length = self.transfer.length().ok_or(Outcome::Unstaged)?;
        let (store, digest) = (self.store.clone(), self.request.digest.clone());
        if self.fetches.is_too_long(&self.request, length) {
            return Err(Outcome::Unstaged);
        }
        let promised = self.fetches.promised_room().clone();
        let begun = blocking(move || {
            let space = store.known_space();
            let Some(promise) = promised.promise(length, |sum| policy::has_room(sum, space)) else {
                return Ok(None);
            };
            let (writer, staged) = Staging::begin(&store, &digest, length)?;
            Ok(Some((promise, writer, staged)))
        });
        let begun = begun.await.map_err(StagingError::from).and_then(|begun| begun);
        let begun =
            begun.inspect_err(|error| self.warn("cannot stage fetched blob, passing it through", error));
        let (promise, writer, staged) = begun.ok().flatten().ok_or(Outcome::Unstaged)?;
        self.promise = Some(promise);
        let streaming = Streaming { staged: staged.clone(), visible: 0, end: None };
        self.fetch.progress.send_replace(Progress::Streaming(streaming));
        Ok((writer, staged))
    }

    /// Reads a part of the answer, stages it, and shows it to the clients.
    async fn read(&mut self, body: &mut Reading, mut writer: Staging) -> Result<(Staging, Action), Outcome> {
        let read = exchange::read(body, BATCH_BYTES, self.fetches.options());
        let Batch { pieces, end } = self.unless_abandoned(read).await?;
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let known = self.transfer.receive(piece.len() as u64).map_err(|fault| self.failed(fault))?;
            // The beginning of a whole answer may be there already.
            parts.push(piece.slice(usize::try_from(known).unwrap_or(usize::MAX).min(piece.len())..));
        }
        if parts.iter().any(|part| !part.is_empty()) {
            let appended: usize = parts.iter().map(Bytes::len).sum();
            let append = move || parts.iter().try_for_each(|part| writer.append(part)).map(|()| writer);
            writer = self.staged(blocking(append).await)?;
            if let Some(promise) = &mut self.promise {
                promise.use_up(appended as u64);
            }
            self.show(self.transfer.unverified(), None);
        }
        let next = match end {
            BatchEnd::Open => Action::Read,
            BatchEnd::Ended => self.transfer.on(&Event::Ended),
            BatchEnd::Broken => self.transfer.on(&Event::Broken),
        };
        Ok((writer, next))
    }

    async fn hash(&self, mut writer: Staging) -> Result<(Staging, bool), Outcome> {
        let digest = self.request.digest.clone();
        let hashed = blocking(move || writer.has(&digest).map(|is_right| (writer, is_right))).await;
        self.staged(hashed)
    }

    /// Returns what was done with the staged bytes. If the storage has failed, each client goes on alone.
    fn staged<T>(&self, done: Result<Result<T, StagingError>, JoinError>) -> Result<T, Outcome> {
        done.map_err(StagingError::from).and_then(|done| done).map_err(|error| {
            self.warn("cannot stage fetched blob, passing the rest through", &error);
            Outcome::HandedOver
        })
    }

    /// Tells the clients how far they may read.
    fn show(&self, visible: u64, end: Option<End>) {
        self.fetch.progress.send_modify(|progress| {
            if let Progress::Streaming(streaming) = progress {
                (streaming.visible, streaming.end) = (visible, end);
            }
        });
    }

    fn failed(&mut self, fault: Fault) -> Outcome {
        let reason = self.reason.take();
        Outcome::Failed(self.fetches.failed(fault, &self.request, &self.fetch.source, reason))
    }

    /// Ends the fetch without a stored blob.
    fn end(&self, outcome: Outcome) {
        // Before clients are told, since some of them begin another fetch then.
        self.fetches.running().end(&self.fetch);
        let error = match &outcome {
            Outcome::Failed(error) => error.clone(),
            Outcome::Unstaged | Outcome::HandedOver => FetchError::Unstored,
            Outcome::Stored | Outcome::Abandoned => FetchError::Interrupted,
        };
        self.fetch.publication.send_if_modified(|publication| publication.end(error));
        self.fetch.progress.send_modify(|progress| match (outcome, progress) {
            (Outcome::Stored, progress) => *progress = Progress::Stored(self.request.repository.clone()),
            (Outcome::HandedOver, Progress::Streaming(streaming)) => {
                streaming.end = Some(End::HandedOver(Arc::new(self.transfer.clone())));
            }
            (Outcome::Unstaged | Outcome::HandedOver, progress) => *progress = Progress::Unstaged,
            (Outcome::Failed(error), progress) => progress.fail(error),
            // Without clients, so that none sees this.
            (Outcome::Abandoned, progress) => progress.fail(FetchError::Interrupted),
        });
    }

    /// Stores the blob, and makes it part of all repositories whose clients have asked. Clients read the staged bytes
    /// in any case.
    async fn publish(&self, staging: Staging, staged: &Content) {
        let running = self.fetches.running();
        let Some(first) = running.next_repository(&self.fetch, 0) else { return };
        if let Err(error) = self.commit(&first, staging, staged).await {
            self.warn("cannot store fetched blob, clients are served", &error);
            // Before clients are told, since some of them begin another fetch then.
            running.end(&self.fetch);
            let error = FetchError::Unpublished(Arc::new(error));
            self.fetch.publication.send_if_modified(|publication| publication.end(error));
            return;
        }
        self.note_published(first.clone(), Ok(()));
        let mut done = 1;
        while let Some(next) = running.next_repository(&self.fetch, done) {
            let mounted = self.mount(&first, &next).await;
            if let Err(error) = &mounted {
                self.warn("cannot link fetched blob in another repository, clients are served", error);
            }
            self.note_published(next, mounted.map_err(|error| FetchError::Unpublished(Arc::new(error))));
            done += 1;
        }
    }

    /// Makes the staged bytes a blob of a repository.
    async fn commit(
        &self,
        name: &RepositoryName,
        staging: Staging,
        staged: &Content,
    ) -> Result<(), StagingError> {
        let (store, name, digest) = (self.store.clone(), name.clone(), self.request.digest.clone());
        let mut receiver = staging.into_receiver(&store, &digest, staged).await?;
        Ok(blocking(move || store.commit(&name, &mut receiver, &digest)).await??)
    }

    async fn mount(&self, from: &RepositoryName, to: &RepositoryName) -> Result<(), StagingError> {
        let (store, digest) = (self.store.clone(), self.request.digest.clone());
        let (from, to) = (from.clone(), to.clone());
        let mounted = blocking(move || store.mount(&to, &digest, Some(&from))).await??;
        // A collection or a client may have removed the blob in between.
        Ok(mounted.map(drop).ok_or(StoreError::BlobUnknown)?)
    }

    fn note_published(&self, repository: RepositoryName, result: Result<(), FetchError>) {
        self.fetch.publication.send_modify(|publication| publication.note(repository, result));
    }

    fn warn(&self, message: &str, error: &StagingError) {
        let (digest, repository) = (&self.request.digest, &self.request.repository);
        tracing::warn!(error = %quinistry_oci::WithCauses(error), %digest, %repository, "{message}");
    }
}
