//! Bodies of requests: received in batches within the memory budgets, and not below the minimum rate.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;
use quinistry_http::memory_budget::{MemoryBudget, Permit};
use tokio::time::{Instant, timeout_at};

use super::response::error::Error;
use crate::Settings;
use crate::memory_budgets::UPLOAD_BATCHES;

/// Bytes that are gathered before they are written: a write for each packet would cost more than the packet.
const MAX_BATCH_BYTES: usize = 128 * 1024;

/// Bytes that are gathered if the budget does not permit a whole batch.
const UNBUDGETED_BATCH_BYTES: usize = 8 * 1024;

/// Shortest piece that is not copied, in bytes. A shorter one would keep a far longer read buffer in memory.
const MIN_SHARED_PIECE_BYTES: usize = 16 * 1024;

/// Window in which [`MIN_BYTES_IN_SHORT_WINDOW`] of a body must be received while its budget is nearly
/// exhausted.
const SHORT_WINDOW: Duration = Duration::from_secs(2);

/// Bytes of a body that must be received within [`SHORT_WINDOW`]: 32 KiB/s.
const MIN_BYTES_IN_SHORT_WINDOW: u64 = 64 * 1024;

/// Returns the declared `Content-Length`, if any.
pub(crate) fn content_length(request: &Parts) -> Option<u64> {
    request.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Body that is being received.
#[derive(Debug)]
pub(crate) struct RequestBody<'a> {
    body: &'a mut Body,
    window: Duration,
    /// Bytes that must be received within a window.
    min_window_bytes: u64,
    window_end: Instant,
    /// Bytes received within the current window.
    window_bytes: u64,
    /// Shorter window, for a body in a memory budget.
    budget_window: Option<BudgetWindow>,
}

/// Window in which a body must progress while a memory budget that it uses is nearly exhausted.
#[derive(Clone, Copy, Debug)]
struct BudgetWindow {
    budgets: &'static [&'static MemoryBudget],
    end: Instant,
    /// Bytes received within the window.
    bytes: u64,
}

/// Part of a body, gathered to be written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pieces: Vec<Bytes>,
    /// Copies of the short pieces at the end.
    tail: Vec<u8>,
    length: usize,
    permit: Option<Permit>,
}

impl<'a> RequestBody<'a> {
    pub(crate) fn new(body: &'a mut Body, settings: &Settings) -> Self {
        let min_window_bytes =
            u128::from(settings.body_rate).saturating_mul(settings.body.as_millis()) / 1000;
        Self {
            body,
            window: settings.body,
            min_window_bytes: u64::try_from(min_window_bytes).unwrap_or(u64::MAX).max(1),
            window_end: Instant::now() + settings.body,
            window_bytes: 0,
            budget_window: None,
        }
    }

