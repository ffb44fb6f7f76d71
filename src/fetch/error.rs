//! Errors of fetches. All clients of a fetch get the same one, so that they can be cloned.

use std::fmt;
use std::io;
use std::sync::Arc;

use quinistry_store::StoreError;

use crate::source::SourceError;

/// Reasons why a blob is not sent, or not sent to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The source has given no content.
    #[error("failed to fetch blob from {name}")]
    Source {
        /// Name of the source.
        name: Arc<str>,
        /// Reason of the source.
        #[source]
        reason: Arc<SourceError>,
    },
    /// The source has sent other content than its digest says.
    #[error("{name} sent wrong content: {lie}")]
    Lie {
        /// Name of the source.
        name: Arc<str>,
        /// Difference that was found.
        lie: Lie,
    },
    /// The source has sent wrong content a moment ago, and is not asked again yet.
    #[error("{name} sent wrong content for this digest within the last minute, and is not asked again yet")]
    Poisoned {
        /// Name of the source.
        name: Arc<str>,
    },
    /// Neither the client nor the source knows the length, without which no end can be withheld.
    #[error("{name} does not say how long the blob is")]
    LengthUnknown {
        /// Name of the source.
        name: Arc<str>,
    },
    /// The transfer was cut off more often than it is resumed, or the source stayed away.
    #[error("the transfer from {name} was cut off too often, or its source stayed away")]
    Broken {
        /// Name of the source.
        name: Arc<str>,
    },
    /// The greatest number of transfers runs already.
    #[error("too many blobs are being fetched; try again later")]
    Busy,
    /// The store could not be asked for the blob.
    #[error("failed to look up blob in the store")]
    Store(#[source] Arc<StoreError>),
    /// The staged bytes cannot be read.
    #[error("failed to read staged blob")]
    Staged(#[source] Arc<io::Error>),
    /// The store has not taken the fetched blob.
    #[error("failed to store fetched blob")]
    Unpublished(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The blob is passed through to each client, and not stored: it is too long, or cannot be staged.
    #[error("the blob is too long for the store, or cannot be staged; it is not stored")]
    Unstored,
    /// The process ends, or a fault of this program has ended the fetch.
    #[error("the fetch was interrupted")]
    Interrupted,
}

/// Differences between the content that was asked for and an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// The bytes have another digest.
    Digest,
    /// The headers name another digest.
    DigestHeader,
    /// The headers name another length.
    LengthHeader,
    /// The bytes end too early.
    Short,
    /// There are more bytes.
    Long,
    /// The bytes are encoded, though no encoding was asked for.
    Encoded,
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digest => "the bytes have another digest",
            Self::DigestHeader => "the headers name another digest",
            Self::LengthHeader => "the headers name another length",
            Self::Short => "the bytes end too early",
            Self::Long => "there are more bytes than expected",
            Self::Encoded => "the bytes have a Content-Encoding",
        })
    }
}
