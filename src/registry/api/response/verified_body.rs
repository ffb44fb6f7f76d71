//! Body that is hashed on its way to the client, and cut off before its last bytes if it does not have its digest.
//!
//! Content that another machine holds is not hashed before it is sent: that would transfer all of it twice.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use quinistry_oci::{Digest, Hasher};
use quinistry_store::Store;

pub(super) struct VerifiedBody {
    inner: Body,
    /// Bytes that are still to come.
    left: u64,
    hasher: Option<Hasher>,
    digest: Digest,
    /// Store that hears of damage.
    store: Store,
}

impl VerifiedBody {
    /// Makes a body of `length` bytes of a store that must have a digest.
    pub(super) fn new(inner: Body, length: u64, digest: Digest, store: Store) -> Self {
        Self { inner, left: length, hasher: Some(Hasher::new(digest.algorithm())), digest, store }
    }

    /// Hashes the next bytes, and fails if they are the last ones and the whole does not have its digest.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left > 0 {
            return Ok(());
        }
        let found = self.hasher.take().map(Hasher::finish);
        if found.as_ref() == Some(&self.digest) {
            return Ok(());
        }
        tracing::error!(digest = %self.digest, "blob damaged, response cut off");
        self.store.suspect(&self.digest);
        Err(io::Error::new(io::ErrorKind::InvalidData, "the content does not have its digest"))
    }
}

impl http_body::Body for VerifiedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
            && let Err(error) = self.check(bytes)
        {
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use quinistry_store::Memory;

    use super::*;

    /// Reads a body, and returns true with the result if the store has heard of damage.
    async fn read(bytes: &'static [u8], digest: Digest) -> (Result<Bytes, axum::Error>, bool) {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let stream =
            futures_util::stream::iter(bytes.chunks(3).map(|chunk| Ok::<_, io::Error>(Bytes::from(chunk))));
        let body = VerifiedBody::new(Body::from_stream(stream), bytes.len() as u64, digest, store.clone());
        let read = body.collect().await.map(http_body_util::Collected::to_bytes);
        (read, store.suspected().now_or_never().is_some())
    }

    #[tokio::test]
    async fn only_content_that_has_its_digest_comes_to_its_end() {
        let bytes = b"a whole blob";
        let (whole, is_suspect) = read(bytes, Digest::sha256(bytes)).await;
        assert_eq!((&whole.unwrap()[..], is_suspect), (&bytes[..], false));
        let (wrong, is_suspect) = read(bytes, Digest::sha256(b"another blob")).await;
        assert!(wrong.is_err() && is_suspect);
    }
}
