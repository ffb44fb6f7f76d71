//! Bodies of uploads, received in batches: while one is written and hashed, the next one is read.

use quinistry_store::{Claimed, Receiver, RoomFuture, Session, StoreError};
use tokio::time::Instant;

use crate::api::request_body::{Batch, RequestBody};
use crate::api::response::error::Error;
use crate::run_blocking;

/// Receives a body to its end, or until the session is cancelled. While one batch is written and hashed, the
/// next one is read. Always returns the receiver with the bytes that it has; if the client leaves, the
/// receiver stays with its session.
pub(super) async fn receive_body<R>(
    request_body: &mut RequestBody<'_>,
    mut receiver: R,
    session: Option<&Session>,
    expected: Option<u64>,
) -> (R, Result<(), Error>)
where
    R: AppendBytes + Send + 'static,
{
    let start = receiver.length();
    let mut next = next_batch(request_body, session).await;
    loop {
        let (batch, end) = std::mem::replace(&mut next, (Batch::default(), Ok(())));
        if batch.len() == 0 {
            let total = receiver.length() - start;
            let end = match expected {
                Some(expected) if end.is_ok() && total != expected => {
                    Err(Error::LengthMismatch { expected, received: total })
                }
                _ => end,
            };
            return (receiver, end);
        }
        let length = batch.len();
        let total = receiver.length() - start + length;
        if let Some(expected) = expected.filter(|expected| total > *expected) {
            return (receiver, Err(Error::LengthMismatch { expected, received: total }));
        }
        if let Some(room) = receiver.room(batch.len()) {
            let begun = Instant::now();
            let is_there =
                with_cancellation(session, async { Ok(room.await.map_err(StoreError::from)?) }).await;
            request_body.extend_deadlines(begun.elapsed());
            if let Err(error) = is_there {
                return (receiver, Err(error));
            }
        }
        let write = run_blocking(move || {
            let written = batch.try_for_each(|data| receiver.append(&data));
            (receiver, written)
        });
        let written;
        if end.is_ok() {
            let read = next_batch(request_body, session);
            ((receiver, written), next) = futures_util::future::join(write, read).await;
        } else {
            (receiver, written) = write.await;
            next = (Batch::default(), end);
        }
        if let Err(error) = written {
            return (receiver, Err(error.into()));
        }
    }
}

/// Reads the next batch of a body, unless the session is cancelled.
async fn next_batch(
    request_body: &mut RequestBody<'_>,
    session: Option<&Session>,
) -> (Batch, Result<(), Error>) {
    let Some(session) = session else { return request_body.batch().await };
    tokio::select! {
        batch = request_body.batch() => batch,
        () = session.cancelled() => (Batch::default(), Err(StoreError::UploadUnknown.into())),
    }
}

/// Waits, unless the session is cancelled.
async fn with_cancellation(
    session: Option<&Session>,
    wait: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let Some(session) = session else { return wait.await };
    tokio::select! {
        waited = wait => waited,
        () = session.cancelled() => Err(StoreError::UploadUnknown.into()),
    }
}

/// Receiver of bytes: one without a session, or that of a session.
pub(super) trait AppendBytes {
    fn length(&self) -> u64;
    /// Returns a wait for the memory that the next bytes take, if there is no room.
    fn room(&mut self, bytes: u64) -> Option<RoomFuture>;
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl AppendBytes for Option<Receiver> {
    fn length(&self) -> u64 {
        self.as_ref().map_or(0, Receiver::len)
    }

    fn room(&mut self, bytes: u64) -> Option<RoomFuture> {
        self.as_mut()?.room(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.as_mut().ok_or(StoreError::UploadUnknown)?.append(bytes)
    }
}

impl AppendBytes for Claimed {
    fn length(&self) -> u64 {
        self.receiver().map_or(0, Receiver::len)
    }

    fn room(&mut self, bytes: u64) -> Option<RoomFuture> {
        self.receiver_mut()?.room(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.receiver_mut().ok_or(StoreError::UploadUnknown)?.append(bytes)
    }
}
