//! Taking in the bodies of requests: in pieces that memory bears, and no slower than a client may be.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::Options;
use super::error::Error;

/// So much is gathered before it is written: a write of its own for each packet would cost more than the packet.
const BATCH: usize = 128 * 1024;

/// So many pieces are gathered at most, however short they are.
const PIECES: usize = 256;

/// How long a body is that says so.
pub(super) fn length_of(request: &Parts) -> Option<u64> {
    request.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    body: &'a mut Body,
    window: Duration,
    /// What must come within a window.
    least: u64,
    /// When the window ends, and what has come within it.
    until: Instant,
    came: u64,
}

impl<'a> Intake<'a> {
    pub(super) fn new(body: &'a mut Body, options: &Options) -> Self {
        let least = u128::from(options.body_rate).saturating_mul(options.body.as_millis()) / 1000;
        Self {
            body,
            window: options.body,
            least: u64::try_from(least).unwrap_or(u64::MAX).max(1),
            until: Instant::now() + options.body,
            came: 0,
        }
    }

    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match timeout_at(self.until, self.body.frame()).await {
                Err(_) if self.came < self.least => return Err(Error::SlowBody),
                Err(_) => {
                    self.until = Instant::now() + self.window;
                    self.came = 0;
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Error::CutOff),
                Ok(Some(Ok(frame))) => {
                    // What is no data is trailers, which nobody here asked for.
                    let Ok(data) = frame.into_data() else { continue };
                    self.came += data.len() as u64;
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The next bytes, as many as it pays to write at once; none at the end. What came before the body was cut off is
    /// given before the error.
    pub(super) async fn batch(&mut self) -> (Vec<Bytes>, Result<(), Error>) {
        let mut batch = Vec::new();
        let mut length = 0;
        while length < BATCH && batch.len() < PIECES {
            match self.next().await {
                Ok(Some(data)) => {
                    length += data.len();
                    batch.push(data);
                }
                Ok(None) => break,
                Err(error) => return (batch, Err(error)),
            }
        }
        (batch, Ok(()))
    }
}
