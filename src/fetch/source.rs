//! Sources: places that send content by its digest, such as an upstream registry, or a store of the same cluster.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use quinistry_oci::Digest;

/// Bytes of an answer, in order. An end says that the answer is complete; a transfer that was cut off ends in an error.
/// Pieces are in memory as a whole, and should be no longer than 64 KiB.
pub type Body = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Answer of a source, with its bytes.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<(Answer, Body), SourceError>> + Send + 'a>>;

/// Right to ask a source, for as long as it is kept.
pub type Turn = Box<dyn Send + Sync>;

/// Wait for the right to ask a source.
pub type TurnWait<'a> = Pin<Box<dyn Future<Output = Turn> + Send + 'a>>;

/// Place that sends content by its digest.
///
/// A source carries out one request for each call, without repetitions: the caller resumes what breaks. A future or a
/// body that is dropped ends the request. The caller hashes the bytes, and bounds each wait by a deadline, so that a
/// source may lie or be silent.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the source, without credentials: in the log, and to remember which source has sent wrong
    /// content. Sources of one name are the same place.
    fn name(&self) -> &str;

    /// Waits until the source can be asked: one that has few connections gives them in turn. The caller keeps the turn to
    /// the end of the transfer. The wait says nothing about the source, and has no deadline.
    fn turn(&self) -> TurnWait<'_> {
        Box::pin(std::future::ready(Box::new(()) as Turn))
    }

    /// Asks for content from an offset to its end.
    fn open(&self, wanted: Wanted) -> Answered<'_>;

    /// Returns true if wrong content is remembered against the name: the source is one place, which has sent
    /// all of it. A source of several places remembers by itself which of them may have lied.
    fn is_one_place(&self) -> bool {
        true
    }
}

/// Content that a source is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Digest of the whole content.
    pub digest: Digest,
    /// Length of the whole content in bytes, if it is known.
    pub length: Option<u64>,
    /// Offset of the first byte that is needed; 0 asks for everything, without a `Range`.
    pub from: u64,
    /// State of the content at the source for `If-Range` (RFC 9110, 13.1.5), given with every offset but 0. A source
    /// that would now ask another target asks for everything instead.
    pub validator: Option<Validator>,
}

/// Head of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Offset of the first byte that follows: 0 of a whole answer (200), else that of `Content-Range` (206).
    pub from: u64,
    /// Length of the whole content in bytes, by `Content-Length` (200) or `Content-Range` (206), if the source says it.
    pub length: Option<u64>,
    /// Digest of the whole content, if the source says one (`Docker-Content-Digest`).
    pub digest: Option<Digest>,
    /// State of the content at the source, if a transfer can be resumed there.
    pub validator: Option<Validator>,
    /// The bytes have a `Content-Encoding`, though none was asked for.
    pub is_encoded: bool,
}

/// State of the content at one target: two answers with equal validators are parts of the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    target: Box<str>,
    etag: Box<str>,
}

/// Reasons why a source does not send content.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source does not have the content, or does not show it.
    #[error("the source does not have the content")]
    NotFound,
    /// The source has too many requests at this moment, and takes some again soon (429 of a peer).
    #[error("the source is busy")]
    Busy,
    /// The source answers no more requests for some time (429).
    #[error("the source limits requests")]
    Limited {
        /// Time after which the source can be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// The source wants other credentials than this registry has, or denies what they may have (401, 403).
    #[error("the source refuses this registry")]
    Refused,
    /// The source has sent what is no answer of a registry to this question.
    #[error("the source sent no answer of a registry: {0}")]
    Invalid(String),
    /// The source is a cache, and the request has passed too many of them (508).
    #[error("the request has passed too many caches")]
    Circular,
    /// The source has not answered in time.
    #[error("the source has not answered in time")]
    Silent,
    /// The source cannot be reached, or answers with an error.
    #[error("failed to ask the source")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

// === impl Validator ===

impl Validator {
    /// Creates the validator of an answer by `target`, the place that was asked after all redirects; `None` if the
    /// entity tag is weak, as such a tag does not mean equal bytes (RFC 9110, 8.8.1).
    #[must_use]
    pub fn new(target: &str, etag: &str) -> Option<Self> {
        let is_strong = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"');
        is_strong.then(|| Self { target: target.into(), etag: etag.into() })
    }

    /// Returns the place that has answered.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the entity tag, in its quotes.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_and_malformed_tags_validate_nothing() {
        assert_eq!(Validator::new("a", "\"x\"").unwrap().etag(), "\"x\"");
        for etag in ["W/\"x\"", "x", "\"", ""] {
            assert_eq!(Validator::new("a", etag), None, "{etag}");
        }
    }
}
