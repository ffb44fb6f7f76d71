//! Places where the bytes of a fetch lie until they are stored.
//!
//! A storage in a folder or in memory stages the bytes itself: clients read what its receiver has, so that each byte is
//! written once. A bucket has nothing to read before an upload is complete. There the bytes go to a temporary file
//! without a name, and are uploaded from it once they are verified. Bounded memory would make the slowest client, or the
//! bucket, the speed of all; and bytes that no hash vouches for yet never leave this machine.

use std::fs::File;
use std::io::{self, Write as _};

use quinistry_oci::{Content, Digest, Hasher};
use quinistry_store::{Receiver, Store, StoreError};
use tokio::task::JoinError;

/// Writer of staged bytes.
#[derive(Debug)]
pub(crate) enum Staging {
    /// Receiver of the store, whose storage lets its bytes be read.
    Receiver(Box<Receiver>),
    /// Temporary file without a name, for storages that do not.
    File { file: File, hasher: Box<Hasher> },
}

/// Reasons why bytes are not staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StagingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to use a temporary file in {}", std::env::temp_dir().display())]
    File(#[from] io::Error),
    #[error("the work was interrupted")]
    Interrupted(#[from] JoinError),
}

impl Staging {
    /// Begins to stage `length` bytes, blocking, and returns the content of which clients read what was appended.
    pub(crate) fn begin(
        store: &Store,
        digest: &Digest,
        length: u64,
    ) -> Result<(Self, Content), StagingError> {
        let mut receiver = store.receive(digest, Some(length))?;
        if let Some(tail) = receiver.tail(length)? {
            return Ok((Self::Receiver(Box::new(receiver)), tail));
        }
        let file = tempfile::tempfile()?;
        let content = Content::of_file(file.try_clone()?, length);
        Ok((Self::File { file, hasher: Box::new(Hasher::new(digest.algorithm())) }, content))
    }

    /// Appends bytes, which are not flushed. Blocks.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StagingError> {
        match self {
            Self::Receiver(receiver) => receiver.append(bytes)?,
            Self::File { file, hasher } => {
                file.write_all(bytes)?;
                hasher.update(bytes);
            }
        }
        Ok(())
    }

    /// Returns true if the appended bytes have the digest. May block.
    pub(crate) fn has(&mut self, digest: &Digest) -> Result<bool, StagingError> {
        Ok(match self {
            Self::Receiver(receiver) => receiver.digest(digest.algorithm())? == *digest,
            Self::File { hasher, .. } => Hasher::clone(hasher).finish() == *digest,
        })
    }

    /// Returns the receiver of the store, which has all bytes.
    pub(crate) async fn into_receiver(
        self,
        store: &Store,
        digest: &Digest,
        staged: &Content,
    ) -> Result<Receiver, StagingError> {
        match self {
            Self::Receiver(receiver) => Ok(*receiver),
            Self::File { .. } => upload(store.clone(), digest.clone(), staged).await,
        }
    }
}

/// Gives staged bytes to a receiver of the store, chunk by chunk.
async fn upload(store: Store, digest: Digest, staged: &Content) -> Result<Receiver, StagingError> {
    let (length, mut chunks) = (staged.len(), staged.chunks());
    let mut receiver = blocking(move || store.receive(&digest, Some(length))).await??;
    loop {
        let chunk;
        (chunks, chunk) = blocking(move || {
            let chunk = chunks.next();
            (chunks, chunk)
        })
        .await?;
        let Some(chunk) = chunk.transpose()? else { return Ok(receiver) };
        if let Some(room) = receiver.room(chunk.len()) {
            room.await.map_err(StoreError::from)?;
        }
        receiver = blocking(move || receiver.append(&chunk).map(|()| receiver)).await??;
    }
}

/// Does work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // A thread that panicked has said so; one that was cancelled belongs to a process that ends.
    tokio::task::spawn_blocking(work).await
}
