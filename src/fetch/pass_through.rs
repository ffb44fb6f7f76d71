//! A blob that one client fetches for itself, because it is not stored. The end is withheld in memory, and the source is
//! read as fast as the client reads.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use quinistry_oci::{Content, Hasher};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::FetchError;
use crate::exchange::{self, Batch, BatchEnd, Reading};
use crate::fetches::{Fetches, Request};
use crate::policy::unverified_limit;
use crate::reader::READ_BYTES;
use crate::source::{SourceError, Wanted};
use crate::staging::blocking;
use crate::transfer::{Action, Event, Transfer};

/// Transfer for one client, with the bytes that the client may not have yet: at most the withheld ones and a piece of
/// the source.
pub(crate) struct PassThrough {
    fetches: Fetches,
    request: Request,
    name: Arc<str>,
    transfer: Transfer,
    action: Action,
    /// The hash holds.
    is_verified: bool,
    body: Option<Reading>,
    reason: Option<SourceError>,
    hasher: Hasher,
    held: BytesMut,
    /// Offset of the first held byte.
    held_from: u64,
    /// Bytes that the client still wants.
    range: Range<u64>,
    /// End of the bytes of the range that the client may have before the hash holds, as far as the range has a say.
    unverified_end: u64,
    _permit: OwnedSemaphorePermit,
}

impl PassThrough {
    /// Begins a transfer, and waits for its length.
    pub(crate) async fn begin(fetches: Fetches, request: Request) -> Result<Self, FetchError> {
        let transfer = Transfer::new(request.digest.clone(), request.length);
        let first = Transfer::first_step();
        let hasher = Hasher::new(request.digest.algorithm());
        let mut new = Self::new(fetches, request, (transfer, first), hasher, 0).await?;
        // The answer to an empty blob is complete with its headers, so that it waits for the hash.
        while !new.is_verified && (new.action != Action::Read || new.length() == 0) {
            new.step().await?;
        }
        Ok(new)
    }

    /// Goes on behind the `visible` staged bytes of a fetch that cannot, for the bytes of `range`.
    pub(crate) async fn go_on(
        fetches: Fetches,
        request: Request,
        transfer: &Transfer,
        staged: &Content,
        visible: u64,
        range: Range<u64>,
    ) -> Result<Self, FetchError> {
        let chunks = staged.slice(0..visible).chunks();
        let mut hasher = Hasher::new(request.digest.algorithm());
        let hash = move || {
            for chunk in chunks {
                hasher.update(&chunk?);
            }
            Ok::<_, std::io::Error>(hasher)
        };
        let done = blocking(hash).await.map_err(|_| FetchError::Interrupted)?;
        let hasher = done.map_err(|error| FetchError::Staged(Arc::new(error)))?;
        let continued = transfer.continued_from(visible);
        Ok(Self::new(fetches, request, continued, hasher, visible).await?.reading(range))
    }

    async fn new(
        fetches: Fetches,
        request: Request,
        (transfer, first): (Transfer, Action),
        hasher: Hasher,
        held_from: u64,
    ) -> Result<Self, FetchError> {
        let permit = fetches.pass_through_permit().await?;
        let name = Arc::from(request.source.name());
        Ok(Self {
            fetches,
            request,
            name,
            transfer,
            action: first,
            is_verified: false,
            body: None,
            reason: None,
            hasher,
            held: BytesMut::new(),
            held_from,
            range: 0..0,
            unverified_end: 0,
            _permit: permit,
        })
    }

    /// Returns the length of the blob in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.transfer.length().unwrap_or_default()
    }

    /// Sets the bytes that the client wants. Call once.
    pub(crate) fn reading(mut self, range: Range<u64>) -> Self {
        let length = range.end.saturating_sub(range.start);
        let withheld =
            if self.fetches.options().verifies_ranges { length - unverified_limit(length) } else { 0 };
        self.unverified_end = range.end - withheld.min(range.end);
        self.range = range;
        self
    }

    /// Returns the next bytes; `None` after the last one that the client wants.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        while self.range.start < self.range.end {
            let unverified = self.transfer.unverified().min(self.unverified_end);
            let visible = if self.is_verified { self.length() } else { unverified };
            self.skip(self.range.start.min(visible));
            if self.range.start < visible {
                let wanted = (visible.min(self.range.end) - self.range.start).min(READ_BYTES as u64);
                let wanted = usize::try_from(wanted).unwrap_or(READ_BYTES).min(self.held.len());
                let bytes = self.held.split_to(wanted).freeze();
                self.held_from += bytes.len() as u64;
                self.range.start += bytes.len() as u64;
                return Some(Ok(bytes));
            }
            if let Err(error) = self.step().await {
                return Some(Err(error));
            }
        }
        None
    }

    /// Drops the held bytes before an offset.
    fn skip(&mut self, to: u64) {
        let bytes = usize::try_from(to.saturating_sub(self.held_from)).unwrap_or(usize::MAX);
        let bytes = bytes.min(self.held.len());
        self.held.advance(bytes);
        self.held_from += bytes as u64;
    }

    /// Carries out the next step. Dropping the future repeats the step.
    async fn step(&mut self) -> Result<(), FetchError> {
        self.action = match self.action.clone() {
            Action::Ask { from, validator, is_first } => {
                let Request { digest, source, .. } = self.request.clone();
                let wanted = Wanted { digest, length: self.transfer.length(), from, validator };
                // Ends the connection of the answer that broke.
                self.body = None;
                match exchange::ask(&*source, wanted, is_first, self.fetches.options()).await {
                    Ok((answer, body)) => {
                        self.body = Some(body);
                        self.transfer.on(&Event::Answered(&answer))
                    }
                    Err(reason) => {
                        self.reason = Some(reason);
                        self.transfer.on(&exchange::unanswered(is_first, self.fetches.options()))
                    }
                }
            }
            Action::Read => self.read().await?,
            Action::Hash => {
                let is_right = self.hasher.clone().finish() == self.request.digest;
                self.transfer.on(&Event::Hashed(is_right))
            }
            // A client that has all bytes of a verified blob takes no further step.
            Action::Release if self.is_verified => return Err(FetchError::Interrupted),
            Action::Release => {
                self.is_verified = true;
                Action::Release
            }
            Action::Fail(fault) => {
                let reason = self.reason.take();
                return Err(self.fetches.failed(fault, &self.request, &self.name, reason));
            }
        };
        Ok(())
    }

    async fn read(&mut self) -> Result<Action, FetchError> {
        let body = self.body.as_mut().ok_or(FetchError::Interrupted)?;
        let Batch { pieces, end } = exchange::read(body, READ_BYTES, self.fetches.options()).await;
        for piece in pieces {
            let at = self.transfer.received();
            match self.transfer.receive(piece.len() as u64) {
                Ok(known) => {
                    let part = &piece[usize::try_from(known).unwrap_or(usize::MAX).min(piece.len())..];
                    self.hasher.update(part);
                    // What is behind the range is only hashed.
                    let left = usize::try_from(self.range.end.saturating_sub(at)).unwrap_or(usize::MAX);
                    self.held.extend_from_slice(&part[..left.min(part.len())]);
                }
                Err(fault) => return Ok(Action::Fail(fault)),
            }
        }
        Ok(match end {
            BatchEnd::Open => Action::Read,
            BatchEnd::Ended => self.transfer.on(&Event::Ended),
            BatchEnd::Broken => self.transfer.on(&Event::Broken),
        })
    }
}
