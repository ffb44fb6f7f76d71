//! Pace of the bodies of requests. A body that hardly moves is given up within a minute, while the deadline of a long
//! one is that of the slowest link.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

/// Greatest length of the pieces in which the connection takes a body, in bytes. Bodies of one piece have no pace.
const PIECE_BYTES: usize = 64 * 1024;

/// Period over which the rate is measured.
const PERIOD: Duration = Duration::from_secs(30);

/// Fewest bytes of a period: 16 KiB per second.
const MIN_BYTES_PER_PERIOD: u64 = 30 * 16 * 1024;

/// Time for the answer after the last byte was taken. The connection then holds some megabytes that are not sent yet.
const ANSWER_TIME: Duration = Duration::from_mins(1);

/// Body that counts the bytes that the connection takes.
struct PacedBody {
    body: reqwest::Body,
    /// Rest of a piece of `body`.
    rest: Bytes,
    taken: Arc<AtomicU64>,
}

/// Pace of a body.
#[derive(Debug)]
pub(super) struct Pace {
    length: u64,
    taken: Arc<AtomicU64>,
    /// Bytes that were taken at the end of the last period.
    before: u64,
}

// === impl Pace ===

impl Pace {
    /// Measures the pace of a body, if it is long enough to have one.
    pub(super) fn of(body: reqwest::Body) -> (reqwest::Body, Option<Self>) {
        let Some(length) = body.size_hint().exact().filter(|length| *length > PIECE_BYTES as u64) else {
            return (body, None);
        };
        let taken = Arc::<AtomicU64>::default();
        let pace = Self { length, taken: taken.clone(), before: 0 };
        (reqwest::Body::wrap(PacedBody { body, rest: Bytes::new(), taken }), Some(pace))
    }

    /// Waits for the answer to the request whose body this is; the error is the reason to give the request up.
    pub(super) async fn keep<T>(mut self, request: impl Future<Output = T>) -> Result<T, &'static str> {
        let mut request = std::pin::pin!(request);
        loop {
            let period = if self.is_taken() { ANSWER_TIME } else { PERIOD };
            if let Ok(answer) = tokio::time::timeout(period, &mut request).await {
                return Ok(answer);
            }
            self.check()?;
        }
    }

    fn is_taken(&self) -> bool {
        self.before >= self.length
    }

    /// Ends a period.
    fn check(&mut self) -> Result<(), &'static str> {
        if self.is_taken() {
            return Err("no answer within a minute");
        }
        let before = std::mem::replace(&mut self.before, self.taken.load(Ordering::Relaxed));
        if !self.is_taken() && self.before - before < MIN_BYTES_PER_PERIOD {
            return Err("fewer than 16 KiB per second were taken over 30 seconds");
        }
        Ok(())
    }
}

impl http_body::Body for PacedBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.rest = piece,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.taken.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// The length is known, so that the request has a `Content-Length`, which stores demand.
    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        self.body.size_hint().exact().map_or_else(SizeHint::default, |body| SizeHint::with_exact(rest + body))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn pace() -> (reqwest::Body, Pace) {
        let (body, pace) = Pace::of(vec![7; 2 * 1024 * 1024].into());
        (body, pace.unwrap())
    }

    #[test]
    fn a_short_body_has_no_pace() {
        assert!(Pace::of(vec![7; PIECE_BYTES].into()).1.is_none());
        assert!(Pace::of(Bytes::new().into()).1.is_none());
    }

    #[tokio::test]
    async fn a_body_is_taken_in_pieces_and_keeps_its_length() {
        let (mut body, pace) = pace();
        assert_eq!(body.size_hint().exact(), Some(2 * MIB));
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((piece.len(), pace.taken.load(Ordering::Relaxed)), (PIECE_BYTES, PIECE_BYTES as u64));
        assert_eq!(body.size_hint().exact(), Some(2 * MIB - PIECE_BYTES as u64));
        assert!(!body.is_end_stream());
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, vec![7; 2 * 1024 * 1024 - PIECE_BYTES]);
        assert_eq!(pace.taken.load(Ordering::Relaxed), 2 * MIB);
    }

    #[test]
    fn a_body_that_hardly_moves_is_given_up() {
        let (_body, mut pace) = pace();
        pace.taken.store(MIB, Ordering::Relaxed);
        pace.check().unwrap();
        pace.taken.store(MIB + MIN_BYTES_PER_PERIOD, Ordering::Relaxed);
        pace.check().unwrap();
        pace.taken.store(MIB + MIN_BYTES_PER_PERIOD + 1, Ordering::Relaxed);
        pace.check().unwrap_err();
    }

    #[test]
    fn an_answer_has_a_minute_after_the_last_byte() {
        let (_body, mut pace) = pace();
        pace.taken.store(2 * MIB, Ordering::Relaxed);
        pace.check().unwrap();
        assert!(pace.is_taken());
        pace.check().unwrap_err();
    }

    #[tokio::test]
    async fn an_answer_that_comes_is_that_of_the_request() {
        let (_body, pace) = pace();
        assert_eq!(pace.keep(std::future::ready(3)).await, Ok(3));
    }
}