    /// Requires a higher rate from now on whenever one of `budgets` is nearly exhausted.
    pub(crate) fn uses_budgets(&mut self, budgets: &'static [&'static MemoryBudget]) {
        let start = BudgetWindow { budgets, end: Instant::now() + SHORT_WINDOW, bytes: 0 };
        self.budget_window.get_or_insert(start).budgets = budgets;
    }

    /// Extends the client's deadlines by time in which the body was not read, because it waited for a permit.
    pub(crate) fn extend_deadlines(&mut self, waited: Duration) {
        self.window_end += waited;
        if let Some(window) = &mut self.budget_window {
            window.end += waited;
        }
    }

    /// Returns the next bytes, or `None` at the end of the body.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let deadline =
                self.budget_window.map_or(self.window_end, |window| window.end.min(self.window_end));
            match timeout_at(deadline, self.body.frame()).await {
                Err(_) => self.check_progress()?,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Error::BodyTruncated),
                Ok(Some(Ok(frame))) => {
                    // Every other frame is trailers, which the registry does not use.
                    let Ok(data) = frame.into_data() else { continue };
                    self.window_bytes += data.len() as u64;
                    if let Some(window) = &mut self.budget_window {
                        window.bytes += data.len() as u64;
                    }
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Starts the next window if enough bytes were received within the one that has ended; else fails.
    fn check_progress(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if let Some(window) = &mut self.budget_window
            && window.end <= now
        {
            let is_exhausted = || window.budgets.iter().any(|budget| budget.is_nearly_exhausted());
            if window.bytes < MIN_BYTES_IN_SHORT_WINDOW && is_exhausted() {
                return Err(Error::SlowBody);
            }
            (window.end, window.bytes) = (now + SHORT_WINDOW, 0);
        }
        if self.window_end <= now {
            if self.window_bytes < self.min_window_bytes {
                return Err(Error::SlowBody);
            }
            (self.window_end, self.window_bytes) = (now + self.window, 0);
        }
        Ok(())
    }

    /// Returns the next batch, which is empty at the end of the body. Bytes that were received before the
    /// body was cut off are returned together with the error.
    pub(crate) async fn batch(&mut self) -> (Batch, Result<(), Error>) {
        let mut batch = Batch::default();
        while batch.accepts_more() {
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
    fn accepts_more(&mut self) -> bool {
        if self.length >= UNBUDGETED_BATCH_BYTES && self.permit.is_none() {
            self.permit = UPLOAD_BATCHES.try_acquire(MAX_BATCH_BYTES);
        }
        self.length < UNBUDGETED_BATCH_BYTES || (self.permit.is_some() && self.length < MAX_BATCH_BYTES)
    }

    fn push(&mut self, data: Bytes) {
        self.length += data.len();
        if data.len() < MIN_SHARED_PIECE_BYTES {
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
        // The permit is held until all pieces are written.
        std::mem::take(&mut self.pieces).into_iter().try_for_each(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pieces_do_not_keep_their_read_buffers() {
        let mut batch = Batch::default();
        let buffer = Bytes::from(vec![7; MAX_BATCH_BYTES]);
        for _ in 0..100 {
            batch.push(buffer.slice(..120));
        }
        assert!(buffer.is_unique());
        assert_eq!(batch.len(), 12_000);
    }

    #[test]
    fn time_in_which_the_body_was_not_read_does_not_count() {
        static BUDGET: MemoryBudget = MemoryBudget::new(4);
        static BUDGETS: [&MemoryBudget; 1] = [&BUDGET];
        let _all = BUDGET.try_acquire(4).unwrap();
        let mut body = Body::empty();
        let mut request_body = RequestBody::new(&mut body, &Settings::default());
        request_body.uses_budgets(&BUDGETS);
        let waited = Duration::from_hours(1);
        // Simulates that this time has passed.
        request_body.window_end -= waited;
        request_body.budget_window.as_mut().unwrap().end -= waited;
        request_body.extend_deadlines(waited);
        assert!(request_body.check_progress().is_ok());
        request_body.budget_window.as_mut().unwrap().end -= waited;
        assert!(request_body.check_progress().is_err());
    }

    #[test]
    fn a_batch_has_all_pieces_in_order() {
        let mut batch = Batch::default();
        let long = vec![b'l'; MIN_SHARED_PIECE_BYTES];
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
    async fn a_body_must_progress_while_one_of_its_budgets_is_nearly_exhausted() {
        static BUDGET: MemoryBudget = MemoryBudget::new(100);
        static FREE: MemoryBudget = MemoryBudget::new(100);
        static BUDGETS: [&MemoryBudget; 2] = [&FREE, &BUDGET];
        let mut silent = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut request_body = RequestBody::new(&mut silent, &Settings::default());
        request_body.uses_budgets(&BUDGETS);
        let past = Instant::now();
        let window = |bytes| Some(BudgetWindow { budgets: &BUDGETS, end: past, bytes });
        request_body.budget_window = window(0);
        request_body.check_progress().expect("the budget is free");
        let _all = BUDGET.try_acquire(90).unwrap();
        request_body.budget_window = window(MIN_BYTES_IN_SHORT_WINDOW);
        request_body.check_progress().expect("the rate is high enough");
        request_body.budget_window = window(MIN_BYTES_IN_SHORT_WINDOW - 1);
        assert!(matches!(request_body.check_progress(), Err(Error::SlowBody)));
    }
}
