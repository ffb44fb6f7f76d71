//! Taking in the bodies of requests: in pieces that memory bears, and no slower than a client may be.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;
use quinistry_http::memory_budget::{MemoryBudget, Permit};
use tokio::time::{Instant, timeout_at};

use super::response::error::Error;
use crate::Options;
use crate::memory_budgets::UPLOADS;

/// Bytes that are gathered before they are written: a write for each packet would cost more than the packet.
const BATCH: usize = 128 * 1024;

/// Bytes that are gathered where there is no room for a whole batch.
const SMALL_BATCH: usize = 8 * 1024;

/// Shorter pieces are copied: each would keep the read buffer that it lies in, which is far longer.
const SHORT_PIECE: usize = 16 * 1024;

/// Window in which [`MIN_BYTES_IN_SHORT_WINDOW`] of a body must come whose room is nearly used up.
const SHORT_WINDOW: Duration = Duration::from_secs(2);

/// Bytes to come within [`SHORT_WINDOW`]: 32 KiB/s.
const MIN_BYTES_IN_SHORT_WINDOW: u64 = 64 * 1024;

/// Returns the declared `Content-Length`, if any.
pub(crate) fn length_of(request: &Parts) -> Option<u64> {
    request.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    body: &'a mut Body,
    window: Duration,
    /// What must come within a window.
    least: u64,
    /// When the window ends, and what has come within it.
    until: Instant,
    came: u64,
    /// The contended room that the body takes, the end of the shorter window, and the bytes that came in this
    /// window.
    tight: Option<(&'static MemoryBudget, Instant, u64)>,
}

/// A part of a body, gathered to be written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pieces: Vec<Bytes>,
    /// Short pieces that came last.
    tail: Vec<u8>,
    length: usize,
    share: Option<Permit>,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(body: &'a mut Body, options: &Options) -> Self {
        let least = u128::from(options.body_rate).saturating_mul(options.body.as_millis()) / 1000;
        Self {
            body,
            window: options.body,
            least: u64::try_from(least).unwrap_or(u64::MAX).max(1),
            until: Instant::now() + options.body,
            came: 0,
            tight: None,
        }
    }

    /// Has the body come faster from now on whenever less than a quarter of `room` is free.
    pub(crate) fn takes_room_of(&mut self, room: &'static MemoryBudget) {
        if self.tight.is_none_or(|(before, ..)| !std::ptr::eq(before, room)) {
            self.tight = Some((room, Instant::now() + SHORT_WINDOW, 0));
        }
    }

    /// Adds time in which the body was not read, as it waited for room, to what the client has.
    pub(crate) fn excuse(&mut self, waited: Duration) {
        self.until += waited;
        if let Some((_, until, _)) = &mut self.tight {
            *until += waited;
        }
    }

    /// Returns the next bytes, or none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let deadline = self.tight.map_or(self.until, |(_, until, _)| until.min(self.until));
            match timeout_at(deadline, self.body.frame()).await {
                Err(_) => self.at_deadline()?,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Error::CutOff),
                Ok(Some(Ok(frame))) => {
                    // What is no data is trailers, which nobody here asked for.
                    let Ok(data) = frame.into_data() else { continue };
                    self.came += data.len() as u64;
                    if let Some((_, _, came)) = &mut self.tight {
                        *came += data.len() as u64;
                    }
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Begins the next window, if enough came within the one that has ended.
    fn at_deadline(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if let Some((room, until, came)) = &mut self.tight
            && *until <= now
        {
            if *came < MIN_BYTES_IN_SHORT_WINDOW && room.is_nearly_exhausted() {
                return Err(Error::SlowBody);
            }
            (*until, *came) = (now + SHORT_WINDOW, 0);
        }
        if self.until <= now {
            if self.came < self.least {
                return Err(Error::SlowBody);
            }
            (self.until, self.came) = (now + self.window, 0);
        }
        Ok(())
    }

    /// Returns the next bytes, as many as it pays to write at once, or none at the end. Bytes that came
    /// before the body was cut off are given before the error.
    pub(crate) async fn batch(&mut self) -> (Batch, Result<(), Error>) {
        let mut batch = Batch::default();
        while batch.has_room() {
            match self.next().await {
                Ok(Some(data)) => batch.push(data),
                Ok(None) => break,
                Err(error) => return (batch, Err(error)),
            }
        }
        (batch, Ok(()))
    }
}

// === impl Batch ===

impl Batch {
    fn has_room(&mut self) -> bool {
        if self.length >= SMALL_BATCH && self.share.is_none() {
            self.share = UPLOADS.try_acquire(BATCH);
        }
        self.length < SMALL_BATCH || (self.share.is_some() && self.length < BATCH)
    }

    fn push(&mut self, data: Bytes) {
        self.length += data.len();
        if data.len() < SHORT_PIECE {
            self.tail.extend_from_slice(&data);
        } else {
            self.end_tail();
            self.pieces.push(data);
        }
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(std::mem::take(&mut self.tail).into());
        }
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.length as u64
    }

    /// Calls `write` for each piece, in order.
    pub(crate) fn try_for_each<E>(mut self, write: impl FnMut(Bytes) -> Result<(), E>) -> Result<(), E> {
        self.end_tail();
        // The share is held until all of them are written.
        std::mem::take(&mut self.pieces).into_iter().try_for_each(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pieces_do_not_keep_the_buffers_that_they_came_in() {
        let mut batch = Batch::default();
        let buffer = Bytes::from(vec![7; BATCH]);
        for _ in 0..100 {
            batch.push(buffer.slice(..120));
        }
        assert!(buffer.is_unique());
        assert_eq!(batch.len(), 12_000);
    }

    #[test]
    fn a_client_is_not_blamed_for_the_time_in_which_its_body_was_not_read() {
        static ROOM: MemoryBudget = MemoryBudget::new(4);
        let _all = ROOM.try_acquire(4).unwrap();
        let mut body = Body::empty();
        let mut intake = Intake::new(&mut body, &Options::default());
        intake.takes_room_of(&ROOM);
        let waited = Duration::from_hours(1);
        // As if that had passed.
        intake.until -= waited;
        intake.tight.as_mut().unwrap().1 -= waited;
        intake.excuse(waited);
        assert!(intake.at_deadline().is_ok());
        intake.tight.as_mut().unwrap().1 -= waited;
        assert!(intake.at_deadline().is_err());
    }

    #[test]
    fn a_batch_has_all_pieces_in_their_order() {
        let mut batch = Batch::default();
        let long = vec![b'l'; SHORT_PIECE];
        for piece in [&b"a"[..], b"b", &long, b"c", &long, &long, b"d"] {
            batch.push(Bytes::copy_from_slice(piece));
        }
        let mut all = Vec::new();
        batch
            .try_for_each(|piece| {
                all.extend_from_slice(&piece);
                Ok::<_, ()>(())
            })
            .unwrap();
        assert_eq!(all, [&b"ab"[..], &long, b"c", &long, &long, b"d"].concat());
    }

    #[tokio::test]
    async fn a_body_in_a_tight_room_must_come_faster() {
        static ROOM: MemoryBudget = MemoryBudget::new(100);
        let mut silent = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut intake = Intake::new(&mut silent, &Options::default());
        intake.takes_room_of(&ROOM);
        let past = Instant::now();
        intake.tight = Some((&ROOM, past, 0));
        intake.at_deadline().expect("there is room for all");
        let _all = ROOM.try_acquire(90).unwrap();
        intake.tight = Some((&ROOM, past, MIN_BYTES_IN_SHORT_WINDOW));
        intake.at_deadline().expect("it comes fast enough");
        intake.tight = Some((&ROOM, past, MIN_BYTES_IN_SHORT_WINDOW - 1));
        assert!(matches!(intake.at_deadline(), Err(Error::SlowBody)));
    }
}
