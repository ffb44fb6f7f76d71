//! Bodies of answers: whole ones within a limit, and streams of short pieces.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use quinistry_client::Cause;
use quinistry_fetch::{Body, SourceError};
use reqwest::Response;

use crate::answer::invalid;
use crate::error::AskError;
use crate::transport::host_of;

/// Length of the longest piece of a stream.
const MAX_PIECE_BYTES: usize = 64 * 1024;

/// Longest body that is parsed on the event loop, in bytes.
const MAX_INLINE_PARSE_BYTES: usize = 16 * 1024;

/// Answer that is streamed.
struct Streamed {
    response: Response,
    /// Bytes that were received, and not given yet.
    pending: Bytes,
    /// Number of bytes behind which the answer ends before the content does.
    left_of_part: Option<u64>,
    has_ended: bool,
}

/// Reads a whole body. Fails if it is longer than `limit`.
pub(crate) async fn read(mut response: Response, limit: u64) -> Result<Bytes, SourceError> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) if (body.len() + piece.len()) as u64 > limit => {
                return Err(invalid(format!("an answer of more than {limit} bytes")));
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => {
                let (host, source) = (host_of(response.url()), Cause::of(&error));
                return Err(SourceError::Unavailable(Box::new(AskError::Connect { host, source })));
            }
        }
    }
}

/// Parses a body; a long one on a thread that may block, since megabytes of JSON take a while.
pub(crate) async fn parse<T: Send + 'static>(
    body: Bytes,
    parse: impl FnOnce(&[u8]) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    if body.len() <= MAX_INLINE_PARSE_BYTES {
        return parse(&body);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
    parsed.unwrap_or_else(|_| Err(invalid("a body that cannot be parsed")))
}

/// Returns the body as a stream. `part` is the number of bytes behind which the answer
/// ends before the content does, so that its end is that of a transfer which was cut off.
pub(crate) fn stream(response: Response, part: Option<u64>) -> Body {
    let state = Streamed { response, pending: Bytes::new(), left_of_part: part, has_ended: false };
    Box::pin(stream::unfold(state, async |mut state| state.next().await.map(|piece| (piece, state))))
}

// === impl Streamed ===

impl Streamed {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.pending.is_empty() {
            if self.has_ended {
                return None;
            }
            match self.response.chunk().await {
                Ok(Some(piece)) => self.pending = piece,
                Ok(None) => {
                    self.has_ended = true;
                    let is_cut = self.left_of_part.is_some();
                    let cut =
                        || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is a part of the rest");
                    return is_cut.then(|| Err(cut()));
                }
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(io::Error::other(Cause::of(&error))));
                }
            }
        }
        let length = self.pending.len().min(MAX_PIECE_BYTES);
        Some(Ok(self.pending.split_to(length)))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn long_bodies_are_parsed_beside_the_event_loop() {
        let event_loop = thread::current().id();
        let is_inline = |body: &[u8]| Ok((thread::current().id(), body.len()));
        for (length, stays) in [(MAX_INLINE_PARSE_BYTES, true), (MAX_INLINE_PARSE_BYTES + 1, false)] {
            let (thread, seen) = parse(vec![0; length].into(), is_inline).await.unwrap();
            assert_eq!((thread == event_loop, seen), (stays, length));
        }
    }
}
